"""The attempts of a stage: which execution of a trial is this, and is the trial over?

A trial ends with the first attempt that ended by itself or was pruned. An attempt whose worker was lost
is infrastructure's fault and is repeated; after MAX_LOSSES in a row without a new measurement it is taken
for the trial's own doing (a configuration that has its host's memory killer act looks just like that). An
attempt that ended with its driver, or with all others, counts for nothing.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

from study.records import Assignment, FailureClass, Outcome, TrialState
from study.store import AttemptRecord, Store

MAX_LOSSES = 5
INTERRUPTED = Outcome(state=TrialState.RUNNING, reason="interrupted: the driver ended")

Key = tuple[str, int]  # arm and trial


def verdict(attempts: Sequence[AttemptRecord], *, forgiven: int = 0) -> Outcome | None:
    """How a trial ended; None while it has not. The first losses are forgiven where progress followed them."""
    outcomes = [attempt.outcome for attempt in attempts if attempt.outcome is not None]
    for outcome in outcomes:
        if outcome.state.is_final and outcome.failure is not FailureClass.INFRASTRUCTURE:
            return outcome
    losses = _losses(attempts)[forgiven:]
    if len(losses) < MAX_LOSSES:
        return None
    for_memory = all("low on memory" in loss.reason for loss in losses)  # in the words of Ray
    failure = FailureClass.MEMORY if for_memory else FailureClass.INFRASTRUCTURE
    reason = f"lost its worker {len(losses)} times, the last: {losses[-1].reason}"
    return Outcome(state=TrialState.FAIL, failure=failure, reason=reason)


def _losses(attempts: Sequence[AttemptRecord]) -> list[Outcome]:
    outcomes = (attempt.outcome for attempt in attempts if attempt.outcome is not None)
    return [outcome for outcome in outcomes if outcome.failure is FailureClass.INFRASTRUCTURE]


class AttemptLog:
    """The attempts of one stage of a study, in memory and in the store."""

    def __init__(self, store: Store, *, study: str, stage: str) -> None:
        self._store = store
        self._study = study
        self._attempts: dict[Key, list[AttemptRecord]] = defaultdict(list)
        for attempt in store.attempts(study, stage):
            self._attempts[attempt.arm, attempt.trial].append(attempt)
        self._stage = stage
        # A new driver forgives: it may well have been started because the cluster is in order again.
        self._forgiven = {key: len(_losses(attempts)) for key, attempts in self._attempts.items()}

    def interrupt(self) -> None:
        """Close the attempts that the last driver left open."""
        for attempts in self._attempts.values():
            if attempts[-1].outcome is None:
                self._close(attempts[-1], INTERRUPTED)

    def begin(self, arm: str, trial: int) -> int:
        """Open the trial's next attempt and return its number."""
        attempts = self._attempts[arm, trial]
        started = AttemptRecord(arm=arm, stage=self._stage, trial=trial, attempt=len(attempts), started=time.time())
        attempts.append(started)
        self._store.record_attempt(self._study, started)
        return started.attempt

    def progress(self, assignment: Assignment) -> None:
        """Forgive the losses before a new measurement."""
        key = (assignment.arm, assignment.trial)
        self._forgiven[key] = len(_losses(self._attempts[key]))

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        """Close an attempt with its outcome."""
        self._close(self._attempts[assignment.arm, assignment.trial][assignment.attempt], outcome)

    def lose(self, assignment: Assignment, *, reason: str, by_itself: bool) -> None:
        """Close an attempt that was lost, by its own worker's death or with others."""
        lost = Outcome(state=TrialState.FAIL, failure=FailureClass.INFRASTRUCTURE, reason=reason)
        self.end(assignment, lost if by_itself else Outcome(state=TrialState.RUNNING, reason=reason))

    def verdict(self, arm: str, trial: int) -> Outcome | None:
        """How the trial ended; None while it has not."""
        return verdict(self._attempts.get((arm, trial), ()), forgiven=self._forgiven.get((arm, trial), 0))

    def _close(self, attempt: AttemptRecord, outcome: Outcome) -> None:
        fields = vars(attempt) | {"ended": time.time(), "outcome": outcome}
        closed = AttemptRecord(**fields)
        self._attempts[attempt.arm, attempt.trial][attempt.attempt] = closed
        self._store.record_attempt(self._study, closed)
