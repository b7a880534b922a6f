"""What every loss promises: one number per row, from scores alone.

Shapes  B rows, K negatives of a row, E entities, P pairs of a row and one of its answers.
A row is one query with one true answer (a training triple gives two rows, one for each side), or one query
with all its true answers. The trainer makes the mean, so cutting a batch never changes the value.

`objective` names the distribution that free scores reach at the optimum (tests/kge/test_theory.py). Losses
with the same objective may be compared; others answer different questions.

    p_d              p(y|x) of train                                         ns, sce
    p_d/p_y          p(y|x) / p(y), normalised                               ns_freq, sce_bc
    smoothed         p(y|x), flattened                                       sans, tans, sce_ls
    weighted         p(y|x) w(y), normalised                                 sce_cw
    subsampled       p(y|x) #(x,y)^-alpha, normalised                        ns with subsampling base or freq
    subsampled, smoothed    the same, flattened                              sans, tans with subsampling base or freq
    odds             p(y|x) / (1 - p(y|x)), normalised                       bce and ns over all entities
    smoothed odds    the odds, flattened                                     sans and smoothed bce over all entities
    answers          the same for all seen answers, the same for all others  bce over the rows of k_vs_all
    unbounded        none: known answers rise without end                    sampling losses, known answers filtered
    order            none: answers above the others by a margin              margin_ranking
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Objective = Literal[
    "p_d",
    "p_d/p_y",
    "smoothed",
    "weighted",
    "subsampled",
    "subsampled, smoothed",
    "odds",
    "smoothed odds",
    "answers",
    "unbounded",
    "order",
]
Noise = Literal["uniform", "weighted", "sampled"]
QueryWeight = Literal["answers", "equal"]
Rows = Float[Tensor, " B"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The true answers of B queries as pairs, sorted by row."""

    row: Int[Tensor, " P"]
    entity: Int[Tensor, " P"]
    share: Float[Tensor, " P"]  # part of the query's rows in train, each by its weight: p_d(y|x) without weights
    counts: Int[Tensor, " B"]  # answers of each row: on the host, where a batch is cut


class AbstractLoss(ABC):
    """A loss, its objective distribution and the training types it can be used with, default first."""

    training_types: ClassVar[tuple[str, ...]]
    objective: Objective
    objectives: Mapping[str, Objective] = MappingProxyType({})  # of the training types where it is another one

    def objective_with(self, training_type: str, *, filtered: bool = False) -> Objective:
        """The objective distribution with the rows of a training type, and with `negatives.filtered`."""
        if filtered and training_type == "negative_sampling" and self.objective != "order":
            return "unbounded"
        return self.objectives.get(training_type, self.objective)

    def check_size(self, num_entities: int) -> None:  # noqa: B027 (most losses have nothing to refuse)
        """ConfigError where an option has no meaning with so many entities."""


class AbstractSamplingLoss(AbstractLoss):
    """Losses that see the true answer and K negatives of each query."""

    training_types: ClassVar[tuple[str, ...]] = ("negative_sampling",)
    noise: Noise = "uniform"

    @abstractmethod
    def rows(self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None) -> Rows:
        """Loss of each row; `weight` scales negatives (0 leaves one out), None counts each once."""


class AbstractBlockLoss(AbstractLoss):
    """Losses that see the scores of all entities."""

    training_types: ClassVar[tuple[str, ...]] = ("one_vs_all", "k_vs_all")
    query_weight: QueryWeight = "answers"  # what a query of k_vs_all weighs, unless the configuration says it

    @abstractmethod
    def rows(self, scores: Float[Tensor, "B E"], target: Int[Tensor, " B"]) -> Rows:
        """Unweighted loss of each row that has one true answer."""

    @abstractmethod
    def answer_rows(self, scores: Float[Tensor, "B E"], answers: Answers) -> Rows:
        """Unweighted loss of each row that has all its true answers."""

    @abstractmethod
    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"] | None:
        """Weights of all N rows that train has with one true answer, both sides; None for 1 each.

        Given for each row are #x, #y and how often y is in train on either side.
        """


class AbstractSoftmaxLoss(AbstractBlockLoss):
    """Cross-entropies of the softmax over all entities; a part of the mass is spread over wrong ones.

    With several answers a row is the mean of its one-answer rows, weighted by their shares: the cross-entropy
    to (1 - s - u) share_j + u, where u = s / (E - 1).
    """

    smoothing: float = 0.0  # s: mass spread over the E - 1 other entities

    def rows(self, scores: Float[Tensor, "B E"], target: Int[Tensor, " B"]) -> Rows:
        """Unweighted loss of each row: -(1 - s) log p(y) - s / (E - 1) sum over y' != y of log p(y')."""
        log_p = scores.log_softmax(dim=1)
        return self._smoothed(log_p, log_p.gather(1, target[:, None]).squeeze(1))

    def answer_rows(self, scores: Float[Tensor, "B E"], answers: Answers) -> Rows:
        """The same for the shares of all answers."""
        log_p = scores.log_softmax(dim=1)
        return self._smoothed(log_p, answer_sum(log_p, answers, answers.share))

    def _smoothed(self, log_p: Float[Tensor, "B E"], answer: Rows) -> Rows:
        if self.smoothing == 0:
            return -answer
        spread = self.smoothing / max(1, log_p.shape[1] - 1)
        return -(1 - self.smoothing) * answer - spread * (log_p.sum(dim=1) - answer)


def answer_sum(values: Float[Tensor, "B E"], answers: Answers, weight: Float[Tensor, " P"] | None) -> Rows:
    """Sum over the answers of each row, each times its weight."""
    picked = values[answers.row, answers.entity]
    return values.new_zeros(len(values)).index_add(0, answers.row, picked if weight is None else picked * weight)


def weighted_sum(terms: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None) -> Rows:
    """Sum over the negatives of a row, each times its weight."""
    return terms.sum(dim=1) if weight is None else torch.einsum("bk,bk->b", terms, weight)
