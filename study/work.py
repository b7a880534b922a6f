"""What a cluster is given to do, and what it answers: the seam between decisions and Ray.

The search and the replication are works; the runner executes any work. A work decides and writes to the
database; it never knows where or by what an attempt is executed.
"""

from dataclasses import dataclass
from typing import Protocol

from study.records import Assignment, Measurement, Outcome


class Work(Protocol):
    """Attempts to be made, one after the other, and their results."""

    def next(self) -> Assignment | None:
        """The next attempt to start; None when none can start now, and for good when none is running."""

    def measured(self, assignment: Assignment, measurement: Measurement) -> bool:
        """Take a measurement; True lets the attempt go on, False ends it here."""

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Take the outcome of an attempt that ended by itself."""

    def lost(self, assignment: Assignment, *, reason: str) -> None:
        """Take note that the worker of an attempt was lost; the attempt is to be issued again."""


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
    done: int
    running: int
    total: int
    best_mrr: float | None
    failed: int
    pruned: int
    said: str  # one line, or empty when it is not worth one
