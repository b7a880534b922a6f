"""The frozen best of each arm, written and hashed before anything is done with it.

    selection = argmax over COMPLETE trials of the best validation MRR      ties: the lowest number
    sha256    = of the canonical JSON of arm, trial, epoch, valid_mrr, config

The database decides (what is frozen first stays); selection.json says the same beside it.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kge.files import write_atomically
from study.records import Selection, TrialRecord
from study.space import Space
from study.store import Store


def freeze(
    store: Store, *, study: str, folder: Path, spaces: Mapping[str, Space], trials: Iterable[TrialRecord]
) -> list[Selection]:
    """Select and freeze; arms without a COMPLETE trial have no selection. What is frozen stays as it is."""
    frozen = {selection.arm for selection in store.selections(study)}
    best: dict[str, TrialRecord] = {}
    for trial in trials:
        if trial.is_selectable and trial.arm not in frozen:
            best[trial.arm] = max(best.get(trial.arm, trial), trial, key=_rank)
    for arm, trial in best.items():
        store.record_selection(study, _selection(trial, spaces[arm].config(dict(trial.params), trial.seed)))
    selections = store.selections(study)
    content = {"study": study, "selections": [vars(selection) for selection in selections]}
    write_atomically(folder / "selection.json", json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
    return selections


def canonical(fields: Mapping[str, object]) -> bytes:
    """JSON with sorted keys and no spaces: the same fields are the same bytes."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _rank(trial: TrialRecord) -> tuple[float, int]:
    assert trial.best_mrr is not None, trial
    return trial.best_mrr, -trial.number


def _selection(trial: TrialRecord, config: Mapping[str, object]) -> Selection:
    assert trial.best_mrr is not None and trial.best_epoch is not None, trial
    fields: dict[str, Any] = {
        "arm": trial.arm,
        "trial": trial.number,
        "epoch": trial.best_epoch,
        "valid_mrr": trial.best_mrr,
        "config": config,
    }
    return Selection(**fields, sha256=hashlib.sha256(canonical(fields)).hexdigest(), time=time.time())
