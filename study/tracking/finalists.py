"""Which checkpoint stands for a finished arm; pure.

That of the replicate with the best validation MRR among those of the arm's current selection, the lowest index
on ties; where none completed, that of the selected trial. What they reached on test decides nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from study.history import is_done
from study.layout import best_checkpoint, replicate_folder, trial_folder
from study.records import Arm, StudyRecord, TrialState
from study.tracking.moments import milliseconds


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A finished arm's one model."""

    key: str  # names the model for ever, whatever MLflow calls it
    name: str  # under which it is registered
    dataset: str
    source: str  # "replicate 3" or "trial 17"
    checkpoint: Path  # relative to the study's folder
    valid_mrr: float


def finalist(record: StudyRecord, arm: Arm) -> Finalist | None:
    """The model of an arm that is done and has selected something."""
    chosen = record.current_selection(arm.name)
    if chosen is None or not is_done(record, arm.name):
        return None
    trained = (each for each in record.current_replicates(arm.name) if each.state is TrialState.COMPLETE)
    reached = {each.index: each.valid_mrr for each in trained if each.valid_mrr is not None}
    if reached:
        stage, number = "replicate", max(reached, key=lambda index: (reached[index], -index))
        folder = replicate_folder(arm.name, number)
    else:
        stage, number = "trial", chosen.trial
        folder = trial_folder(arm.name, number)
    return Finalist(
        key="/".join((str(milliseconds(record.created)), arm.name, chosen.sha256[:16], stage, str(number))),
        name=f"{record.name}.{arm.name}",
        dataset=arm.dataset,
        source=f"{stage} {number}",
        checkpoint=best_checkpoint(folder),
        valid_mrr=reached.get(number, chosen.valid_mrr),
    )
