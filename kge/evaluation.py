"""Filtered ranking of all entities, on both sides.

Shapes  N triples, b distinct queries of a block, P (query, answer) pairs of a block, E entities.

A query that repeats is scored once, and so is one whose answers are ranked under several filters. The true
score is read from the block that is ranked, because two ways to compute one score round differently. Known
answers are counted in the same block and taken away: scores are never changed. Ranks are always made in float32.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from kge.data import Side, Triples
from kge.errors import DivergenceError
from kge.filters import FilterIndex, spans
from kge.models.base import AbstractModel, Candidates, Ids, Scores
from kge.native import can_run, over_rows
from kge.precision import products
from kge.ranks import Ranks, from_counts

Known = tuple[Int[Tensor, " A"], Int[Tensor, " A"]]  # position of the query, known answer
Counts = Int[Tensor, "3 P"]  # entities that beat the true answer, others that tie with it, all

# Scores held at once: with millions of entities a block has few queries. On the CPU glibc maps and unmaps blocks above
# 32 MB each time, which takes as long again.
SCORED = {"cpu": 7 * 2**20, "cuda": 64 * 2**20}
_COMPARED = 16 * 2**20  # scores compared at once with true scores


def rank(model: AbstractModel, triples: Triples, known: FilterIndex, *, block_size: int) -> tuple[Ranks, ...]:
    """Rank every triple's tail and head; DivergenceError when a score is not finite."""
    return rank_by_filters(model, triples, (known,), block_size=block_size)[0]


def rank_by_filters(
    model: AbstractModel, triples: Triples, filters: Sequence[FilterIndex], *, block_size: int
) -> tuple[tuple[Ranks, ...], ...]:
    """Ranks under each filter, of scores that are computed once."""
    with scoring(model):
        sides = [_rank_side(model, triples, filters, side, block_size) for side in Side]
    return tuple(zip(*sides, strict=True))


@contextmanager
def scoring(model: AbstractModel) -> Iterator[None]:
    """Neither dropout, gradients nor TF32 inside; the mode is given back."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), products(tf32=False):
            yield
    finally:
        model.train(was_training)


def float32_scores(
    model: AbstractModel, side: Side, anchors: Ids, relations: Ids, candidates: Candidates | None = None
) -> Scores:
    """Scores that can be ranked; DivergenceError when one is not finite."""
    scores = model.score(side, anchors, relations, candidates).float()
    if not torch.isfinite(scores.sum()) and not torch.isfinite(scores).all():  # a sum overflows before its terms
        raise DivergenceError(f"a score of a {side} query is not finite")
    return scores


def _rank_side(
    model: AbstractModel, triples: Triples, filters: Sequence[FilterIndex], side: Side, block_size: int
) -> list[Ranks]:
    answers = side.answers(triples)
    keys, query_of = torch.unique(side.queries(triples, model.num_relations), return_inverse=True)
    order = torch.argsort(query_of, stable=True)
    counts = answers.new_empty(len(filters), 3, len(answers))
    ends = torch.bincount(query_of, minlength=len(keys)).cumsum(0).tolist()
    size = min(block_size, max(1, SCORED[triples.device.type] // model.num_entities))
    for first in range(0, len(keys), size):
        last = min(first + size, len(keys))
        pairs = order[(ends[first - 1] if first else 0) : ends[last - 1]]
        block_keys = keys[first:last]
        block_anchors, block_relations = block_keys // model.num_relations, block_keys % model.num_relations
        scores = float32_scores(model, side, block_anchors, block_relations)
        row, answer = query_of[pairs] - first, answers[pairs]
        every = _count(scores, row, answer)
        for known, found in zip(filters, counts, strict=True):
            others = _count_others(scores, row, answer, known.pairs(side, block_anchors, block_relations))
            found[:, pairs] = every - others
    return [from_counts(side, triples, greater=g, equal=e, candidates=c) for g, e, c in counts]


def _count(scores: Float[Tensor, "b E"], row: Int[Tensor, " P"], answer: Int[Tensor, " P"]) -> Counts:
    """Counts over all entities."""
    if can_run(scores):
        return _compiled("over_entities", scores, row, answer)
    true = scores[row, answer]
    counts = torch.empty(3, len(row), dtype=torch.int64, device=row.device)
    for part in _parts(len(row), max(1, _COMPARED // scores.shape[1])):
        block = scores.index_select(0, row[part])
        counts[0, part] = (block > true[part, None]).sum(dim=1, dtype=torch.int32)  # int64 sums are slow
        counts[1, part] = (block == true[part, None]).sum(dim=1, dtype=torch.int32) - 1
    counts[2] = scores.shape[1]
    return counts


def _count_others(
    scores: Float[Tensor, "b E"], row: Int[Tensor, " P"], answer: Int[Tensor, " P"], known: Known
) -> Counts:
    """Counts over the other known answers of each pair's query."""
    if can_run(scores):
        ends = torch.bincount(known[0], minlength=len(scores)).cumsum(0)
        return _compiled("over_known", scores, row, answer, pad(ends, (1, 0)), known[1])
    length = torch.bincount(known[0], minlength=len(scores))
    first = length.cumsum(0) - length
    counts = torch.zeros(3, len(row), dtype=torch.int64, device=row.device)
    for part in _parts(len(row), max(1, _COMPARED // max(1, int(length.max())))):
        rows, answers = row[part], answer[part]
        pair, position = spans(first[rows], length[rows])
        other = known[1][position]
        true, score, is_other = scores[rows, answers][pair], scores[rows[pair], other], other != answers[pair]
        for count, mark in zip(counts[:, part], (score > true, score == true, is_other), strict=True):
            count.index_add_(0, pair, (mark & is_other).long())
    return counts


def _compiled(loop: str, scores: Float[Tensor, "b E"], row: Int[Tensor, " P"], *others: Int[Tensor, " _"]) -> Counts:
    from kge.native import counts as loops  # noqa: PLC0415 (numba is not needed to start)

    counts = row.new_empty(3, len(row))
    arrays = (each.contiguous().numpy() for each in (scores, row, *others, counts))
    over_rows(getattr(loops, loop), len(row), *arrays)
    return counts


def _parts(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))
