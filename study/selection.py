"""The frozen best of each arm, written and hashed before anything is done with it.

    selection = argmax over COMPLETE trials of the best validation MRR      ties: the lowest number
    sha256    = of the canonical JSON of arm, trial, epoch, valid_mrr, config

The database decides (what is frozen first stays); selection.json says the same beside it. After an
amendment that gave an arm more trials a better one is its next selection, as long as the arm's test split
was not opened or may be opened again (study.opening); the earlier selection is kept.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kge.files import write_atomically
from study.pretraining import best_trial
from study.records import Selection, TrialRecord
from study.sealing import sealed, stands
from study.space import Space
from study.store import Store


def freeze(
    store: Store, *, study: str, folder: Path, spaces: Mapping[str, Space], trials: Iterable[TrialRecord]
) -> list[Selection]:
    """Select and freeze; the current selections. Arms without a COMPLETE trial have none, sealed ones keep theirs."""
    closed = sealed(store.openings(study), store.amendments(study))
    frozen = {selection.arm: selection for selection in current(store.selections(study))}
    for arm, trial in _best(trials).items():
        before = frozen.get(arm)
        if before is None or not stands(before, trial, sealed=closed):
            number = before.number + 1 if before else 0
            store.record_selection(study, _selection(trial, config=_config(spaces[arm], trial), number=number))
    every = store.selections(study)
    chosen = current(every)
    earlier = [vars(selection) for selection in every if selection not in chosen]
    content = {"study": study, "selections": [vars(selection) for selection in chosen], "earlier": earlier}
    write_atomically(folder / "selection.json", json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
    return chosen


def current(selections: Sequence[Selection]) -> list[Selection]:
    """The latest of each arm, by arm."""
    latest = {each.arm: each for each in sorted(selections, key=lambda each: (each.arm, each.number))}
    return list(latest.values())


def canonical(fields: Mapping[str, object]) -> bytes:
    """JSON with sorted keys and no spaces: the same fields are the same bytes."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _best(trials: Iterable[TrialRecord]) -> Mapping[str, TrialRecord]:
    by_arm: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        by_arm.setdefault(trial.arm, []).append(trial)
    best = {arm: best_trial(each) for arm, each in by_arm.items()}
    return {arm: trial for arm, trial in best.items() if trial is not None}


def _config(space: Space, trial: TrialRecord) -> Mapping[str, object]:
    """What the trial was trained with; one that its arm's budget ended is repeated as far as it came."""
    end = {"training.stop_epoch": trial.curve[-1].epoch} if trial.is_truncated else {}
    return space.config({**dict(trial.params), **end, **space.start(trial.source)}, trial.seed)


def _selection(trial: TrialRecord, *, config: Mapping[str, object], number: int) -> Selection:
    assert trial.best_mrr is not None and trial.best_epoch is not None, trial
    fields: dict[str, Any] = {
        "arm": trial.arm,
        "trial": trial.number,
        "epoch": trial.best_epoch,
        "valid_mrr": trial.best_mrr,
        "config": config,
    }
    sha256 = hashlib.sha256(canonical(fields)).hexdigest()
    return Selection(**fields, sha256=sha256, time=time.time(), number=number)
