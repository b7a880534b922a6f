"""Asynchronous successive halving: which trials of an arm go on. Pure: curves in, a decision out.

    rung k stands at  min_epochs * reduction_factor^k  epochs
    a trial that reaches it goes on when its best MRR so far is among the best
    max(1, floor(n / reduction_factor))  of the n trials of the arm that have reached it

Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar: A System for Massively Parallel
Hyperparameter Tuning. MLSys 2020. https://arxiv.org/abs/1810.05934

Nothing is remembered between decisions, so nothing is lost in a crash, and no curve of another arm is
ever seen. The best so far counts because the best checkpoint of a trial does. A trial that reached a rung
is not asked again, as in Optuna and unlike the paper, which promotes a paused trial later.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Curve = Mapping[int, float]  # validation MRR by epoch


@dataclass(frozen=True)
class Promote:
    """The trial goes on."""


@dataclass(frozen=True)
class Prune:
    """The trial ends here."""

    reason: str


def decide(curves: Mapping[int, Curve], trial: int, *, min_epochs: int, reduction_factor: int) -> Promote | Prune:
    """Decide on a trial at its latest validation, from the curves of all trials of its arm."""
    now, *before = sorted(curves[trial], reverse=True)
    last = max(before, default=0)
    for rung in _rungs(min_epochs, reduction_factor, until=now):
        if rung <= last:
            continue  # decided at an earlier validation
        there = [curve for curve in curves.values() if max(curve, default=0) >= rung]
        reached = sorted((_best_at(curve, rung) for curve in there), reverse=True)
        survivors = max(1, len(reached) // reduction_factor)
        mine = _best_at(curves[trial], rung)
        if mine < reached[survivors - 1]:
            place = 1 + sum(other > mine for other in reached)
            return Prune(f"pruned at epoch {now}: {place} of {len(reached)} after {rung} epochs, {survivors} go on")
    return Promote()


def _rungs(min_epochs: int, reduction_factor: int, *, until: int) -> Iterator[int]:
    rung = min_epochs
    while rung <= until:
        yield rung
        rung *= reduction_factor


def _best_at(curve: Curve, rung: int) -> float:
    """The best so far at the first validation that is not before the rung."""
    reached = min(epoch for epoch in curve if epoch >= rung)
    return max(mrr for epoch, mrr in curve.items() if epoch <= reached)
