"""Triplet-adaptive negative sampling: self-adversarial in the negatives, and in the queries too.

    loss(row) = q_x times the one of sans
          q_x ~ (sum over the answers y of x of exp s(x,y)) ^ query_temperature, a constant to the gradient

Feng, Kamigaito, Hayashi, Watanabe: Unified Interpretation of Smoothing Methods for Negative Sampling Loss
Functions in Knowledge Graph Embedding. 2024. https://arxiv.org/abs/2407.04251

A query_temperature below 0 weighs up the queries whose answers the model scores low. As in the authors' code,
the power is that of the sum (0 is sans), and sum and normaliser are taken within the batch, side by side; the
mean of q_x there is 1. Free scores reach what those of sans reach, because q_x scales both terms of a query.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor

from kge.config import require
from kge.losses.base import Objective, Rows
from kge.losses.logistic import AbstractLogisticLoss, Subsampling
from kge.losses.sans import self_adversarial


@final
class TANS(AbstractLogisticLoss):
    """Self-adversarial negative sampling whose queries are weighed by `query_temperature` (0 is sans)."""

    objective: Objective = "smoothed"

    def __init__(
        self,
        *,
        margin: float = 0.0,
        temperature: float = 1.0,
        query_temperature: float = -0.5,
        subsampling: Subsampling = "none",
        alpha: float = 0.5,
    ) -> None:
        require(temperature >= 0, "loss.temperature", ">= 0", temperature)
        self.margin = margin
        self.temperature = temperature
        self.query_temperature = query_temperature
        if not temperature:
            self.objective = "p_d"
        self.use_subsampling(subsampling, alpha)

    def terms(
        self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> tuple[Rows, Rows]:
        return self_adversarial(positive + self.margin, negative + self.margin, weight, self.temperature)
