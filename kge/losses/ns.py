"""Negative sampling with uniform noise.

    sum:   loss(row) = - log sigmoid(s_pos + margin) - sum_j log sigmoid(-(s_j + margin))
    mean:  loss(row) = 1/2 [ - log sigmoid(s_pos + margin) - 1/K sum_j log sigmoid(-(s_j + margin)) ]

Sum: Mikolov et al., NIPS 2013, and Kamigaito & Hayashi, ACL 2021. Mean: Sun et al. (RotatE), ICLR 2019.
Objective p_d(y|x) in both forms and for any K: the optimal score is log(p_d E / K) - margin (sum).
"""

from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from kge.config import require
from kge.losses.base import AbstractSamplingLoss, weighted_sum


@final
class NS(AbstractSamplingLoss):
    """Negative sampling; `margin` shifts all scores, `normalize` is the sum or the mean over negatives."""

    objective = "p_d"

    def __init__(self, *, margin: float = 0.0, normalize: str = "sum") -> None:
        require(normalize in ("sum", "mean"), "loss.normalize", "'sum' or 'mean'", normalize)
        self.margin = margin
        self.normalize = normalize

    def rows(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> Float[Tensor, " B"]:
        true = logsigmoid(positive + self.margin)
        noise = weighted_sum(logsigmoid(-(negative + self.margin)), weight)
        if self.normalize == "sum":
            return -true - noise
        return -(true + noise / negative.shape[1]) / 2
