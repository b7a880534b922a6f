"""What must hold of a study, whenever it is looked at and however its drivers died; each finding is a sentence."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pyarrow.parquet
from mlflow import MlflowClient

from kge.fitting import BEST
from study.budget import amount
from study.records import ReplicateRecord, Selection, StudyRecord, TrialRecord
from tests.study.front_door import Home

# A charge of a later epoch before the same epoch was measured again: the attempt began before its checkpoint.
_SET_BACK = """
SELECT wasted.arm, wasted.stage, wasted.trial, wasted.epoch, MAX(charged.epoch)
FROM kge_waste wasted JOIN kge_charges charged ON
    charged.study = wasted.study AND charged.arm = wasted.arm AND charged.stage = wasted.stage
    AND charged.trial = wasted.trial AND charged.epoch > wasted.epoch AND charged.time < wasted.time
GROUP BY wasted.arm, wasted.stage, wasted.trial, wasted.epoch
"""
_OTHER = ("attempts", "started", "ended")  # in a study that was hit than in one that was not
_LEFT_OPEN = "SELECT arm, stage, trial, attempt FROM kge_attempts WHERE ended IS NULL"


def always(home: Home, record: StudyRecord, *, width: int) -> Iterator[str]:
    """At any moment."""
    yield from _trials(record, width)
    yield from _budgets(record)
    yield from _test(record)
    for arm, stage, trial, epoch, charged in home.rows(_SET_BACK):
        yield f"{arm} {stage} {trial}: epoch {epoch} was trained again after epoch {charged} had been charged"


def since(earlier: StudyRecord, record: StudyRecord) -> Iterator[str]:
    """What was final stays as it was, and what was charged stays charged."""
    now = {_key(trial): trial for trial in record.trials}
    for trial in earlier.trials:
        then = now.get(_key(trial))
        if then is None:
            yield f"{trial.arm}/{trial.number}: is gone"
        elif then.curve[: len(trial.curve)] != trial.curve:
            yield f"{trial.arm}/{trial.number}: its charges changed"
        elif trial.state.is_final and replace(then, attempts=trial.attempts) != trial:
            yield f"{trial.arm}/{trial.number}: had ended and changed"
    for name in ("selections", "openings"):
        if missing := set(map(repr, getattr(earlier, name))) - set(map(repr, getattr(record, name))):
            yield f"{name} changed: {missing}"


def at_the_end(home: Home, record: StudyRecord) -> Iterator[str]:
    """When the study says that it is finished."""
    for arm in (arm.name for arm in record.arms):
        trials = [trial for trial in record.trials if trial.arm == arm]
        spent = sum(amount(trial.cost, record.budget_unit) for trial in trials)
        if spent != amount(record.budget, record.budget_unit):
            yield f"{arm}: spent {spent:g} of {amount(record.budget, record.budget_unit):g} {record.budget_unit}"
        replicates = [each for each in record.replicate_records if each.arm == arm]
        if len(replicates) != record.replicates or not all(each.test_metrics for each in replicates):
            yield f"{arm}: {len(replicates)} replicates of {record.replicates}, or one is not tested"
        if sum(opening.arm == arm for opening in record.openings) != 1:
            yield f"{arm}: must have one opening of the test split"
    states = [*((each.arm, each.state) for each in record.trials)]
    for arm, state in [*states, *((each.arm, each.state) for each in record.replicate_records)]:
        if not state.is_final:
            yield f"{arm}: a trial or replicate is left {state}"
    for row in home.rows(_LEFT_OPEN):
        yield f"attempt {tuple(row)} is left open"
    for row in home.rows("SELECT host, pid FROM kge_lease"):
        yield f"the lease is left with {tuple(row)}"
    yield from _files(home, record)


def differences(record: StudyRecord, undisturbed: StudyRecord) -> Iterator[str]:
    """Against a study that nothing disturbed: everything but times and the count of attempts, to the last bit."""
    for name, form in (("trials", _trial), ("selections", _selection), ("replicate_records", _replicate)):
        ours, theirs = (list(map(form, getattr(each, name))) for each in (record, undisturbed))
        if len(ours) != len(theirs):
            yield f"{len(ours)} {name} where the undisturbed study has {len(theirs)}"
        for mine, other in zip(ours, theirs, strict=False):
            if changed := [key for key in mine if mine[key] != other[key]]:
                yield f"{name} {mine['arm']}: {', '.join(changed)} differ from the undisturbed study"


def ranks_differ(home: Home, record: StudyRecord, undisturbed: Home) -> Iterator[str]:
    """The rank of every test query."""
    for file in (each.ranks_file for each in record.replicate_records if each.ranks_file):
        ours, theirs = (pyarrow.parquet.read_table(each.folder / each.study / file) for each in (home, undisturbed))
        if not ours.equals(theirs):
            yield f"{file}: differs from the undisturbed study's"


def mirrored(uri: str, record: StudyRecord) -> Iterator[str]:
    """MLflow has every run once, and all have ended."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(record.name)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    found = Counter(run.data.tags["stage"] for run in runs)
    wanted = {"study": 1, "arm": len(record.arms), "search": len(record.trials)}
    if found != wanted | {"replicate": len(record.replicate_records)}:
        yield f"MLflow has runs {dict(found)}"
    if left := sum(run.info.status == "RUNNING" for run in runs):
        yield f"MLflow has {left} runs left RUNNING"


