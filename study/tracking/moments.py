"""When the things of a study happened: the stored times that make sending twice the same as sending once."""

from study.records import Opening, ReplicateRecord, StudyRecord, TrialRecord


def milliseconds(seconds: float) -> int:
    """A unix time as MLflow counts it."""
    return round(seconds * 1000)


def settled_at(record: StudyRecord, trial: TrialRecord) -> float:
    """When a final trial ended, or the last that is known of it."""
    if trial.ended is not None:
        return trial.ended
    return trial.curve[-1].time if trial.curve else trial.started or record.created


def selected_at(record: StudyRecord, replicate: ReplicateRecord) -> float:
    """When what the replicate repeats was frozen."""
    chosen = (each.time for each in record.selections if each.sha256 == replicate.selection_sha256)
    return next(chosen, record.created)


def openings_of(record: StudyRecord, arm: str) -> list[Opening]:
    """The openings of the arm's test split, in their order."""
    return sorted((each for each in record.openings if each.arm == arm), key=lambda each: each.number)


def opened_at(record: StudyRecord, replicate: ReplicateRecord) -> float | None:
    """The first opening that covers the replicate: a later one must not repeat its points with another time."""
    covering = (each.time for each in openings_of(record, replicate.arm) if replicate.index in each.replicates)
    return next(covering, None)


def last_event(record: StudyRecord, arm: str) -> float:
    """When the last known thing happened to the arm."""
    trials = (settled_at(record, trial) for trial in record.trials_of(arm))
    selected = (each.time for each in record.selections if each.arm == arm)
    opened = (each.time for each in record.openings if each.arm == arm)
    return max((*trials, *selected, *opened), default=record.created)
