"""Metrics of parts of a split: where a model is good and where it is not.

    side               head or tail is asked for
    relation           by name
    category           1-1, 1-N, N-1, N-N: "1" where train holds on average fewer than 1.5 distinct heads for a
                       (relation, tail), or tails for a (head, relation), "N" otherwise; `unseen` without a triple
    answer_frequency   occurrences of the asked entity in train, as head or tail
    anchor_frequency   the same of the known entity

Categories: Bordes, Usunier, Garcia-Duran, Weston, Yakhnenko: Translating Embeddings. NIPS 2013, section 4.3. They
average over the whole graph; train alone keeps valid and test out of the definition.

Every query is in one slice of each kind, and slices without a query are left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from kge.data import Dataset, Side
from kge.metrics import metrics
from kge.ranks import Int64s, Ranks

CATEGORIES = ("1-1", "1-N", "N-1", "N-N", "unseen")
_MANY = 1.5
_STARTS = (0, 1, 3, 10, 30, 100, 300, 1000)  # first frequency of each bin
BINS = (*(str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(_STARTS)), f"{_STARTS[-1]}+")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Metrics of the queries that have something in common."""

    by: str
    name: str
    queries: int
    metrics: Mapping[str, float]


def slices(ranks: Sequence[Ranks], dataset: Dataset) -> Iterator[Slice]:
    """All slices of all kinds, each kind in its own order; relations by the number of their queries."""
    category, frequency_bin = categories(dataset), frequency_bins(dataset)
    sides = tuple(Side)
    yield from _slices("side", sides, ranks, lambda each: np.full(len(each.head), sides.index(each.side)))
    by_relation = _slices("relation", dataset.relations, ranks, lambda each: each.relation)
    yield from sorted(by_relation, key=lambda each: -each.queries)
    yield from _slices("category", CATEGORIES, ranks, lambda each: category[each.relation])
    yield from _slices("answer_frequency", BINS, ranks, lambda each: frequency_bin[each.answer])
    yield from _slices("anchor_frequency", BINS, ranks, lambda each: frequency_bin[each.anchor])


def categories(dataset: Dataset) -> Int64s:
    """Position in CATEGORIES of every relation."""
    facts = torch.unique(dataset.train, dim=0)
    heads, tails = (torch.unique(facts[:, columns], dim=0) for columns in ([0, 1], [2, 1]))
    triples, num_heads, num_tails = (
        torch.bincount(rows[:, 1], minlength=dataset.num_relations) for rows in (facts, heads, tails)
    )
    of_seen = 2 * (triples >= _MANY * num_tails) + (triples >= _MANY * num_heads).long()
    found: Int64s = of_seen.masked_fill(triples == 0, CATEGORIES.index("unseen")).numpy()
    return found


def frequencies(dataset: Dataset) -> Int64s:
    """Occurrences of every entity in train, as head or tail."""
    found: Int64s = torch.bincount(dataset.train[:, [0, 2]].flatten(), minlength=dataset.num_entities).numpy()
    return found


def frequency_bins(dataset: Dataset) -> Int64s:
    """Position in BINS of every entity."""
    found: Int64s = np.digitize(frequencies(dataset), _STARTS) - 1
    return found


def _slices(by: str, names: Sequence[str], ranks: Sequence[Ranks], label: Callable[[Ranks], Int64s]) -> Iterator[Slice]:
    grouped = [_groups(label(each)) for each in ranks]
    for position, name in enumerate(names):
        parts = [each.at(rows[position]) for each, rows in zip(ranks, grouped, strict=True) if position in rows]
        if parts:
            yield Slice(by=by, name=name, queries=sum(len(each.head) for each in parts), metrics=metrics(parts))


def _groups(labels: Int64s) -> dict[int, Int64s]:
    """Positions of each label."""
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
