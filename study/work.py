"""What a cluster is given to do, and what it answers: the seam between decisions and Ray.

The search and the replication are works; the runner executes any work. A work decides and writes to the
database; it never knows where or by what an attempt is executed.
"""

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

    def lost(self, assignment: Assignment, *, reason: str, memory: bool) -> None:
        """Take note that the worker of an attempt was lost; `memory` when the host killed it for memory."""
