"""Answers of a query by name, best first.

Known answers (of train and valid, and of test when it is not sealed) are marked, because a prediction is
interesting where it is new; `new_only` leaves them out.
"""

import difflib
from dataclasses import dataclass

import torch

from kge.data import SPLITS, Dataset, Side
from kge.errors import DataError
from kge.filters import filter_from
from kge.models.base import AbstractModel


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One predicted entity of a query."""

    entity: str
    score: float
    known: bool


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
    """The `top` best answers of (anchor, relation, ?) or (?, relation, anchor); DataError for an unknown name."""
    anchors = torch.tensor([_position("entity", anchor, dataset.entities)])
    relations = torch.tensor([_position("relation", relation, dataset.relations)])
    splits = [split for split in SPLITS if getattr(dataset, split) is not None]
    _, known = filter_from(dataset, splits).pairs(side, anchors, relations)
    device = model.entities.device
    with torch.no_grad():
        scores = model.eval().score(side, anchors.to(device), relations.to(device))[0].float().cpu()
    if new_only:
        scores[known] = float("-inf")
    best = scores.topk(min(top, len(scores) - (len(known) if new_only else 0)))
    known_ids = set(known.tolist())
    return tuple(
        Answer(entity=dataset.entities[entity], score=score, known=entity in known_ids)
        for score, entity in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def _position(what: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0)
        raise DataError(f"unknown {what} {name!r} ({len(names)} known; did you mean {close[0]!r}?)")
    return names.index(name)
