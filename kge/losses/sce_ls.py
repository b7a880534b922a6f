"""Softmax cross-entropy with label smoothing.

    loss(row) = - (1 - s) log p(y|x) - s / (E - 1) sum over y' != y of log p(y'|x)

Kamigaito & Hayashi, ACL 2021. Objective (1 - s') p_d(y|x) + s' / E with s' = s E / (E - 1): the mass is
spread over the E - 1 other entities, not over all E.
"""

from typing import final

from jaxtyping import Int
from torch import Tensor

from kge.config import require
from kge.losses.base import AbstractSoftmaxLoss, Objective


@final
class SCELabelSmoothing(AbstractSoftmaxLoss):
    """Softmax cross-entropy with `smoothing` of the mass on the other entities."""

    objective: Objective = "smoothed"

    def __init__(self, *, smoothing: float = 0.1) -> None:
        require(0 <= smoothing < 1, "loss.smoothing", "in [0, 1)", smoothing)
        self.smoothing = smoothing
        if not smoothing:
            self.objective = "p_d"

    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> None:
        return None
