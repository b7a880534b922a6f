"""Negative sampling with uniform noise.

    sum:   loss(row) = - log sigmoid(s_pos + margin) - sum_j log sigmoid(-(s_j + margin))
    mean:  loss(row) = 1/2 [ - log sigmoid(s_pos + margin) - 1/K sum_j log sigmoid(-(s_j + margin)) ]

Sum: Mikolov et al., NIPS 2013, and Kamigaito & Hayashi, ACL 2021. Mean: Sun et al. (RotatE), ICLR 2019.
Objective p_d(y|x) in both forms and for any K: the optimal score is log(p_d E / K) - margin (sum). With
one_vs_all all other entities are negatives, and it is the odds p_d / (1 - p_d), normalised (sum).
`subsampling` and `alpha`: kge.losses.logistic.
"""

from types import MappingProxyType
from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from kge.config import require
from kge.losses.base import Rows, weighted_sum
from kge.losses.logistic import AbstractLogisticLoss, Subsampling


@final
class NS(AbstractLogisticLoss):
    """Negative sampling; `margin` shifts all scores, `normalize` is the sum or the mean over negatives."""

    training_types = ("negative_sampling", "one_vs_all")
    objective = "p_d"
    objectives = MappingProxyType({"one_vs_all": "odds"})

    def __init__(
        self, *, margin: float = 0.0, normalize: str = "sum", subsampling: Subsampling = "none", alpha: float = 0.5
    ) -> None:
        require(normalize in ("sum", "mean"), "loss.normalize", "'sum' or 'mean'", normalize)
        self.margin = margin
        self.normalize = normalize
        self.use_subsampling(subsampling, alpha)

    def terms(
        self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> tuple[Rows, Rows]:
        of_positive = -logsigmoid(positive + self.margin)
        of_negatives = -weighted_sum(logsigmoid(-(negative + self.margin)), weight)
        if self.normalize == "sum":
            return of_positive, of_negatives
        return of_positive / 2, of_negatives / (2 * max(1, negative.shape[1]))
