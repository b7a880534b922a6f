"""What every loss promises: one number per row, from scores alone.

Shapes  B rows, K negatives of a row, E entities.
A row is one query with one true answer: a training triple gives two rows, one for each side.
The trainer sums rows and divides by the number of triples, so cutting a batch never changes the value.

`objective` names the distribution that free scores reach at the optimum (losses.md section 1.1). Losses
with the same objective may be compared; others answer different questions.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Objective = Literal["p_d", "p_d/p_y", "smoothed"]
Noise = Literal["uniform", "weighted", "sampled"]


class AbstractLoss(ABC):
    """A loss, its objective distribution and the training types it can be used with, default first."""

    objective: ClassVar[Objective]
    training_types: ClassVar[tuple[str, ...]]


class AbstractSamplingLoss(AbstractLoss):
    """Losses that see the true answer and K sampled negatives of each query."""

    training_types = ("negative_sampling",)
    noise: Noise = "uniform"

    @abstractmethod
    def rows(
        self, positive: Float[Tensor, " B"], negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> Float[Tensor, " B"]:
        """Loss of each row; `weight` scales negatives (0 leaves one out), None counts each once."""


class AbstractSoftmaxLoss(AbstractLoss):
    """Cross-entropies over all entities, smoothed by `smoothing` and weighted by query and answer counts."""

    training_types = ("one_vs_all",)
    smoothing: float = 0.0  # mass spread over the E - 1 other entities

    @abstractmethod
    def row_weight(self, queries: Int[Tensor, " B"], answers: Int[Tensor, " B"]) -> Float[Tensor, " B"] | None:
        """Weight of each row from #x and #y in train, or None for 1."""

    def rows(self, scores: Float[Tensor, "B E"], target: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Unweighted loss of each row: -(1 - s) log p(y) - s / (E - 1) sum over y' != y of log p(y')."""
        log_p = scores.log_softmax(dim=1)
        true = log_p.gather(1, target[:, None]).squeeze(1)
        if self.smoothing == 0:
            return -true
        spread = self.smoothing / (scores.shape[1] - 1)
        return -(1 - self.smoothing) * true - spread * (log_p.sum(dim=1) - true)


def weighted_sum(terms: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None) -> Float[Tensor, " B"]:
    """Sum over the negatives of a row, each times its weight."""
    return terms.sum(dim=1) if weight is None else torch.einsum("bk,bk->b", terms, weight)
