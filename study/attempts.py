"""The attempts of a stage: which execution of a trial is this, and is the trial over?

A trial ends with the first attempt that ended by itself or was pruned. An attempt whose worker was lost
is infrastructure's fault and is repeated; after MAX_LOSSES in a row without a new measurement it is taken
for the trial's own doing. An attempt that ran out of memory, or that Ray killed when its host did, is
repeated with half the rows at a time (kge.memory), until there is one row. An attempt that ended with its
driver, or with all others, counts for nothing.

A broken trial is charged what its last attempt used after its last measurement. One that would be charged no
epoch is charged one, and one that would be charged no time the longest time that an attempt of it held its
device, which begins with its worker: to wait for a node is not charged. An attempt that is repeated is charged no
epochs beyond what was measured, since they are trained again, but its device-seconds where the trial itself ran
out of memory.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kge.config import TrainingConfig
from kge.documents import parse_config, to_mapping
from kge.memory import halved
from study.records import WORKERS_LOST, Assignment, Cost, FailureClass, Outcome, TrialState
from study.store import AttemptRecord, Store

MAX_LOSSES = 5
INTERRUPTED = Outcome(state=TrialState.RUNNING, reason="interrupted: the driver ended")
_KILLED_FOR_MEMORY = "low on memory"  # in the words of Ray
_BRIEFEST = 1e-3  # device-seconds of an attempt that was over at once

Key = tuple[str, int]  # arm and trial


def by_trial(attempts: Iterable[AttemptRecord]) -> defaultdict[Key, list[AttemptRecord]]:
    """Attempts by arm and trial, in their order."""
    found = defaultdict[Key, list[AttemptRecord]](list)
    for attempt in attempts:
        found[attempt.arm, attempt.trial].append(attempt)
    return found


def ending(attempts: Sequence[AttemptRecord], *, forgiven: int = 0, halvings: int = 0) -> Outcome | None:
    """How a trial ended; None while it has not. The first losses are forgiven where progress followed them."""
    outcomes = _outcomes(attempts)
    for outcome in outcomes:
        if outcome.state.is_final and outcome.failure not in {FailureClass.INFRASTRUCTURE, FailureClass.MEMORY}:
            return outcome
    times = _exhaustions(attempts)
    if times > halvings:
        said = [outcome.reason for outcome in outcomes if _is_memory(outcome)]
        reason = f"out of memory {times} times, the last: {said[-1]}"
        return Outcome(state=TrialState.FAIL, failure=FailureClass.MEMORY, reason=reason)
    losses = _losses(attempts)[forgiven:]
    if len(losses) < MAX_LOSSES:
        return None
    reason = f"{WORKERS_LOST} {len(losses)} times, the last: {losses[-1].reason}"
    return Outcome(state=TrialState.FAIL, failure=FailureClass.INFRASTRUCTURE, reason=reason)


def unmeasured(attempts: Sequence[AttemptRecord], *, failed: bool, measured: Cost) -> Cost:
    """What a trial is charged beyond its measurements."""
    held = [(each.unmeasured.device_seconds, each.failure) for each in _outcomes(attempts)]
    seconds = sum(taken for taken, failure in held if failure is not FailureClass.INFRASTRUCTURE)
    if not failed or not attempts:
        return Cost(device_seconds=seconds)
    last = attempts[-1]
    epochs = last.outcome.unmeasured.epochs if last.outcome else 0
    if not measured.epochs + epochs:
        epochs = 1
    if not measured.device_seconds + seconds:
        seconds = max([_BRIEFEST, *(taken for taken, _ in held)])
    return Cost(epochs=epochs, device_seconds=seconds)


def _outcomes(attempts: Sequence[AttemptRecord]) -> list[Outcome]:
    return [attempt.outcome for attempt in attempts if attempt.outcome is not None]


def _is_memory(outcome: Outcome) -> bool:
    killed = outcome.failure is FailureClass.INFRASTRUCTURE and _KILLED_FOR_MEMORY in outcome.reason
    return killed or outcome.failure is FailureClass.MEMORY


def _exhaustions(attempts: Sequence[AttemptRecord]) -> int:
    return sum(_is_memory(outcome) for outcome in _outcomes(attempts))


def _losses(attempts: Sequence[AttemptRecord]) -> list[Outcome]:
    """Workers that were lost, and not for memory."""
    outcomes = _outcomes(attempts)
    return [each for each in outcomes if each.failure is FailureClass.INFRASTRUCTURE and not _is_memory(each)]


def _smaller(config: Mapping[str, Any]) -> list[TrainingConfig]:
    """The same training with half the rows at a time, half of these, and so on."""
    found: list[TrainingConfig] = []
    smaller = halved(parse_config(config))
    while smaller is not None:
        found.append(smaller)
        smaller = halved(smaller)
    return found


class AttemptLog:
    """The attempts of one stage of a study, in memory and in the store."""

    def __init__(self, store: Store, *, study: str, stage: str) -> None:
        self._store = store
        self._study = study
        self._stage = stage
        self._attempts = by_trial(store.attempts(study, stage))
        # A new driver forgives: it may well have been started because the cluster is in order again.
        self._forgiven = {key: len(_losses(attempts)) for key, attempts in self._attempts.items()}

    def interrupt(self) -> None:
        """Close the attempts that the last driver left open."""
        for attempts in self._attempts.values():
            if attempts[-1].outcome is None:
                self._close(attempts[-1], INTERRUPTED)

    def issue(self, arm: str, trial: int, *, config: Mapping[str, Any], folder: Path, directory: Path) -> Assignment:
        """Open the trial's next attempt; it gets half the rows at a time for each time that memory was exhausted."""
        times = _exhaustions(self._attempts.get((arm, trial), ()))
        return Assignment(
            study=self._study,
            arm=arm,
            stage=self._stage,
            trial=trial,
            attempt=self._begin(arm, trial),
            config=to_mapping(_smaller(config)[times - 1]) if times else config,
            folder=str(folder),
            directory=str(directory),
        )

    def refuse(self, arm: str, trial: int, outcome: Outcome) -> None:
        """Note an attempt that could not even start."""
        self._begin(arm, trial)
        self._close(self._attempts[arm, trial][-1], outcome)

    def progress(self, assignment: Assignment) -> None:
        """Forgive the losses before a new measurement."""
        key = (assignment.arm, assignment.trial)
        self._forgiven[key] = len(_losses(self._attempts[key]))

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        """Close an attempt with its outcome."""
        self._close(self._attempts[assignment.arm, assignment.trial][assignment.attempt], outcome)

    def lose(self, assignment: Assignment, *, reason: str, by_itself: bool, held: float) -> None:
        """Close an attempt that was lost, by its own worker's death or with others."""
        cost = Cost(device_seconds=held)
        lost = Outcome(state=TrialState.FAIL, failure=FailureClass.INFRASTRUCTURE, reason=reason, unmeasured=cost)
        self.end(assignment, lost if by_itself else Outcome(state=TrialState.RUNNING, reason=reason))

    def ending(self, arm: str, trial: int, config: Mapping[str, Any] | None) -> Outcome | None:
        """How the trial ended; None while it has not. Without its configuration, memory is not tried again."""
        attempts = self._attempts.get((arm, trial), ())
        halvings = len(_smaller(config)) if config is not None and _exhaustions(attempts) else 0
        return ending(attempts, forgiven=self._forgiven.get((arm, trial), 0), halvings=halvings)

    def span(self, arm: str, trial: int) -> tuple[float, float | None]:
        """When the trial's first attempt started and its last one ended; a trial without one is about to start."""
        attempts = self._attempts.get((arm, trial))
        return (attempts[0].started, attempts[-1].ended) if attempts else (math.inf, None)

    def unmeasured(self, arm: str, trial: int, *, failed: bool, measured: Cost) -> Cost:
        """What the trial is charged beyond its measurements."""
        return unmeasured(self._attempts.get((arm, trial), ()), failed=failed, measured=measured)

    def _begin(self, arm: str, trial: int) -> int:
        """The number of the attempt that begins."""
        attempts = self._attempts[arm, trial]
        started = AttemptRecord(arm=arm, stage=self._stage, trial=trial, attempt=len(attempts), started=time.time())
        attempts.append(started)
        self._store.record_attempt(self._study, started)
        return started.attempt

    def _close(self, attempt: AttemptRecord, outcome: Outcome) -> None:
        fields = vars(attempt) | {"ended": time.time(), "outcome": outcome}
        closed = AttemptRecord(**fields)
        self._attempts[attempt.arm, attempt.trial][attempt.attempt] = closed
        self._store.record_attempt(self._study, closed)
