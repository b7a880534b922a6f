"""The replication as a work: every selection, trained again with fresh seeds.

The first replicate of every arm, then the second of every arm, and so on. A replicate stops as its trial
did, by its own curve or its last epoch; nothing prunes it, and its cost is no part of a search budget.
A replicate of an arm that starts from another one waits for that one's replicate in the same place, and starts
from it. Where an arm was selected anew, the replicates of its earlier selection stay as they are, or end as they
stand; the indices of the new ones count on, so that their seeds and folders are fresh.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from study.attempts import AttemptLog, Key
from study.history import best_of, curves_by_trial
from study.layout import best_checkpoint, replicate_folder
from study.records import (
    WORKERS_LOST,
    Assignment,
    Cost,
    FailureClass,
    Measurement,
    Outcome,
    ReplicateRecord,
    Selection,
    TrialState,
)
from study.seeds import training_seed
from study.store import Store
from study.trial import forget
from study.work import ArmProgress

STAGE = "replicate"


class ReplicateWork:
    """Every selection, trained again with fresh seeds: the first replicate of every arm, then the second, ..."""

    def __init__(  # noqa: PLR0913 (a driver makes it, once)
        self,
        *,
        study: str,
        seed: int,
        folder: Path,
        store: Store,
        selections: Sequence[Selection],
        replicates: int,
        sources: Mapping[str, str],
        listen: Callable[[ArmProgress], None],
        forget: Callable[[Path], object] = forget,
    ) -> None:
        """`sources`: by arm, the arm that it starts from."""
        self._study = study
        self._folder = folder
        self._store = store
        self._listen = listen
        self._forget = forget
        self._selections = {selection.arm: selection for selection in selections}
        self._log = AttemptLog(store, study=study, stage=STAGE)
        self._curves: dict[Key, list[Measurement]] = {
            key: list(curve) for key, curve in curves_by_trial(store.measurements(study, STAGE)).items()
        }
        known = store.replicates(study)
        by_arm = [_wanted(each, known, replicates=replicates, study_seed=seed) for each in self._selections.values()]
        self._records = {(each.arm, each.index): each for turn in zip(*by_arm, strict=True) for each in turn}
        self._supersede(known)
        self._sources = dict(_starts(by_arm, sources))
        self._waiting: deque[Key] = deque()
        self._recover()

    @property
    def is_done(self) -> bool:
        """True when every replicate has ended."""
        return all(record.state.is_final for record in self._records.values())

    def next(self) -> Assignment | None:
        """The replicates in turn, but for those whose start is not there yet."""
        ready = next((key for key in self._waiting if self._can_start(key)), None)
        if ready is None:
            return None
        self._waiting.remove(ready)
        arm, index = ready
        record = self._records[arm, index]
        self._store.record_replicate(self._study, record)
        config, directory = self._config(record), self._directory(arm, index)
        assignment = self._log.issue(arm, index, config=config, folder=self._folder, directory=directory)
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
        """Write the outcome to the attempt, then to the replicate; what memory did not hold is trained again."""
        self._log.end(assignment, outcome)
        self._resolve(assignment.arm, assignment.trial)

    def lost(self, assignment: Assignment, *, reason: str, by_itself: bool, held: float) -> None:
        """Train it again from its checkpoint, unless it has lost too many workers."""
        self._log.lose(assignment, reason=reason, by_itself=by_itself, held=held)
        self._tell(assignment.arm, f"replicate {assignment.trial}: worker lost, {reason}")
        self._resolve(assignment.arm, assignment.trial)

    def _supersede(self, known: Iterable[ReplicateRecord]) -> None:
        for record in known:
            if (record.arm, record.index) not in self._records and not record.state.is_final:
                ended = replace(record, state=TrialState.FAIL, reason="superseded: another trial was selected")
                self._store.record_replicate(self._study, ended)
                self._forget(self._directory(record.arm, record.index))

    def _recover(self) -> None:
        self._log.interrupt()
        for (arm, index), record in self._records.items():
            if record.state.is_final:
                self._forget(self._directory(arm, index))  # the last driver may have died before it did
            else:
                self._resolve(arm, index)
        for arm in self._selections:
            self._tell(arm)

    def _resolve(self, arm: str, index: int) -> None:
        source = self._sources.get((arm, index))
        if source is not None and self._records[source].state is TrialState.FAIL:
            self._settle(arm, index, _without_start(self._records[source]))
            return
        ending = self._log.ending(arm, index, self._config(self._records[arm, index]))
        if ending is None:
            self._waiting.append((arm, index))
        else:
            self._settle(arm, index, ending)

    def _can_start(self, key: Key) -> bool:
        source = self._sources.get(key)
        return source is None or self._records[source].state.is_final

    def _config(self, record: ReplicateRecord) -> Mapping[str, object]:
        source = self._sources.get((record.arm, record.index))
        return replicate_config(self._selections[record.arm], seed=record.seed, source=source)

    def _directory(self, arm: str, index: int) -> Path:
        return self._folder / replicate_folder(arm, index)

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
        self._forget(self._directory(arm, index))
        found = f"mrr {best.mrr:.4f}" if best else "not measured"
        self._tell(arm, f"replicate {index}: {outcome.state}, {found}, {outcome.reason}")
        if outcome.state is TrialState.FAIL:
            for follower in [key for key in self._waiting if self._sources.get(key) == (arm, index)]:
                self._waiting.remove(follower)
                self._resolve(*follower)

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


def replicate_config(selection: Selection, *, seed: int, source: Key | None) -> Mapping[str, object]:
    """The selection with another seed, started from a replicate of another arm where there is a source."""
    config = {**selection.config, "seed": seed}
    if source is None:
        return config
    return config | {"pretrain": {"checkpoint": str(best_checkpoint(replicate_folder(*source)))}}


def _without_start(source: ReplicateRecord) -> Outcome:
    """As its source failed: what the cluster broke is no seed that diverged."""
    what = f"replicate {source.index} of {source.arm}"
    if source.broke:
        reason = f"it starts from {what}, which failed"
        return Outcome(state=TrialState.FAIL, failure=FailureClass.BUG, reason=reason)
    reason = f"{WORKERS_LOST}: that of {what}, from which it starts"
    return Outcome(state=TrialState.FAIL, failure=FailureClass.INFRASTRUCTURE, reason=reason)


def _starts(by_arm: Iterable[Sequence[ReplicateRecord]], sources: Mapping[str, str]) -> Iterator[tuple[Key, Key]]:
    """Each replicate that starts from another one, with that one: the source's in the same place."""
    records = {each[0].arm: each for each in by_arm if each}
    for arm, source in sources.items():
        if arm in records:
            for mine, its in zip(records[arm], records[source], strict=True):
                yield (mine.arm, mine.index), (its.arm, its.index)


def _wanted(
    selection: Selection, known: Iterable[ReplicateRecord], *, replicates: int, study_seed: int
) -> list[ReplicateRecord]:
    """The replicates of a selection: those that were begun, then new ones until there are enough."""
    of_arm = [record for record in known if record.arm == selection.arm]
    begun = [record for record in of_arm if record.selection_sha256 == selection.sha256]
    unused = count(1 + max((record.index for record in of_arm), default=-1))
    fresh = (_new(selection, next(unused), study_seed=study_seed) for _ in range(replicates - len(begun)))
    return [*begun, *fresh]


def _new(selection: Selection, index: int, *, study_seed: int) -> ReplicateRecord:
    return ReplicateRecord(
        arm=selection.arm,
        index=index,
        selection_sha256=selection.sha256,
        seed=training_seed(study_seed, selection.arm, index, STAGE),
        state=TrialState.RUNNING,
        best_epoch=None,
        valid_mrr=None,
        test_metrics=(),
        cost=Cost(),
        ranks_file=None,
    )
