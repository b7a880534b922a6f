"""Asynchronous successive halving: which trials of an arm go on. Pure: curves in, a decision out.

    rung k stands at  min_epochs * reduction_factor^k  epochs
    a trial that reaches it goes on when its best MRR so far is among the best
    max(1, floor(n / reduction_factor))  of the n trials of the arm that have reached it

Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar: A System for Massively Parallel
Hyperparameter Tuning. MLSys 2020. https://arxiv.org/abs/1810.05934

Nothing but curves, in the order in which they grew, is remembered between decisions, so nothing is lost in a
crash: who takes them in again decides what was decided. No curve of another arm is ever seen. The best so far
counts because the best checkpoint of a trial does. A trial that reached a rung is not asked again, as in Optuna
and unlike the paper, which promotes a paused trial later.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Curve = Mapping[int, float]  # validation MRR by epoch


@dataclass(frozen=True)
class Promote:
    """The trial goes on."""


@dataclass(frozen=True)
class Prune:
    """The trial ends here."""

    reason: str


@dataclass(frozen=True)
class _Latest:
    """A trial at its latest validation."""

    epoch: int
    best: float  # so far
    decision: Promote | Prune  # by who had come there until then


class Rungs:
    """Who has reached which rung of an arm: a view of its curves that grows with them."""

    def __init__(self, *, min_epochs: int, reduction_factor: int) -> None:
        self._min_epochs = min_epochs
        self._reduction_factor = reduction_factor
        self._reached: dict[int, list[float]] = defaultdict(list)  # best so far at a rung, ascending
        self._latest: dict[int, _Latest] = {}

    def note(self, trial: int, epoch: int, mrr: float) -> None:
        """Take a validation of a trial, later than all before it."""
        before = self._latest.get(trial, _Latest(0, mrr, Promote()))
        best = max(mrr, before.best)
        until = levels(self._min_epochs, self._reduction_factor, until=epoch)
        passed = [rung for rung in until if rung > before.epoch]
        for rung in passed:
            insort(self._reached[rung], best)
        self._latest[trial] = _Latest(epoch, best, self._decision(epoch, best, passed))

    def decide(self, trial: int) -> Promote | Prune:
        """What was decided on a trial at its latest validation; whoever came there since changes nothing."""
        return self._latest[trial].decision

    def _decision(self, epoch: int, best: float, passed: Iterable[int]) -> Promote | Prune:
        for rung in passed:
            reached = self._reached[rung]
            survivors = max(1, len(reached) // self._reduction_factor)
            if best < reached[-survivors]:
                place = 1 + len(reached) - bisect_right(reached, best)
                ranked = f"{place} of {len(reached)} after {rung} epochs"
                return Prune(f"pruned at epoch {epoch}: {ranked}, {survivors} go on")
        return Promote()


def decide(curves: Mapping[int, Curve], trial: int, *, min_epochs: int, reduction_factor: int) -> Promote | Prune:
    """Decide on a trial at its latest validation, from the curves of all trials of its arm."""
    rungs = Rungs(min_epochs=min_epochs, reduction_factor=reduction_factor)
    for number in (*(each for each in curves if each != trial), trial):
        for epoch in sorted(curves[number]):
            rungs.note(number, epoch, curves[number][epoch])
    return rungs.decide(trial)


def levels(min_epochs: int, reduction_factor: int, *, until: int) -> Iterator[int]:
    """The epochs at which rungs stand, up to and with `until`."""
    rung = min_epochs
    while rung <= until:
        yield rung
        rung *= reduction_factor


def best_at(curve: Curve, rung: int) -> float:
    """The best so far at the first validation that is not before the rung."""
    reached = min(epoch for epoch in curve if epoch >= rung)
    return max(mrr for epoch, mrr in curve.items() if epoch <= reached)