# -- the parts -----------------------------------------------------------------------------------


def _key(trial: TrialRecord) -> tuple[str, int]:
    return trial.arm, trial.number


def _trials(record: StudyRecord, width: int) -> Iterator[str]:
    numbers = defaultdict(list)
    for trial in record.trials:
        numbers[trial.arm].append(trial.number)
        if trial.curve and trial.cost.epochs != trial.curve[-1].epoch:
            yield f"{trial.arm}/{trial.number}: charged {trial.cost.epochs} epochs and trained {trial.curve[-1].epoch}"
    for arm, found in numbers.items():
        if found != list(range(len(found))):
            yield f"{arm}: its trials are numbered {found}"
    seeds = Counter(trial.seed for trial in record.trials)
    if doubled := [seed for seed, count in seeds.items() if count > 1]:
        yield f"two trials have the seed {doubled[0]}"
    running = sum(not trial.state.is_final for trial in record.trials)
    if running > width:
        yield f"{running} trials run where {width} may"


def _budgets(record: StudyRecord) -> Iterator[str]:
    """Nobody has more than the budget, and the arms are one trial apart at most."""
    limit, worth = amount(record.budget, record.budget_unit), _worth(record)
    committed = {arm.name: _committed(record, arm.name) for arm in record.arms}
    for arm, (taken, _) in committed.items():
        if taken > limit:
            yield f"{arm}: {taken:g} charged and reserved of {limit:g}"
    sums = [taken + kept for taken, kept in committed.values()]
    if max(sums) - min(sums) > worth:
        yield f"the arms are {max(sums) - min(sums):g} {record.budget_unit} apart, a trial is worth {worth:g}"


def _committed(record: StudyRecord, arm: str) -> tuple[float, float]:
    """Charged and reserved, and what stays reserved for the next trials; by the definition and not by the ledger."""
    trials = [trial for trial in record.trials if trial.arm == arm]
    if record.budget_unit == "trials":
        return float(len(trials)), 0.0
    taken = sum(trial.cost.epochs if trial.state.is_final else max(trial.cost.epochs, trial.epochs) for trial in trials)
    events = [(trial.started or inf, -trial.epochs) for trial in trials]
    events += [(trial.ended or inf, trial.epochs - trial.cost.epochs) for trial in trials if trial.state.is_final]
    kept = 0.0
    for _, change in sorted(events):
        kept = max(0.0, kept + change)
    return float(taken), kept


def _worth(record: StudyRecord) -> float:
    return 1.0 if record.budget_unit == "trials" else max((trial.epochs for trial in record.trials), default=0.0)


def _test(record: StudyRecord) -> Iterator[str]:
    selections = {each.arm: each for each in record.selections}
    for opening in record.openings:
        chosen = selections.get(opening.arm)
        if chosen is None or opening.selection_sha256 != chosen.sha256 or opening.time < chosen.time:
            yield f"{opening.arm}: its test was opened before its selection was frozen"
    if record.openings and not all(each.state.is_final for each in record.replicate_records):
        yield "the test was opened before the last replicate had ended"
    for each in record.replicate_records:
        if each.test_metrics and each.arm not in {opening.arm for opening in record.openings}:
            yield f"{each.arm}: was tested without an opening"


def _files(home: Home, record: StudyRecord) -> Iterator[str]:
    root = home.folder / home.study
    for kind in ("trials", "replicates"):
        for folder in sorted((root / kind).glob("*/*")):
            names = {file.name for file in folder.iterdir()}
            if names != {BEST, "lock"}:
                yield f"{folder.relative_to(root)} holds {', '.join(sorted(names))}"
    written = json.loads((root / "selection.json").read_text())["selections"]
    if [each["sha256"] for each in written] != [each.sha256 for each in record.selections]:
        yield "selection.json says something else than the database"
    reported = json.loads((root / "report" / "record.json").read_text())
    if not (root / "report" / "index.html").is_file() or not reported:
        yield "the report is not whole"


def _trial(trial: TrialRecord) -> dict[str, Any]:
    fields = vars(trial) | {"cost": replace(trial.cost, device_seconds=0.0)}
    fields["curve"] = [vars(each) | {"time": 0, "device_seconds": 0} for each in trial.curve]
    return {key: value for key, value in fields.items() if key not in _OTHER}


def _selection(selection: Selection) -> dict[str, Any]:
    return vars(selection) | {"time": 0}


def _replicate(replicate: ReplicateRecord) -> dict[str, Any]:
    fields = vars(replicate) | {"cost": replace(replicate.cost, device_seconds=0.0)}
    return {key: value for key, value in fields.items() if key not in _OTHER}
