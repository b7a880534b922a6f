"""Filtered ranking of all entities, on both sides.

Shapes  N triples, b distinct queries of a block, P (query, answer) pairs of a block, E entities.

    optimistic  = 1 + #{score > true}          over all entities but the other known answers
    pessimistic = 1 + #{score >= true} - 1     the same, ties against us
    realistic   = their mean: the expected rank when ties are broken at random

Berrendorf, Faerman, Vermue, Tresp: On the Ambiguity of Rank-Based Evaluation. 2020. https://arxiv.org/abs/2002.06914

A query that repeats is scored once. The true score is read from the block that is ranked, because two ways
to compute one score round differently. Known answers are counted in the same block and taken away: scores
are never changed. Ranks are always made in float32.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.data import Side, Triples
from kge.errors import DivergenceError
from kge.filters import FilterIndex
from kge.models.base import AbstractModel

Int64s = np.ndarray[tuple[int], np.dtype[np.int64]]
_COMPARED = 16 * 2**20  # scores compared at once with true scores
_HITS = (1, 3, 10)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks of the true answers of one side, a row per triple, in the order of the split. All arrays (N,)."""

    side: Side
    head: Int64s
    relation: Int64s
    tail: Int64s
    optimistic: Int64s
    pessimistic: Int64s

    @property
    def realistic(self) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """Mean of the optimistic and the pessimistic rank."""
        return (self.optimistic + self.pessimistic) / 2


def rank(model: AbstractModel, triples: Triples, known: FilterIndex, *, block_size: int) -> tuple[Ranks, ...]:
    """Rank every triple's tail and head; DivergenceError when a score is not finite."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return tuple(_rank_side(model, triples, known, side, block_size) for side in Side)
    finally:
        model.train(was_training)


def _rank_side(model: AbstractModel, triples: Triples, known: FilterIndex, side: Side, block_size: int) -> Ranks:
    anchors, relations, answers = side.anchors(triples), triples[:, 1], side.answers(triples)
    keys, query_of = torch.unique(anchors * model.num_relations + relations, return_inverse=True)
    order = torch.argsort(query_of, stable=True)
    optimistic = torch.empty_like(answers)
    pessimistic = torch.empty_like(answers)
    ends = torch.bincount(query_of, minlength=len(keys)).cumsum(0).tolist()
    for first in range(0, len(keys), block_size):
        last = min(first + block_size, len(keys))
        pairs = order[(ends[first - 1] if first else 0) : ends[last - 1]]
        block_keys = keys[first:last]
        block_anchors, block_relations = block_keys // model.num_relations, block_keys % model.num_relations
        scores = model.score(side, block_anchors, block_relations).float()
        if not torch.isfinite(scores.sum()):
            raise DivergenceError(f"a score of a {side} query is not finite")
        known_pairs = known.pairs(side, block_anchors, block_relations)
        greater, equal = _count(scores, query_of[pairs] - first, answers[pairs], known_pairs)
        optimistic[pairs] = 1 + greater
        pessimistic[pairs] = 1 + greater + equal
    h, r, t = (column.cpu().numpy() for column in triples.T)
    return Ranks(
        side=side,
        head=h,
        relation=r,
        tail=t,
        optimistic=optimistic.cpu().numpy(),
        pessimistic=pessimistic.cpu().numpy(),
    )


def _count(
    scores: Float[Tensor, "b E"],
    row: Int[Tensor, " P"],
    answer: Int[Tensor, " P"],
    known: tuple[Int[Tensor, " A"], Int[Tensor, " A"]],
) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
    """Entities that beat and that tie the true answer of each pair, other known answers left out."""
    true = scores[row, answer]
    greater, equal = torch.empty_like(answer), torch.empty_like(answer)
    for part in _parts(len(row), max(1, _COMPARED // scores.shape[1])):
        block = scores[row[part]]
        greater[part] = (block > true[part, None]).sum(dim=1)
        equal[part] = (block == true[part, None]).sum(dim=1) - 1
    pair, other = _known_of_pairs(row, known, len(scores))
    other_score = scores[row[pair], other]
    is_other = other != answer[pair]
    greater.index_add_(0, pair, -(is_other & (other_score > true[pair])).long())
    equal.index_add_(0, pair, -(is_other & (other_score == true[pair])).long())
    return greater, equal


def _known_of_pairs(
    row: Int[Tensor, " P"], known: tuple[Int[Tensor, " A"], Int[Tensor, " A"]], num_rows: int
) -> tuple[Int[Tensor, " X"], Int[Tensor, " X"]]:
    """Every (pair, known answer of its query)."""
    known_row, known_answer = known
    counts = torch.bincount(known_row, minlength=num_rows)
    starts = counts.cumsum(0) - counts
    lengths = counts[row]
    pair = torch.repeat_interleave(torch.arange(len(row), device=row.device), lengths)
    within = torch.arange(len(pair), device=row.device) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return pair, known_answer[starts[row][pair] + within]


def _parts(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))


def metrics(ranks: Sequence[Ranks]) -> Mapping[str, float]:
    """Both sides together: MRR of the three ranks, Hits@k and mean rank of the realistic one."""
    realistic = np.concatenate([side.realistic for side in ranks])
    optimistic = np.concatenate([side.optimistic for side in ranks])
    pessimistic = np.concatenate([side.pessimistic for side in ranks])
    return {
        "mrr": float(np.mean(1 / realistic)),
        "mrr_optimistic": float(np.mean(1 / optimistic)),
        "mrr_pessimistic": float(np.mean(1 / pessimistic)),
        **{f"hits_at_{k}": float(np.mean(realistic <= k)) for k in _HITS},
        "mean_rank": float(np.mean(realistic)),
        **{f"mrr_{side.side}": float(np.mean(1 / side.realistic)) for side in ranks},
    }
