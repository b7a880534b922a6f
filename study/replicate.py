"""The replication as a work: every selection, trained again with fresh seeds.

The first replicate of every arm, then the second of every arm, and so on. A replicate stops as its trial
did, by its own curve or its last epoch; nothing prunes it, and its cost is no part of a search budget.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from study.attempts import AttemptLog
from study.history import best_of, curves_by_trial
from study.records import Assignment, Cost, Measurement, Outcome, ReplicateRecord, Selection, TrialState
from study.seeds import training_seed
from study.store import Store
from study.trial import forget
from study.work import ArmProgress

STAGE = "replicate"


class ReplicateWork:
    """Every selection, trained again with fresh seeds: the first replicate of every arm, then the second, ..."""

    def __init__(
        self,
        *,
        study: str,
        seed: int,
        folder: Path,
        store: Store,
        selections: Sequence[Selection],
        replicates: int,
        listen: Callable[[ArmProgress], None],
    ) -> None:
        self._study = study
        self._folder = folder
        self._store = store
        self._listen = listen
        self._selections = {selection.arm: selection for selection in selections}
        self._log = AttemptLog(store, study=study, stage=STAGE)
        self._curves: dict[tuple[str, int], list[Measurement]] = {
            key: list(curve) for key, curve in curves_by_trial(store.measurements(study, STAGE)).items()
        }
        known = {(record.arm, record.index): record for record in store.replicates(study)}
        keys = [(arm, index) for index in range(replicates) for arm in self._selections]
        self._records = {key: known.get(key) or _new(*key, study_seed=seed) for key in keys}
        self._waiting: deque[tuple[str, int]] = deque()
        self._recover()

    @property
    def is_done(self) -> bool:
        """True when every replicate has ended."""
        return all(record.state.is_final for record in self._records.values())

    def next(self) -> Assignment | None:
        """The replicates in turn."""
        if not self._waiting:
            return None
        arm, index = self._waiting.popleft()
        record = self._records[arm, index]
        self._store.record_replicate(self._study, record)
        assignment = Assignment(
            study=self._study,
            arm=arm,
            stage=STAGE,
            trial=index,
            attempt=self._log.begin(arm, index),
            config={**self._selections[arm].config, "seed": record.seed},
            directory=str(replicate_folder(self._folder, arm, index)),
        )
        self._tell(arm)
        return assignment

    def measured(self, assignment: Assignment, measurement: Measurement) -> bool:
        """Charge it to the replicate; replicates are never pruned."""
        if self._store.charge(self._study, STAGE, measurement):
            self._log.progress(assignment)
            self._curves.setdefault((assignment.arm, assignment.trial), []).append(measurement)
        self._tell(assignment.arm)
        return True

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Write the outcome to the attempt, then to the replicate."""
        self._log.end(assignment, outcome)
        self._settle(assignment.arm, assignment.trial, outcome)

    def lost(self, assignment: Assignment, *, reason: str, by_itself: bool) -> None:
        """Train it again from its checkpoint, unless it has lost too many workers."""
        self._log.lose(assignment, reason=reason, by_itself=by_itself)
        self._tell(assignment.arm, f"replicate {assignment.trial}: worker lost, {reason}")
        self._resolve(assignment.arm, assignment.trial)

    def _recover(self) -> None:
        self._log.interrupt()
        for (arm, index), record in self._records.items():
            if not record.state.is_final:
                self._resolve(arm, index)
        for arm in self._selections:
            self._tell(arm)

    def _resolve(self, arm: str, index: int) -> None:
        verdict = self._log.verdict(arm, index)
        if verdict is None:
            self._waiting.append((arm, index))
        else:
            self._settle(arm, index, verdict)

    def _settle(self, arm: str, index: int, outcome: Outcome) -> None:
        best = best_of(self._curves.get((arm, index), ()))
        record = replace(
            self._records[arm, index],
            state=outcome.state,
            best_epoch=best.epoch if best else None,
            valid_mrr=best.mrr if best else None,
            reason=outcome.reason,
        )
        self._records[arm, index] = record
        self._store.record_replicate(self._study, record)
        forget(replicate_folder(self._folder, arm, index))
        found = f"mrr {best.mrr:.4f}" if best else "not measured"
        self._tell(arm, f"replicate {index}: {outcome.state}, {found}, {outcome.reason}")

    def _tell(self, arm: str, said: str = "") -> None:
        records = {index: record for (name, index), record in self._records.items() if name == arm}
        curves = (self._curves.get((arm, index), ()) for index in records)
        best = best_of(each for curve in curves for each in curve)
        done = sum(record.state.is_final for record in records.values())
        waiting = sum(name == arm for name, _ in self._waiting)
        self._listen(
            ArmProgress(
                stage=STAGE,
                arm=arm,
                done=done,
                running=len(records) - done - waiting,
                total=len(records),
                best_mrr=best.mrr if best else None,
                failed=sum(record.state is TrialState.FAIL for record in records.values()),
                pruned=0,
                said=said,
            )
        )


def replicate_folder(folder: Path, arm: str, index: int) -> Path:
    """Where a replicate keeps its checkpoints."""
    return folder / "replicates" / arm / str(index)


def _new(arm: str, index: int, *, study_seed: int) -> ReplicateRecord:
    return ReplicateRecord(
        arm=arm,
        index=index,
        seed=training_seed(study_seed, arm, index, STAGE),
        state=TrialState.RUNNING,
        best_epoch=None,
        valid_mrr=None,
        test_metrics=(),
        cost=Cost(),
        ranks_file=None,
    )
