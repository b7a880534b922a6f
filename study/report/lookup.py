"""What belongs to one arm of a record, and which of its trials is its best."""

from dataclasses import dataclass

from study.pretraining import best_trial
from study.records import Arm, ArmStop, Opening, ReplicateRecord, Selection, SpaceCard, StudyRecord, TrialRecord


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """All that a study recorded of one arm."""

    arm: Arm
    trials: tuple[TrialRecord, ...]  # by number
    replicates: tuple[ReplicateRecord, ...]  # of the selection, by index
    openings: tuple[Opening, ...]  # by time
    selections: tuple[Selection, ...]  # by number; more than one after an amendment
    space: SpaceCard | None
    stop: ArmStop | None  # why it gets no more trials

    @property
    def name(self) -> str:
        """Of the arm."""
        return self.arm.name

    @property
    def selection(self) -> Selection | None:
        """The latest, the one that counts."""
        return self.selections[-1] if self.selections else None

    @property
    def best(self) -> TrialRecord | None:
        """The trial that was selected, or the one that would be if the search ended now."""
        if self.selection is not None:
            return next((trial for trial in self.trials if trial.number == self.selection.trial), None)
        return best_trial(self.trials)

    @property
    def search_best(self) -> float | None:
        """Validation MRR of the best trial: a maximum over trials, hence optimistic."""
        if self.selection is not None:
            return self.selection.valid_mrr
        return None if self.best is None else self.best.best_mrr

    @property
    def tested(self) -> tuple[ReplicateRecord, ...]:
        """The replicates that were ranked on the test split."""
        return tuple(replicate for replicate in self.replicates if replicate.test_metrics)

    @property
    def broken(self) -> int:
        """Fresh seeds that failed, and not by the cluster."""
        return sum(replicate.broke for replicate in self.replicates)


def by_arm(record: StudyRecord) -> tuple[ArmRecord, ...]:
    """The record cut into arms, in the order of the study."""
    return tuple(_of(record, arm) for arm in record.arms)


def _of(record: StudyRecord, arm: Arm) -> ArmRecord:
    name = arm.name
    return ArmRecord(
        arm=arm,
        trials=tuple(sorted(record.trials_of(name), key=lambda t: t.number)),
        replicates=tuple(sorted(record.current_replicates(name), key=lambda r: r.index)),
        openings=tuple(sorted((o for o in record.openings if o.arm == name), key=lambda o: o.time)),
        selections=tuple(sorted((s for s in record.selections if s.arm == name), key=lambda s: s.number)),
        space=record.space_of(name),
        stop=next((stop for stop in record.stops if stop.arm == name), None),
    )
