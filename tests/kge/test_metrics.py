"""Metrics against means written out, what chance gives, and when ties raise an alarm."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch

from kge.data import Side
from kge.evaluation import rank
from kge.filters import filter_from
from kge.metrics import expected_mrr, metrics, tie_alarm
from kge.ranks import Ranks
from tests.kge import graphs

GRAPH = graphs.random_graph()
E, R = GRAPH.num_entities, GRAPH.num_relations
Row = tuple[int, int, int]  # optimistic, pessimistic, candidates


def naive_metrics(head: Sequence[Row], tail: Sequence[Row]) -> dict[str, float]:
    """All metrics in exact fractions, rounded at the end; of a side without queries there is no MRR."""
    both = [*head, *tail]
    realistic = [Fraction(best + worst, 2) for best, worst, _ in both]
    mrr, mean_rank = _mean([1 / each for each in realistic]), _mean(realistic)
    expected_rank = _mean([Fraction(n + 1, 2) for *_, n in both])
    expected = _mean([sum((Fraction(1, i) for i in range(1, n + 1)), Fraction()) / n for *_, n in both])
    sides = {"mrr_head": head, "mrr_tail": tail}
    exact = {
        "mrr": mrr,
        "mrr_optimistic": _mean([Fraction(1, best) for best, *_ in both]),
        "mrr_pessimistic": _mean([Fraction(1, worst) for _, worst, _ in both]),
        **{f"hits_at_{k}": _mean([Fraction(each <= k) for each in realistic]) for k in (1, 3, 10)},
        "mean_rank": mean_rank,
        "amri": 1 - (mean_rank - 1) / (expected_rank - 1),
        "adjusted_mrr": (mrr - expected) / (1 - expected),
        **{name: _mean([Fraction(2, a + b) for a, b, _ in rows]) for name, rows in sides.items() if rows},
    }
    return {name: float(value) for name, value in exact.items()}


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)


def ranks_of(side: Side, rows: Sequence[Row]) -> Ranks:
    """Ranks as they are, of triples that do not matter."""
    optimistic, pessimistic, candidates = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    ids = np.zeros(len(rows), dtype=np.int64)
    counts = {"optimistic": optimistic, "pessimistic": pessimistic, "candidates": candidates}
    return Ranks(side=side, head=ids, relation=ids, tail=ids, **counts)


def test_metrics_are_means_over_both_sides() -> None:
    head, tail = [(1, 1, 9), (2, 5, 7), (4, 4, 4)], [(3, 11, 20), (1, 2, 3), (10, 10, 12)]
    found = metrics([ranks_of(Side.HEAD, head), ranks_of(Side.TAIL, tail)])
    assert dict(found) == pytest.approx(naive_metrics(head, tail), rel=1e-12)
    assert dict(metrics([ranks_of(Side.TAIL, tail)])) == pytest.approx(naive_metrics([], tail), rel=1e-12)
    assert found["mrr_pessimistic"] < found["mrr"] < found["mrr_optimistic"]


@pytest.mark.parametrize("size", [2, 3, 10, 1000])
def test_every_rank_once_is_chance(size: int) -> None:
    found = metrics([ranks_of(Side.TAIL, [(position, position, size) for position in range(1, size + 1)])])
    assert found["amri"] == 0
    assert found["adjusted_mrr"] == pytest.approx(0, abs=1e-12)


def test_the_best_of_one_candidate_is_no_better_than_chance() -> None:
    found = metrics([ranks_of(Side.HEAD, [(1, 1, 1)] * 3)])
    assert (found["mrr"], found["amri"], found["adjusted_mrr"]) == (1, 0, 0)


def test_expected_reciprocal_rank_is_a_harmonic_mean_of_any_size() -> None:
    for size in (1, 2, 7, 14_541):
        assert expected_mrr(np.array([size])) == pytest.approx(np.mean(1 / np.arange(1, size + 1)), rel=1e-12)
    huge = 90_000_000
    assert expected_mrr(np.array([huge])) == pytest.approx((np.log(huge) + np.euler_gamma) / huge, rel=1e-9)


def _distinct() -> torch.Tensor:
    return torch.randn(R, E, E, generator=torch.Generator().manual_seed(3))


CANARIES = {
    "constant": torch.zeros(R, E, E),
    "saturated sigmoid": torch.sigmoid(100 * _distinct()),
    "far from zero": 1e9 + _distinct(),
}


@pytest.mark.parametrize("scores", CANARIES.values(), ids=CANARIES)
def test_scores_that_collide_in_float32_raise_the_alarm(scores: torch.Tensor) -> None:
    known = filter_from(GRAPH, ("train", "valid"))
    found = metrics(rank(graphs.free_scores(scores), GRAPH.valid, known, block_size=8))
    alarm = tie_alarm(found)
    assert alarm is not None
    assert alarm.startswith(f"many scores tie: optimistic MRR {found['mrr_optimistic']:.4f} and pessimistic MRR ")


def test_distinct_scores_raise_no_alarm() -> None:
    known = filter_from(GRAPH, ("train", "valid"))
    found = metrics(rank(graphs.free_scores(_distinct()), GRAPH.valid, known, block_size=8))
    assert found["mrr_optimistic"] == found["mrr_pessimistic"]
    assert tie_alarm(found) is None


def test_the_alarm_is_raised_above_a_thousandth() -> None:
    assert tie_alarm({"mrr_optimistic": 0.5009, "mrr_pessimistic": 0.5}) is None
    assert tie_alarm({"mrr_optimistic": 0.5011, "mrr_pessimistic": 0.5}) is not None


def test_a_constant_scorer_is_worth_nothing() -> None:
    known = filter_from(GRAPH, ("train", "valid"))
    found = metrics(rank(graphs.free_scores(CANARIES["constant"]), GRAPH.valid, known, block_size=8))
    assert found["amri"] == 0
    assert found["adjusted_mrr"] < 0  # 1/r is convex: (n + 1) / 2 everywhere is worse than all ranks alike
    assert found["mrr_optimistic"] == 1
