"""k_vs_all: a row is a distinct query of train, of either side, with all its answers.

Shapes  Q distinct queries of both sides, head queries first; A pairs of a query and one of its answers.

    loss(batch) = (2 / B) sum over rows of  w_x loss(row)
    w_x = v_x / (mean of n over all queries)   `answers`: a query counts as often as train asks it, as in one_vs_all
    w_x = 1                                    `equal`

n_x is the number of triples that ask x, and v_x the sum of what the loss lets them weigh: n_x for most losses. The
shares of the answers have the same weights. A triple has two queries: hence the 2. With `answers` the expected batch
gradient of a softmax loss is that of one_vs_all, and so is the value of a whole epoch at fixed parameters. The two
queries of a triple are no longer in one batch: this is its own training type and no faster form of one_vs_all.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.batches.base import AbstractTrainingType, Positions, moved, queries
from kge.batches.block import Block, row_weights
from kge.data import Dataset, Side, Triples
from kge.filters import spans
from kge.frequencies import Frequencies
from kge.losses.base import Answers, QueryWeight
from kge.models.base import AbstractModel


class _Queries:
    """The distinct queries of one side, with their answers in order."""

    def __init__(self, dataset: Dataset, side: Side, device: str, weight: Float[Tensor, " N"]) -> None:
        train, entities, relations = dataset.train.to(device), dataset.num_entities, dataset.num_relations
        queries = side.queries(train, relations)
        pairs, pair = torch.unique(queries * entities + side.answers(train), return_inverse=True)
        keys, query, self.answers = torch.unique_consecutive(pairs // entities, return_inverse=True, return_counts=True)
        mass = weight.new_zeros(len(pairs)).index_add(0, pair, weight)
        self.side = side
        self.anchor, self.relation = keys // relations, keys % relations
        self.mass = weight.new_zeros(len(keys)).index_add(0, query, mass)  # v
        self.entity = pairs % entities
        self.share = mass / self.mass[query]
        self.times = torch.bincount(pair)  # that train has the triple
        self.triples = torch.zeros_like(keys).index_add(0, query, self.times)

    def __len__(self) -> int:
        return len(self.anchor)


@final
class KVsAll(AbstractTrainingType):
    """Each distinct query against all entities, once per epoch."""

    def __init__(
        self, *, dataset: Dataset, frequencies: Frequencies, block: Block, query_weight: QueryWeight, device: str
    ) -> None:
        self._block = block
        ones = torch.ones(len(dataset.train), device=device)
        weights = row_weights(block.loss, dataset.train.to(device), frequencies) or dict.fromkeys(Side, ones)
        self._sides = [_Queries(dataset, side, device, weights[side]) for side in Side]
        self._heads = len(self._sides[0])
        self.size = sum(len(each) for each in self._sides)
        self._anchor, self._relation, mass, self._length, self._entity, self._share, self._times, self._count = (
            torch.cat([getattr(each, name) for each in self._sides])
            for name in ("anchor", "relation", "mass", "answers", "entity", "share", "times", "triples")
        )
        self._device, self._length, self._count = self._length.device, self._length.cpu(), self._count.cpu()
        self._first = self._length.cumsum(0) - self._length
        self.triples_per_row = 2 * len(dataset.train) / self.size
        self._weight = mass * self.size / (2 * len(dataset.train)) if query_weight == "answers" else None

    def backward(self, model: AbstractModel, rows: Positions) -> Float[Tensor, ""]:
        by_side = self._by_side(rows)
        query = queries(model, [self._queries(side, part) for side, part in by_side if len(part)])
        order = torch.cat([part for _, part in by_side])
        row, pair = self._pairs(order)
        answers = Answers(row=row, entity=self._entity[pair], share=self._share[pair], counts=self._length[order])
        weight = None if self._weight is None else self._weight[moved(order, self._device)]
        return self._block.backward(model, query, answers, weight, 2 / len(rows))

    def numbers(self, model: AbstractModel, rows: int) -> None:
        return None

    def triples(self, rows: Positions) -> Triples:
        return torch.cat([self._triples(side, part) for side, part in self._by_side(rows)])

    def generators(self) -> dict[str, torch.Generator]:
        return {}

    def _queries(self, side: Side, rows: Positions) -> tuple[Side, Tensor, Tensor]:
        rows = moved(rows, self._device)
        return side, self._anchor[rows], self._relation[rows]

    def _by_side(self, rows: Positions) -> list[tuple[Side, Tensor]]:
        heads = rows < self._heads
        return [(Side.HEAD, rows[heads]), (Side.TAIL, rows[~heads])]

    def _pairs(self, rows: Positions) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        """For each answer of each row: the row's place in the batch, and the answer's among all pairs."""
        row, pair = spans(self._first[rows], self._length[rows])
        return moved(row, self._device), moved(pair, self._device)

    def _triples(self, side: Side, positions: Positions) -> Triples:
        row, pair = self._pairs(positions)
        rows = moved(positions, self._device)
        anchor, relation, answer = self._anchor[rows][row], self._relation[rows][row], self._entity[pair]
        columns = (anchor, relation, answer) if side is Side.TAIL else (answer, relation, anchor)
        times, count = self._times[pair], int(self._count[positions].sum())
        return torch.stack(columns, dim=1).repeat_interleave(times, dim=0, output_size=count)
