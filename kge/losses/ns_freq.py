"""Negative sampling with unigram noise.

    loss(row) = 1/2 [ - log sigmoid(s_pos + margin) - sum_j w_j log sigmoid(-(s_j + margin)) ]

Kamigaito & Hayashi, ACL 2021. Objective p_d(y|x) / p_d(y), normalised.

`noise: weighted` draws y_j uniformly with w_j = #y_j / |D|, as the paper's code does; `noise: sampled`
draws from the unigram with w_j = 1. Counts are those of the slot that is predicted.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from kge.config import require
from kge.losses.base import Rows, weighted_sum
from kge.losses.logistic import AbstractLogisticLoss


@final
class NSFreq(AbstractLogisticLoss):
    """Unigram negative sampling; the weights come with the negatives (kge.negatives)."""

    objective = "p_d/p_y"

    def __init__(self, *, margin: float = 0.0, noise: str = "weighted") -> None:
        require(noise in ("weighted", "sampled"), "loss.noise", "'weighted' or 'sampled'", noise)
        self.margin = margin
        self.noise = "weighted" if noise == "weighted" else "sampled"

    def terms(
        self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> tuple[Rows, Rows]:
        of_negatives = weighted_sum(logsigmoid(-(negative + self.margin)), weight)
        return -logsigmoid(positive + self.margin) / 2, -of_negatives / 2
