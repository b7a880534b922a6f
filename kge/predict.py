"""Answers of queries by name, best first.

Known answers (of train and valid, and of test when it is not sealed) are marked, because a prediction is
interesting where it is new; `new_only` leaves them out. Queries are answered in blocks, so that memory is
bounded however many there are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from kge.data import SPLITS, Dataset, Side
from kge.filters import FilterIndex, filter_from
from kge.labels import NO_LABELS, Labels, Vocabulary
from kge.models.base import AbstractModel
from kge.precision import products

_SCORED = 16 * 2**20  # scores held at once


@dataclass(frozen=True, kw_only=True)
class Query:
    """(anchor, relation, ?) when the tail is asked for, (?, relation, anchor) when the head is."""

    side: Side
    anchor: str  # id of an entity
    relation: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One predicted entity of a query."""

    entity: str
    label: str | None
    score: float
    known: bool


class Predictor:
    """A model and the names of its graph: resolves what is asked, answers what is resolved."""

    def __init__(self, model: AbstractModel, dataset: Dataset, labels: Labels = NO_LABELS) -> None:
        self._model = model.eval()
        self._dataset = dataset
        self._device = str(model.entities.device)
        self.entities = Vocabulary("entity", dataset.entities, labels.entities)
        self.relations = Vocabulary("relation", dataset.relations, labels.relations)

    def query(self, side: Side, anchor: str, relation: str) -> Query:
        """The query of an entity and a relation, each an id or a label; DataError for an unknown name."""
        entity = self._dataset.entities[self.entities.position(anchor)]
        return Query(side=side, anchor=entity, relation=self._dataset.relations[self.relations.position(relation)])

    def answers(self, queries: Sequence[Query], *, top: int, new_only: bool = False) -> Iterator[tuple[Answer, ...]]:
        """The `top` best answers of each query, in the order of the queries."""
        size = max(1, _SCORED // self._dataset.num_entities)
        for first in range(0, len(queries), size):
            block = queries[first : first + size]
            found = {side: self._answer(side, block, top=top, new_only=new_only) for side in Side}
            yield from (next(found[query.side]) for query in block)

    def has_seen(self, query: Query) -> bool:
        """Whether training has met its entity and its relation."""
        return (
            self._seen[0][self.entities.position(query.anchor)]
            and self._seen[1][self.relations.position(query.relation)]
        )

    @cached_property
    def _seen(self) -> tuple[list[bool], list[bool]]:
        """Of entities and relations, whether a triple of train has them."""
        entities = torch.zeros(self._dataset.num_entities, dtype=torch.bool)
        relations = torch.zeros(self._dataset.num_relations, dtype=torch.bool)
        entities[self._dataset.train[:, [0, 2]]] = True
        relations[self._dataset.train[:, 1]] = True
        return entities.tolist(), relations.tolist()

    @cached_property
    def _known(self) -> FilterIndex:
        splits = [split for split in SPLITS if getattr(self._dataset, split) is not None]
        return filter_from(self._dataset, splits, self._device)

    def _answer(self, side: Side, block: Sequence[Query], *, top: int, new_only: bool) -> Iterator[tuple[Answer, ...]]:
        """Answers of those queries of a block that ask for this side."""
        mine = [query for query in block if query.side is side]
        if not mine:
            return
        anchors = torch.tensor([self.entities.position(query.anchor) for query in mine], device=self._device)
        relations = torch.tensor([self.relations.position(query.relation) for query in mine], device=self._device)
        with torch.no_grad(), products(tf32=False):
            scores = self._model.score(side, anchors, relations).float()
        if new_only:
            scores[self._known.pairs(side, anchors, relations)] = float("-inf")
        best = scores.topk(min(top, scores.shape[1]), dim=1)
        is_known = self._known.contains(side, anchors, relations, best.indices)
        for row in zip(best.values.tolist(), best.indices.tolist(), is_known.tolist(), strict=True):
            yield tuple(self._named(*each) for each in zip(*row, strict=True) if not (new_only and each[2]))

    def _named(self, score: float, position: int, known: bool) -> Answer:
        label = self.entities.label(position)
        return Answer(entity=self._dataset.entities[position], label=label, score=score, known=known)


def predict(
    model: AbstractModel,
    dataset: Dataset,
    *,
    side: Side,
    anchor: str,
    relation: str,
    top: int,
    new_only: bool = False,
) -> tuple[Answer, ...]:
    """The `top` best answers of one query; DataError for an unknown name."""
    return next(predict_table(model, dataset, [(anchor, relation)], side=side, top=top, new_only=new_only))


def predict_table(
    model: AbstractModel,
    dataset: Dataset,
    rows: Iterable[tuple[str, str]],
    *,
    side: Side = Side.TAIL,
    top: int,
    new_only: bool = False,
    labels: Labels = NO_LABELS,
) -> Iterator[tuple[Answer, ...]]:
    """The `top` best answers of each row (head, relation), or (tail, relation) when heads are asked for."""
    predictor = Predictor(model, dataset, labels)
    queries = [predictor.query(side, anchor, relation) for anchor, relation in rows]
    return predictor.answers(queries, top=top, new_only=new_only)
