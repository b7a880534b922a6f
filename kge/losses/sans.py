"""Self-adversarial negative sampling.

    loss(row) = 1/2 [ - log sigmoid(s_pos + margin) - sum_j w_j log sigmoid(-(s_j + margin)) ]
          w_j = softmax_j(temperature * s_j), a constant to the gradient

Sun, Deng, Nie, Tang: RotatE. ICLR 2019. https://openreview.net/forum?id=HkgEQnRqYQ
The paper writes margin - distance; a score is -distance here.
Objective: between p_d and its tempered form p_d^(1/(1+temperature)); "smoothed" (tests/kge/test_theory.py). With
one_vs_all all other entities are negatives, and it lies between the odds of p_d and their tempered form. With
`temperature` 0 it is p_d, or the odds.
`subsampling` and `alpha`: kge.losses.logistic.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from kge.config import require
from kge.losses.base import Objective, Rows
from kge.losses.logistic import AbstractLogisticLoss, Subsampling


@final
class SANS(AbstractLogisticLoss):
    """Self-adversarial negative sampling; `temperature` sharpens the weights towards hard negatives."""

    training_types = ("negative_sampling", "one_vs_all")
    objective: Objective = "smoothed"
    objectives: Mapping[str, Objective] = MappingProxyType({"one_vs_all": "smoothed odds"})

    def __init__(
        self,
        *,
        margin: float = 0.0,
        temperature: float = 1.0,
        subsampling: Subsampling = "none",
        alpha: float = 0.5,
    ) -> None:
        require(temperature >= 0, "loss.temperature", ">= 0", temperature)
        self.margin = margin
        self.temperature = temperature
        if not temperature:  # negatives weigh alike, as in ns
            self.objective, self.objectives = "p_d", MappingProxyType({"one_vs_all": "odds"})
        self.use_subsampling(subsampling, alpha)

    def terms(
        self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> tuple[Rows, Rows]:
        return self_adversarial(positive + self.margin, negative + self.margin, weight, self.temperature)


def self_adversarial(
    positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None, temperature: float
) -> tuple[Rows, Rows]:
    """Both terms of scores that hold the margin already; a shift of all negatives changes no weight of theirs."""
    hardness = temperature * negative.detach()
    if weight is not None:
        hardness = hardness + weight.log()
    # A row whose negatives were all left out has no distribution: its weights are NaN, and mean 0.
    adversarial = hardness.softmax(dim=1).nan_to_num(nan=0.0)
    of_negatives = (adversarial * logsigmoid(-negative)).sum(dim=1)
    return -logsigmoid(positive) / 2, -of_negatives / 2
