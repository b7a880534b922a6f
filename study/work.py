"""What a cluster is given to do, and what it answers: the seam between decisions and Ray.

The search and the replication are works; the runner executes any work. A work decides and writes to the
database; it never knows where or by what an attempt is executed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from study.records import Assignment, Measurement, Outcome


class Work(Protocol):
    """Attempts to be made, one after the other, and their results."""

    @property
    def is_done(self) -> bool:
        """True when every attempt that is to be made has ended."""

    def next(self) -> Assignment | None:
        """The next attempt to start; None when none can start now, and for good when none is running."""

    def measured(self, assignment: Assignment, measurement: Measurement) -> bool:
        """Take a measurement; True lets the attempt go on, False ends it here."""

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Take the outcome of an attempt that ended by itself."""

    def lost(self, assignment: Assignment, *, reason: str, by_itself: bool, held: float) -> None:
        """An attempt was lost and is to be issued again.

        `by_itself` when it was its own worker that died; `held`: seconds since that worker had begun.
        """


class InTurn:
    """Works one after the other: the next is made when the one before is done."""

    def __init__(self, works: Iterator[Work]) -> None:
        self._works = works
        self._now = next(works, None)

    @property
    def is_done(self) -> bool:
        """True when the last is done."""
        while self._now is not None and self._now.is_done:
            self._now = next(self._works, None)
        return self._now is None

    def next(self) -> Assignment | None:
        """The next attempt of the work at hand, or of the first that is not done."""
        return None if self.is_done or self._now is None else self._now.next()

    def measured(self, assignment: Assignment, measurement: Measurement) -> bool:
        """As the work at hand decides."""
        assert self._now is not None
        return self._now.measured(assignment, measurement)

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Tell the work at hand."""
        assert self._now is not None
        self._now.ended(assignment, outcome)

    def lost(self, assignment: Assignment, *, reason: str, by_itself: bool, held: float) -> None:
        """Tell the work at hand."""
        assert self._now is not None
        self._now.lost(assignment, reason=reason, by_itself=by_itself, held=held)


class Stop:
    """A request to end: nothing more is issued, what runs is left to be issued again."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self, reason: str) -> None:
        """Ask for the end; the first reason stays."""
        self.reason = self.reason or reason


@dataclass(frozen=True, kw_only=True)
class ArmProgress:
    """How far one arm is in a stage, and what has just happened there."""

    stage: str
    arm: str
    done: float  # of what `unit` counts
    running: int
    total: float
    best_mrr: float | None
    failed: int
    pruned: int
    said: str  # one line, or empty when it is not worth one
    unit: str = ""  # epochs or device_seconds; empty: trainings
