"""What belongs to one arm of a record, and which of its trials is its best."""

from dataclasses import dataclass

from study.records import Arm, Opening, ReplicateRecord, Selection, SpaceCard, StudyRecord, TrialRecord


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """All that a study recorded of one arm."""

    arm: Arm
    trials: tuple[TrialRecord, ...]  # by number
    replicates: tuple[ReplicateRecord, ...]  # by index
    openings: tuple[Opening, ...]  # by time
    selection: Selection | None
    space: SpaceCard | None

    @property
    def best(self) -> TrialRecord | None:
        """The trial that was selected, or the one that would be if the search ended now."""
        if self.selection is not None:
            return next((trial for trial in self.trials if trial.number == self.selection.trial), None)
        candidates = [trial for trial in self.trials if trial.is_selectable]
        return max(candidates, key=lambda trial: (trial.best_mrr or 0.0, -trial.number), default=None)

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


def by_arm(record: StudyRecord) -> tuple[ArmRecord, ...]:
    """The record cut into arms, in the order of the study."""
    return tuple(_of(record, arm) for arm in record.arms)


def _of(record: StudyRecord, arm: Arm) -> ArmRecord:
    name = arm.name
    return ArmRecord(
        arm=arm,
        trials=tuple(sorted((t for t in record.trials if t.arm == name), key=lambda t: t.number)),
        replicates=tuple(sorted((r for r in record.replicate_records if r.arm == name), key=lambda r: r.index)),
        openings=tuple(sorted((o for o in record.openings if o.arm == name), key=lambda o: o.time)),
        selection=next((selection for selection in record.selections if selection.arm == name), None),
        space=next((card for card in record.spaces if card.arm == name), None),
    )
