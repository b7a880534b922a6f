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
class _Latest:
    """A trial at its latest validation."""

    epoch: int
    best: float  # so far
    reason: str | None  # why it ends there, by who had come there until then; None: it goes on


class Rungs:
    """Who has reached which rung of an arm: a view of its curves that grows with them."""

    def __init__(self, *, min_epochs: int, reduction_factor: int) -> None:
        self._min_epochs = min_epochs
        self._reduction_factor = reduction_factor
        self._reached: dict[int, list[float]] = defaultdict(list)  # best so far at a rung, ascending
        self._latest: dict[int, _Latest] = {}

    def note(self, trial: int, epoch: int, mrr: float) -> None:
        """Take a validation of a trial, later than all before it."""
        before = self._latest.get(trial, _Latest(0, mrr, None))
        best = max(mrr, before.best)
        until = levels(self._min_epochs, self._reduction_factor, until=epoch)
        passed = [rung for rung in until if rung > before.epoch]
        for rung in passed:
            insort(self._reached[rung], best)
        self._latest[trial] = _Latest(epoch, best, self._reason(epoch, best, passed))

    def pruned(self, trial: int) -> str | None:
        """Why a trial ends at its latest validation, None where it goes on; who came there since changes nothing."""
        return self._latest[trial].reason

    def _reason(self, epoch: int, best: float, passed: Iterable[int]) -> str | None:
        for rung in passed:
            reached = self._reached[rung]
            survivors = max(1, len(reached) // self._reduction_factor)
            if best < reached[-survivors]:
                place = 1 + len(reached) - bisect_right(reached, best)
                ranked = f"{place} of {len(reached)} after {rung} epochs"
                return f"pruned at epoch {epoch}: {ranked}, {survivors} go on"
        return None


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
