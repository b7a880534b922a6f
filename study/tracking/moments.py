"""When the things of a study happened: the stored times that make sending twice the same as sending once."""

from study.records import StudyRecord, TrialRecord, TrialState


def milliseconds(seconds: float) -> int:
    """A unix time as MLflow counts it."""
    return round(seconds * 1000)


def settled_at(record: StudyRecord, trial: TrialRecord) -> float:
    """When a final trial ended, or the last that is known of it."""
    if trial.ended is not None:
        return trial.ended
    return trial.curve[-1].time if trial.curve else trial.started or record.created


def selected_at(record: StudyRecord, arm: str) -> float:
    """When the arm's best was frozen."""
    return next((each.time for each in record.selections if each.arm == arm), record.created)


def opened_at(record: StudyRecord, arm: str) -> float | None:
    """The first opening of test: a later one must not repeat the points of the first with another time."""
    return min((each.time for each in record.openings if each.arm == arm), default=None)


def is_done(record: StudyRecord, arm: str) -> bool:
    """True when nothing more will come: all replicates are through, or others were selected and this arm had none."""
    if not any(each.arm == arm for each in record.selections):
        return bool(record.selections)
    replicates = [each for each in record.replicate_records if each.arm == arm]
    through = [each for each in replicates if each.test_metrics or each.state is TrialState.FAIL]
    return len(through) == len(replicates) >= record.replicates


def last_event(record: StudyRecord, arm: str) -> float:
    """When the last known thing happened to the arm."""
    trials = (settled_at(record, trial) for trial in record.trials if trial.arm == arm)
    selected = (each.time for each in record.selections if each.arm == arm)
    opened = (each.time for each in record.openings if each.arm == arm)
    return max((*trials, *selected, *opened), default=record.created)
