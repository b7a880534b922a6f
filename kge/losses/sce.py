"""Softmax cross-entropy over all entities.

    loss(row) = - log p(y|x),    p(.|x) = softmax over all entities

Objective p_d(y|x). Other true answers of the query are not masked: they act as negatives, and this is
what makes the optimum p_d.
"""

from typing import final

from jaxtyping import Int
from torch import Tensor

from kge.losses.base import AbstractSoftmaxLoss


@final
class SCE(AbstractSoftmaxLoss):
    """Softmax cross-entropy."""

    objective = "p_d"

    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> None:
        return None
