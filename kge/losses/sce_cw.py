"""Softmax cross-entropy with class weights: an answer counts the more, the more triples of train it is in.

    loss(row) = - w_y log p(y|x),    w_y ~ floor + (1 - floor) degree(y) / (largest degree)

with a mean of 1 over the rows of train. Zhang et al. (NeurIPS 2020) train WN18RR in this way, by their published
commands; they make the mean 1 within each batch. Objective p_d(y|x) w_y, normalised.
"""

from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from kge.config import require
from kge.losses.base import AbstractSoftmaxLoss, Objective


@final
class SCEClassWeights(AbstractSoftmaxLoss):
    """Softmax cross-entropy weighted by the degree of the answer; `floor` is the share that all answers have alike."""

    objective: Objective = "weighted"

    def __init__(self, *, floor: float = 0.1) -> None:
        require(0 <= floor <= 1, "loss.floor", "in [0, 1]", floor)
        self.floor = floor
        if floor == 1:
            self.objective = "p_d"

    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        weights = self.floor + (1 - self.floor) * degrees / degrees.max()
        return weights / weights.mean()
