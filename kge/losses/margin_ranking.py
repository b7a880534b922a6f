"""Margin ranking: the true answer should score higher than each negative, by a margin.

    loss(row) = sum_j max(0, margin - s_pos + s_j)

Bordes, Usunier, Garcia-Duran, Weston, Yakhnenko: Translating Embeddings. NIPS 2013.

It compares scores of one query and nothing else, so its optimum is an order and no distribution: theory
offers it no partner.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor

from kge.config import require
from kge.losses.base import AbstractSamplingLoss, Rows, weighted_sum


@final
class MarginRanking(AbstractSamplingLoss):
    """Pairwise hinge loss, summed over the negatives of a row."""

    objective = "order"

    def __init__(self, *, margin: float = 1.0) -> None:
        require(margin > 0, "loss.margin", "> 0", margin)
        self.margin = margin

    def rows(self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None) -> Rows:
        return weighted_sum((self.margin - positive[:, None] + negative).relu(), weight)
