"""Known answers of a query, read from named splits: what a filtered rank leaves out.

Shapes  Q queries, P (query, known answer) pairs.
A filter never changes scores: ranking counts over all entities and then takes the known answers' share away.
A triple is one number of 64 bits, which bounds the graph: entities^2 x relations.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kge.data import Dataset, Side, Triples
from kge.errors import DataError

Ids = Int[Tensor, " Q"]
Pairs = tuple[Int[Tensor, " P"], Int[Tensor, " P"]]


def spans(starts: Ids, lengths: Ids) -> Pairs:
    """Row and position of everything in Q spans: `lengths[q]` positions from `starts[q]` on."""
    row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    first = starts - (lengths.cumsum(0) - lengths)
    return row, torch.arange(len(row), device=row.device) + first[row]


class _SideIndex:
    """CSR: sorted distinct query keys, and the sorted distinct answers of each."""

    def __init__(self, triples: Triples, side: Side, num_entities: int, num_relations: int) -> None:
        self._relations = num_relations
        self._entities = num_entities
        packed = torch.unique(side.queries(triples, num_relations) * num_entities + side.answers(triples))
        self._packed = packed
        self._answers = packed % num_entities
        self._keys, counts = torch.unique_consecutive(packed // num_entities, return_counts=True)
        self._offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def pairs(self, anchors: Ids, relations: Ids) -> Pairs:
        keys = anchors * self._relations + relations
        slots = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        starts = self._offsets[slots]
        lengths = (self._offsets[slots + 1] - starts) * (self._keys[slots] == keys)
        rows, positions = spans(starts, lengths)
        return rows, self._answers[positions]

    def contains(self, anchors: Ids, relations: Ids, candidates: Int[Tensor, "Q K"]) -> Bool[Tensor, "Q K"]:
        packed = (anchors * self._relations + relations)[:, None] * self._entities + candidates
        slots = torch.searchsorted(self._packed, packed).clamp(max=len(self._packed) - 1)
        return torch.eq(self._packed[slots], packed)


class FilterIndex:
    """Known answers of every query of both sides; duplicate triples change nothing."""

    def __init__(self, triples: Triples, *, num_entities: int, num_relations: int) -> None:
        if num_entities**2 * num_relations > torch.iinfo(torch.int64).max:
            came = f"{num_entities:,} entities, {num_relations:,} relations"
            raise DataError(f"graph: entities^2 x relations must be below 2^63 to index its triples, got {came}")
        self._sides = {side: _SideIndex(triples, side, num_entities, num_relations) for side in Side}

    def pairs(self, side: Side, anchors: Ids, relations: Ids) -> Pairs:
        """All (position of the query, known answer), sorted by position."""
        return self._sides[side].pairs(anchors, relations)

    def contains(self, side: Side, anchors: Ids, relations: Ids, candidates: Int[Tensor, "Q K"]) -> Bool[Tensor, "Q K"]:
        """Which candidates of each query are known answers."""
        return self._sides[side].contains(anchors, relations, candidates)


def filter_from(dataset: Dataset, splits: Sequence[str], device: str = "cpu") -> FilterIndex:
    """Index of the named splits; DataError when one of them is sealed."""
    triples = torch.cat([dataset.split(split) for split in splits]).to(device)
    return FilterIndex(triples, num_entities=dataset.num_entities, num_relations=dataset.num_relations)
