"""Self-adversarial negative sampling.

    loss(row) = 1/2 [ - log sigmoid(s_pos + margin) - sum_j w_j log sigmoid(-(s_j + margin)) ]
          w_j = softmax_j(temperature * s_j), a constant to the gradient

Sun, Deng, Nie, Tang: RotatE. ICLR 2019. https://openreview.net/forum?id=HkgEQnRqYQ
The paper writes margin - distance; a score is -distance here.
Objective: between p_d and its tempered form p_d^(1/(1+temperature)); "smoothed" (losses.md section 1.3).
"""

from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from kge.config import require
from kge.losses.base import AbstractSamplingLoss


@final
class SANS(AbstractSamplingLoss):
    """Self-adversarial negative sampling; `temperature` sharpens the weights towards hard negatives."""

    objective = "smoothed"

    def __init__(self, *, margin: float = 0.0, temperature: float = 1.0) -> None:
        require(temperature >= 0, "loss.temperature", ">= 0", temperature)
        self.margin = margin
        self.temperature = temperature

    def rows(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> Float[Tensor, " B"]:
        hardness = self.temperature * negative.detach()
        if weight is not None:
            hardness = hardness + weight.log()
        # A row whose negatives were all left out has no distribution: its weights are NaN, and mean 0.
        adversarial = hardness.softmax(dim=1).nan_to_num(nan=0.0)
        noise = (adversarial * logsigmoid(-(negative + self.margin))).sum(dim=1)
        return -(logsigmoid(positive + self.margin) + noise) / 2
