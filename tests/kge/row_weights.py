"""Naive twin: what each row of train weighs, by counting."""

from collections import Counter
from statistics import fmean

from torch import Tensor

from kge.data import Side

Row = tuple[Side, int, int, int]  # the triple that is asked from this side


def row_weights(loss: str, train: Tensor) -> dict[Row, float]:
    """Of the losses that have weights, with default options; 1 for each row of others."""
    triples = train.tolist()
    heads, tails = Counter(h for h, _, _ in triples), Counter(t for _, _, t in triples)
    tail_queries, head_queries = Counter((h, r) for h, r, _ in triples), Counter((r, t) for _, r, t in triples)
    degrees = heads + tails
    rows = {side: [(side, h, r, t) for h, r, t in triples] for side in Side}
    if loss == "sce_bc":
        by_tail = {(side, h, r, t): tail_queries[h, r] / tails[t] for side, h, r, t in rows[Side.TAIL]}
        return by_tail | {(side, h, r, t): head_queries[r, t] / heads[h] for side, h, r, t in rows[Side.HEAD]}
    if loss == "sce_cw":
        largest = max(degrees.values())
        answers = [(row, row[3] if row[0] is Side.TAIL else row[1]) for side in Side for row in rows[side]]
        weights = [(row, 0.1 + 0.9 * degrees[answer] / largest) for row, answer in answers]
        mean = fmean(weight for _, weight in weights)
        return {row: weight / mean for row, weight in weights}
    return {row: 1.0 for side in Side for row in rows[side]}
