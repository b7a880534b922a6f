"""A sampling loss whose negatives are all entities but the answer: one_vs_all instead of sampling.

The published TuckER settings of Kamigaito & Hayashi (ACL 2021) train "NS" and "SANS" in this way. Each of the
E - 1 other entities is a negative of weight 1, and the other true answers of the query are among them.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.losses.base import AbstractBlockLoss, AbstractSamplingLoss, Answers, Rows


@final
class AgainstAll(AbstractBlockLoss):
    """The rows of a sampling loss over the scores of all entities."""

    training_types = ("one_vs_all",)

    def __init__(self, loss: AbstractSamplingLoss) -> None:
        self.objective = loss.objective_with("one_vs_all")
        self._loss = loss

    def rows(self, scores: Float[Tensor, "B E"], target: Int[Tensor, " B"]) -> Rows:
        others = torch.arange(scores.shape[1] - 1, device=scores.device).expand(len(scores), -1)
        negative = scores.gather(1, others + (others >= target[:, None]))
        return self._loss.rows(scores.gather(1, target[:, None]).squeeze(1), negative, None)

    def answer_rows(self, scores: Float[Tensor, "B E"], answers: Answers) -> Rows:
        raise AssertionError("a row of one_vs_all has one answer")

    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> None:
        return None
