"""What MLflow should hold of a study: a pure function of its record.

    experiment                 one per study
      study                    spec, budget; totals and parity by charged trials
        arm                    space card; best so far and cost by charged trials; replicate statistics
          trial | replicate    parameters, curves by epoch, cost, state

Study, data set, its fingerprint, commit, stage and state are tags of every run, arm, model and loss of those from
the arms down, seed and attempts of every training, so that searching and grouping work without the nesting.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from study.history import is_done
from study.pretraining import best_trial, start_text
from study.records import (
    Arm,
    Dimension,
    Place,
    ReplicateRecord,
    Selection,
    SpaceCard,
    StudyRecord,
    TrialRecord,
    TrialState,
    Value,
)
from study.tracking.finalists import Finalist, finalist
from study.tracking.moments import last_event, milliseconds, opened_at, selected_at, settled_at
from study.tracking.points import (
    Point,
    allowed_name,
    arm_points,
    replicate_points,
    study_points,
    trial_points,
)

_STATUS = {
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
}


@dataclass(frozen=True, kw_only=True)
class DesiredRun:
    """One run as MLflow should hold it; `start` and `end` are in milliseconds."""

    key: str  # names the run for ever, whatever MLflow calls it
    parent: str | None  # the key of the run above
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...]
    status: str
    start: int
    end: int | None
    absent: tuple[str, ...] = ()  # tags that it may have had
    artifacts: tuple[tuple[str, str], ...] = ()  # path and text
    model: Finalist | None = None  # of an arm that is finished


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a study, each after the run above it."""

    experiment: str
    created: str  # tells the study from an earlier one of the same name in the same experiment
    runs: tuple[DesiredRun, ...]


def project(record: StudyRecord) -> Plan:
    """The runs that MLflow should hold of this study."""
    return Plan(experiment=record.name, created=str(milliseconds(record.created)), runs=tuple(_runs(record)))


def _runs(record: StudyRecord) -> Iterator[DesiredRun]:
    places = {(each.arm, each.stage, each.trial): each for each in record.places}  # of the last attempt
    yield _study_run(record)
    for arm in record.arms:
        yield _arm_run(record, arm)
        for trial in record.trials:
            if trial.arm == arm.name:
                yield _trial_run(record, arm, trial, places.get((arm.name, "search", trial.number)))
        for replicate in record.replicate_records:
            if replicate.arm == arm.name:
                yield _replicate_run(record, arm, replicate, places.get((arm.name, "replicate", replicate.index)))


def _study_run(record: StudyRecord) -> DesiredRun:
    done = all(is_done(record, arm.name) for arm in record.arms)
    tags = _common(record, record.created) | {"dataset": record.dataset, "stage": "study", "state": _state(done)}
    # What an amendment changes cannot be a parameter: these stay what they are in MLflow.
    tags |= {
        "seed": record.seed,
        "spec_sha256": record.spec_sha256,
        "launched_sha256": record.launched_sha256,
        "budget": getattr(record.budget, record.budget_unit),
        "arms": len(record.arms),
        "replicates": record.replicates,
    }
    tags |= {f"amendment.{each.number}": "; ".join(each.changes) for each in record.amendments}
    params: dict[str, Value] = {"seed": record.seed, "dataset": record.dataset, "budget_unit": record.budget_unit}
    passport = json.dumps(dict(record.passport), indent=2, sort_keys=True, default=str)
    return DesiredRun(
        key=_key(record, "study"),
        parent=None,
        name=record.name,
        tags=_tags(tags | {f"environment.{name}": value for name, value in record.environment.items()}),
        params=_params(params),
        points=tuple(study_points(record)),
        status="FINISHED" if done else "RUNNING",
        start=milliseconds(record.created),
        end=milliseconds(max(last_event(record, arm.name) for arm in record.arms)) if done else None,
        artifacts=(("study.yaml", record.spec), ("passport.json", passport)),
    )


def _arm_run(record: StudyRecord, arm: Arm) -> DesiredRun:
    done = is_done(record, arm.name)
    trials = record.trials_of(arm.name)
    chosen = record.current_selection(arm.name)
    own: dict[str, Value] = {
        "stage": "arm",
        "state": _state(done),
        "starts_from": start_text(arm, trials) if arm.starts_elsewhere else None,
        "stopped": next((each.said for each in record.stops if each.arm == arm.name), None),
        "attempts": sum(trial.attempts for trial in trials),
        "best_trial": _best_trial(trials, chosen),
        "selection_sha256": chosen.sha256 if chosen else None,
    }
    return DesiredRun(
        key=_key(record, "arm", arm.name),
        parent=_key(record, "study"),
        name=arm.name,
        tags=_tags(_common(record, record.created) | _arm_tags(arm) | own),
        params=_params(_card(arm, record.space_of(arm.name))),
        points=tuple(arm_points(record, arm.name)),
        status="FINISHED" if done else "RUNNING",
        start=milliseconds(record.created),
        end=milliseconds(last_event(record, arm.name)) if done else None,
        absent=() if own["stopped"] else ("stopped",),  # an amendment may let it go on
        model=finalist(record, arm),
    )


