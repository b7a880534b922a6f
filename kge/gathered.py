"""Scores of queries with candidates of their own, and the gradients that come back through them.

    score(b, k) = compare(query_b, table_ids(b,k))

Where a compiled loop knows the model's comparison, no vector is made for a pair: rows of the table are read
where they are, and gradients are added where they belong. Elsewhere the vectors of all pairs are gathered and
the model compares them.

Shapes  B queries, K ids of each, D numbers a vector, E rows of the table.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding

from kge.models.base import AbstractModel, Comparison
from kge.native import can_run, over_rows

Ids = Int[Tensor, "B K"]
Scores = Float[Tensor, "B K"]


class AbstractPairs(ABC):
    """Queries and the rows of a table that they are compared with."""

    scores: Scores  # detached

    @abstractmethod
    def add_gradients(self, of_scores: Scores, of_query: Float[Tensor, "B D"], of_table: Float[Tensor, "E D"]) -> None:
        """Add the gradients of queries and table to what is there, from that of the scores."""


def compared(model: AbstractModel, query: Float[Tensor, "B D"], table: Float[Tensor, "E D"], ids: Ids) -> AbstractPairs:
    """Compare each query with its ids' rows of the table; nothing flows back but by `add_gradients`."""
    query = query.detach().contiguous()
    if model.fused and model.comparison is not None and can_run(query, table, ids):
        return _InPlace(model.comparison, query, table, ids)
    return _Copied(model, query, table, ids)


@final
class _Copied(AbstractPairs):
    """By autograd, through a copy of every row that an id names."""

    def __init__(self, model: AbstractModel, query: Tensor, table: Tensor, ids: Tensor) -> None:
        self._ids = ids
        self._leaves = (query.requires_grad_(), embedding(ids, table).requires_grad_())
        self._scores = model.compare(*self._leaves)
        self.scores = self._scores.detach()

    def add_gradients(self, of_scores: Scores, of_query: Float[Tensor, "B D"], of_table: Float[Tensor, "E D"]) -> None:
        query, vectors = torch.autograd.grad(self._scores, self._leaves, of_scores)
        of_query += query
        of_table.index_add_(0, self._ids.flatten(), vectors.flatten(0, 1))


@final
class _InPlace(AbstractPairs):
    """By compiled loops over the table itself."""

    def __init__(self, comparison: Comparison, query: Tensor, table: Tensor, ids: Tensor) -> None:
        from kge.native import gathered  # noqa: PLC0415 (numba is not needed to start)

        self._loops = gathered
        self._comparison = comparison
        self._order = gathered.by_id(ids.numpy(), len(table))
        self._inputs = (gathered.KINDS[comparison], query.numpy(), table.numpy(), self._order)
        self.scores = query.new_empty(ids.shape)
        over_rows(gathered.scores, len(self._order), *self._inputs, self.scores.numpy())

    def add_gradients(self, of_scores: Scores, of_query: Float[Tensor, "B D"], of_table: Float[Tensor, "E D"]) -> None:
        inputs = (*self._inputs, self._factors(of_scores).contiguous().numpy())
        over_rows(self._loops.add_to_queries, len(of_query), *inputs, of_query.numpy())
        over_rows(self._loops.add_to_table, len(self._order), *inputs, of_table.numpy())

    def _factors(self, of_scores: Scores) -> Scores:
        """What a pair adds to its gradients is this times a direction; a distance is the score's negative."""
        match self._comparison:
            case "product":
                return of_scores
            case "l1" | "moduli":
                return -of_scores
            case "l2":
                return torch.where(self.scores == 0, 0.0, of_scores / self.scores)
