"""Binary cross-entropy over all entities: every entity is an answer or is not.

    loss(row) = sum_j - l_j log sigmoid(s_j + margin) - (1 - l_j) log sigmoid(-(s_j + margin))

    one_vs_all   l_j = 1 for the row's one answer     sigmoid(s + margin) reaches p_d(y|x): the odds p_d / (1 - p_d)
    k_vs_all     l_j = 1 for all answers of the query  sigmoid(s + margin) reaches l_j: the same for all answers

Dettmers et al. (ConvE), AAAI 2018. `smoothing` s > 0 takes (1 - s) l_j + 1 / E as labels, as that paper does
(below s = 1 / E the label of an answer would exceed 1, and the loss have no minimum: refused). The optimum is then
sigmoid(s + margin) = (1 - s) p_d(y|x) + 1 / E or (1 - s) l_j + 1 / E.
The labels are never made: what they add to sum_j softplus(s_j + margin) is linear in the scores of the answers
and in their total.
"""

from types import MappingProxyType
from typing import final

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from kge.config import require
from kge.losses.base import AbstractBlockLoss, Answers, Objective, Rows, answer_sum


@final
class BCE(AbstractBlockLoss):
    """Binary cross-entropy; `margin` shifts all scores, `smoothing` softens the labels."""

    objective: Objective = "odds"
    objectives = MappingProxyType({"k_vs_all": "answers"})
    query_weight = "equal"

    def __init__(self, *, margin: float = 0.0, smoothing: float = 0.0) -> None:
        require(0 <= smoothing < 1, "loss.smoothing", "in [0, 1)", smoothing)
        self.margin = margin
        self.smoothing = smoothing
        if smoothing:
            self.objective = "smoothed odds"

    def check_size(self, num_entities: int) -> None:
        has_labels = self.smoothing == 0 or self.smoothing * num_entities >= 1
        must = f"0 or at least 1 / {num_entities} (the number of entities)"
        require(has_labels, "loss.smoothing", must, self.smoothing)

    def rows(self, scores: Float[Tensor, "B E"], target: Int[Tensor, " B"]) -> Rows:
        shifted = scores + self.margin
        return self._labelled(shifted, shifted.gather(1, target[:, None]).squeeze(1))

    def answer_rows(self, scores: Float[Tensor, "B E"], answers: Answers) -> Rows:
        shifted = scores + self.margin
        return self._labelled(shifted, answer_sum(shifted, answers, None))

    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> None:
        return None

    def _labelled(self, shifted: Float[Tensor, "B E"], answer: Rows) -> Rows:
        loss = softplus(shifted).sum(dim=1) - (1 - self.smoothing) * answer
        return loss - shifted.mean(dim=1) if self.smoothing else loss