def _trial_run(record: StudyRecord, arm: Arm, trial: TrialRecord, place: Place | None) -> DesiredRun:
    own: dict[str, Value] = {
        "stage": "search",
        "state": trial.state.value,
        "failure": trial.failure.value if trial.failure else None,
        "reason": trial.reason or None,
        "attempts": trial.attempts,
        "trial": trial.number,
        "seed": trial.seed,
        "random": trial.random,
    }
    return DesiredRun(
        key=_key(record, "search", arm.name, trial.number),
        parent=_key(record, "arm", arm.name),
        name=f"{arm.name}/{trial.number}",
        tags=_tags(_common(record, trial.started) | _arm_tags(arm) | _place_tags(place) | own),
        params=_params(dict(trial.params)),
        points=tuple(trial_points(record, trial)),
        status=_STATUS[trial.state],
        start=milliseconds(record.created if trial.started is None else trial.started),
        end=milliseconds(settled_at(record, trial)) if trial.state.is_final else None,
    )


def _replicate_run(record: StudyRecord, arm: Arm, replicate: ReplicateRecord, place: Place | None) -> DesiredRun:
    selected, opened = selected_at(record, replicate), opened_at(record, replicate)
    chosen = next((each.trial for each in record.selections if each.sha256 == replicate.selection_sha256), None)
    winner = next((each for each in record.trials if (each.arm, each.number) == (arm.name, chosen)), None)
    own: dict[str, Value] = {
        "stage": "replicate",
        "state": replicate.state.value,
        "failure": replicate.failure.value if replicate.failure else None,
        "reason": replicate.reason or None,
        "attempts": replicate.attempts,
        "replicate": replicate.index,
        "selection_sha256": replicate.selection_sha256,
        "seed": replicate.seed,
    }
    return DesiredRun(
        key=_key(record, "replicate", arm.name, replicate.index),
        parent=_key(record, "arm", arm.name),
        name=f"{arm.name}/replicate-{replicate.index}",
        tags=_tags(_common(record, replicate.started) | _arm_tags(arm) | _place_tags(place) | own),
        params=_params(dict(winner.params) if winner else {}),
        points=tuple(replicate_points(record, replicate)),
        status=_STATUS[replicate.state],
        start=milliseconds(selected),
        end=milliseconds(selected if opened is None else opened) if replicate.state.is_final else None,
    )


def _common(record: StudyRecord, since: float | None) -> dict[str, Value]:
    """What every run has; `since` is when its work began, by the programs that the study had then."""
    commit = record.environment_at(since).get("git commit")
    return {"study": record.name, "fingerprint": str(record.passport.get("fingerprint", "")) or None, "commit": commit}


def _arm_tags(arm: Arm) -> dict[str, Value]:
    return {
        "arm": arm.name,
        "dataset": arm.dataset,
        "model": arm.model,
        "loss": arm.loss,
        "training_type": arm.training_type,
        "objective": arm.objective,
    }


def _place_tags(place: Place | None) -> dict[str, Value]:
    """Where the last attempt ran, as far as that is known."""
    return {} if place is None else {"host": place.host, "device": place.device}


def _card(arm: Arm, card: SpaceCard | None) -> dict[str, Value]:
    """The space card: `space.<path>` for what is tuned, `fixed.<path>` for what is not."""
    fixed = dict(arm.fixed) | (dict(card.fixed) if card else {})
    tuned = {each.path: _in_words(each) for each in (card.tuned if card else ())}
    return {f"fixed.{path}": value for path, value in fixed.items()} | {f"space.{p}": text for p, text in tuned.items()}


def _in_words(dimension: Dimension) -> str:
    """`float [0.001, 1] log`, `int [128, 1024] step 128` or `{adagrad, adam}`."""
    if dimension.kind == "categorical":
        return "{" + ", ".join(_text(choice) for choice in dimension.choices) + "}"
    step = "" if dimension.step is None else f" step {dimension.step:g}"
    return f"{dimension.kind} [{dimension.low:g}, {dimension.high:g}]{step}{' log' if dimension.log else ''}"


def _best_trial(trials: Sequence[TrialRecord], chosen: Selection | None) -> int | None:
    """The frozen one; before there is one, the best so far."""
    if chosen:
        return chosen.trial
    best = best_trial(trials)
    return best.number if best else None


def _key(record: StudyRecord, *parts: object) -> str:
    return "/".join(map(str, (milliseconds(record.created), *parts)))


def _state(done: bool) -> str:
    return (TrialState.COMPLETE if done else TrialState.RUNNING).value


def _tags(values: Mapping[str, Value]) -> dict[str, str]:
    """What does not apply has no tag."""
    return {allowed_name(name): _text(value) for name, value in values.items() if value is not None}


def _params(values: Mapping[str, Value]) -> dict[str, str]:
    return {allowed_name(name): _text(value) for name, value in values.items()}


def _text(value: Value) -> str:
    """As YAML writes it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
