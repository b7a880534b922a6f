"""Ranks of true answers, a row per query: what ranking makes, and what metrics, slices and files read.

    optimistic  = 1 + #{candidates that score higher}
    pessimistic = optimistic + #{other candidates that score the same}
    realistic   = their mean: the expected rank when ties are broken at random

Berrendorf, Faerman, Vermue, Tresp: On the Ambiguity of Rank-Based Evaluation. 2020. https://arxiv.org/abs/2002.06914

Shapes  N triples of a split. `candidates` counts whom the answer was ranked among, itself included.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int
from torch import Tensor

from kge.data import Side, Triples

Int64s = np.ndarray[tuple[int], np.dtype[np.int64]]
Float64s = np.ndarray[tuple[int], np.dtype[np.float64]]
_COLUMNS = ("head", "relation", "tail", "optimistic", "pessimistic", "candidates")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks of the true answers of one side, in the order of the split. All arrays (N,)."""

    side: Side
    head: Int64s
    relation: Int64s
    tail: Int64s
    optimistic: Int64s
    pessimistic: Int64s
    candidates: Int64s

    @property
    def realistic(self) -> Float64s:
        """Mean of the optimistic and the pessimistic rank."""
        return (self.optimistic + self.pessimistic) / 2

    @property
    def anchor(self) -> Int64s:
        """The known entity of each query."""
        return self.head if self.side is Side.TAIL else self.tail

    @property
    def answer(self) -> Int64s:
        """The entity that was asked for."""
        return self.tail if self.side is Side.TAIL else self.head

    def at(self, rows: "Int64s | np.ndarray[tuple[int], np.dtype[np.bool_]]") -> "Ranks":
        """These queries only, by position or by mask."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS})


def from_counts(
    side: Side,
    triples: Triples,
    *,
    greater: Int[Tensor, " N"],
    equal: Int[Tensor, " N"],
    candidates: Int[Tensor, " N"],
) -> Ranks:
    """Ranks of a side from how many other candidates beat and tie each answer."""
    counts = (1 + greater, 1 + greater + equal, candidates)
    columns = [column.cpu().numpy() for column in (*triples.T, *counts)]
    return Ranks(side=side, **dict(zip(_COLUMNS, columns, strict=True)))
