"""Hand-built StudyRecords for tests: {complex, transe} x {sce, sans} or less, every state, curves, replicates.

`finished()` is a study at its end. `as_of(record, time)` is the same study as it looked at an earlier
moment, so that tests can watch one grow. Everything is a function of the arguments: no clock, no
global random state. Arms run side by side on a virtual clock, one trial after the other.

Trial `number % 4` of each arm:  0 COMPLETE   1 PRUNED   2 FAIL   3 COMPLETE in its second attempt.
The FAIL of an arm of `sce` diverged after two epochs, better than any other trial till then; that of an arm of
`sans` ran out of memory before any validation, and is charged an epoch and the time until then.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from study.records import (
    Arm,
    Cost,
    Dimension,
    FailureClass,
    Measurement,
    Opening,
    Params,
    ReplicateRecord,
    Selection,
    SpaceCard,
    StudyRecord,
    TrialRecord,
    TrialState,
    Value,
)

CREATED = 1_760_000_000.125
EPOCH_SECONDS = 2.0  # on the virtual wall clock, for every arm
_TRAINING_TYPES = {"sce": "one_vs_all", "sans": "negative_sampling"}
_OBJECTIVES = {"sce": "p_d", "sans": "smoothed"}
_CEILINGS = {"complex.sce": 0.35, "complex.sans": 0.31, "transe.sce": 0.29, "transe.sans": 0.33}
_SPEC = """\
name: {name}
dataset: synthetic
seed: 7
arms: {{models: [{models}], losses: [{losses}]}}
budget: {{trials: {trials}}}
search: {{sampler: tpe, random_trials: 2}}
pruning: {{min_epochs: 2, reduction_factor: 3}}
replicates: {replicates}
fixed: {{training.max_epochs: {epochs}, model.dim: 32}}
"""


def finished(
    *,
    name: str = "two-by-two",
    models: Sequence[str] = ("complex", "transe"),
    losses: Sequence[str] = ("sce", "sans"),
    trials: int = 4,
    epochs: int = 6,
    replicates: int = 2,
) -> StudyRecord:
    """A study at its end: `trials` trials per arm, selections, `replicates` replicates per arm, test opened."""
    arms = tuple(arm(model, loss) for model in models for loss in losses)
    records = tuple(
        trial(arms[index], number, epochs=epochs, offset=0.25 * index)
        for index in range(len(arms))
        for number in range(trials)
    )
    end = max(record.ended or CREATED for record in records)
    selections = tuple(selection(arm, records, time=end + 1.0) for arm in sorted(arms, key=lambda arm: arm.name))
    lists = {"models": ", ".join(models), "losses": ", ".join(losses)}
    spec = _SPEC.format(name=name, **lists, trials=trials, replicates=replicates, epochs=epochs)
    sha256 = hashlib.sha256(spec.encode()).hexdigest()
    return StudyRecord(
        name=name,
        spec=spec,
        spec_sha256=sha256,
        launched_sha256=sha256,
        seed=7,
        dataset="synthetic",
        passport={"entities": 200, "relations": 8, "train": 3000, "valid": 200, "test": 200, "fingerprint": "f0" * 32},
        arms=arms,
        spaces=tuple(space(arm, epochs=epochs) for arm in arms),
        budget=Cost(trials=trials),
        budget_unit="trials",
        replicates=replicates,
        identical_errors=3,
        pruning=(2, 3),
        environment={"python": "3.11.2", "torch": "2.13.0", "cpu": "AMD EPYC", "git commit": "0123abc"},
        created=CREATED,
        trials=records,
        selections=selections,
        replicate_records=tuple(replicate(chosen, index) for chosen in selections for index in range(replicates)),
        openings=tuple(
            opening(chosen, replicates=tuple(range(replicates)), time=end + 60.0) for chosen in selections if replicates
        ),
    )


def running(**how: Any) -> StudyRecord:
    """The study in the middle of the last trial of every arm; arguments as of `finished`."""
    record = finished(**how)
    last_start = max(trial.started or CREATED for trial in record.trials)
    return as_of(record, last_start + 1.5 * EPOCH_SECONDS)


def as_of(record: StudyRecord, time: float) -> StudyRecord:
    """What `record` looked like at unix time `time`."""
    opened = {opening.arm for opening in record.openings if opening.time <= time}
    selected = tuple(chosen for chosen in record.selections if chosen.time <= time)
    names = {chosen.arm for chosen in selected}
    return replace(
        record,
        trials=tuple(_trial_as_of(trial, time) for trial in record.trials if (trial.started or CREATED) <= time),
        selections=selected,
        replicate_records=tuple(
            each if each.arm in opened else _unfinished(each) for each in record.replicate_records if each.arm in names
        ),
        openings=tuple(opening for opening in record.openings if opening.time <= time),
    )


def arm(model: str, loss: str) -> Arm:
    """The arm of a model and a loss on the built-in graph."""
    return Arm(
        name=f"{model}.{loss}",
        dataset="synthetic",
        model=model,
        loss=loss,
        training_type=_TRAINING_TYPES[loss],
        objective=_OBJECTIVES[loss],
        fixed=(("model.norm", 1),) if model == "transe" else (),
    )


def space(arm: Arm, *, epochs: int) -> SpaceCard:
    """The space card that `params` draws from."""
    tuned = [
        Dimension(path="optimizer.lr", kind="float", low=1e-3, high=1.0, log=True),
        Dimension(path="optimizer.name", kind="categorical", choices=("adagrad", "adam")),
        Dimension(path="training.batch_size", kind="int", low=128, high=1024, step=128),
        Dimension(path="model.dropout.entity", kind="float", low=0.0, high=0.5),
    ]
    if arm.loss == "sans":
        tuned.append(Dimension(path="loss.temperature", kind="float", low=0.1, high=2.0))
    fixed: tuple[tuple[str, Value], ...] = (
        ("training.max_epochs", epochs),
        ("model.dim", 32),
        ("training.type", arm.training_type),
        *arm.fixed,
    )
    return SpaceCard(arm=arm.name, tuned=tuple(tuned), fixed=fixed)


def params(arm: Arm, number: int) -> Params:
    """What trial `number` of the arm sampled."""
    draw = Random(f"{arm.name}/{number}")
    drawn: dict[str, Value] = {
        "optimizer.lr": 10 ** draw.uniform(-3, 0),
        "optimizer.name": draw.choice(("adagrad", "adam")),
        "training.batch_size": 128 * draw.randint(1, 8),
        "model.dropout.entity": draw.uniform(0.0, 0.5),
    }
    return drawn | ({"loss.temperature": draw.uniform(0.1, 2.0)} if arm.loss == "sans" else {})


def trial(arm: Arm, number: int, *, epochs: int, offset: float = 0.0) -> TrialRecord:
    """Trial `number` of the arm; `offset` delays the whole arm on the virtual clock."""
    state, failure, reason, length = _fate(arm, number, epochs)
    started = CREATED + 1.0 + offset + number * (epochs + 1) * EPOCH_SECONDS
    measured = curve(arm, number, started=started, epochs=length, of=epochs)
    best = max(measured, key=lambda each: each.mrr, default=None)
    return TrialRecord(
        arm=arm.name,
        number=number,
        state=state,
        params=tuple(sorted(params(arm, number).items())),
        seed=1000 + number,
        random=number < 2,
        epochs=epochs,
        best_mrr=best.mrr if best else None,
        best_epoch=best.epoch if best else None,
        attempts=2 if number % 4 == 3 else 1,
        failure=failure,
        reason=reason,
        cost=_cost(measured) if measured else Cost(trials=1, epochs=1, device_seconds=0.5),
        curve=measured,
        started=started,
        ended=started + length * EPOCH_SECONDS + 0.5,
    )


def curve(arm: Arm, number: int, *, started: float, epochs: int, of: int) -> tuple[Measurement, ...]:
    """One validation an epoch; the MRR rises towards the arm's ceiling and falls again near the end."""
    draw = Random(f"curve {arm.name}/{number}")
    ceiling = _CEILINGS[arm.name] * draw.uniform(0.6, 1.0) * (4.0 if number % 4 == 2 else 1.0)
    measured = []
    for epoch in range(1, epochs + 1):
        mrr = ceiling * (1 - math.exp(-3 * epoch / of)) - (0.02 if epoch == of else 0.0)
        others = {
            "mrr_optimistic": mrr + 1e-5,
            "mrr_pessimistic": mrr - 1e-5,
            "hits_at_1": 0.7 * mrr,
            "hits_at_3": 1.1 * mrr,
            "hits_at_10": 1.5 * mrr,
            "mean_rank": 200 * (1 - mrr),
        }
        measured.append(
            Measurement(
                arm=arm.name,
                trial=number,
                epoch=epoch,
                mrr=mrr,
                metrics=tuple(others.items()),
                loss=5.0 / epoch,
                epochs=1,
                device_seconds=EPOCH_SECONDS * draw.uniform(0.7, 0.9),
                time=started + epoch * EPOCH_SECONDS,
            )
        )
    return tuple(measured)


def selection(arm: Arm, trials: tuple[TrialRecord, ...], *, time: float) -> Selection:
    """The frozen best among the arm's completed trials."""
    candidates = [each for each in trials if each.arm == arm.name and each.state is TrialState.COMPLETE]
    best = max(candidates, key=lambda each: (each.best_mrr or 0.0, -each.number))
    assert best.best_mrr is not None
    assert best.best_epoch is not None
    fixed = {"dataset": arm.dataset, "seed": best.seed, "model.name": arm.model, "loss.name": arm.loss}
    config = nested(fixed | dict(best.params))
    frozen = {
        "arm": arm.name,
        "trial": best.number,
        "epoch": best.best_epoch,
        "valid_mrr": best.best_mrr,
        "config": config,
    }
    return Selection(
        arm=arm.name,
        trial=best.number,
        epoch=best.best_epoch,
        valid_mrr=best.best_mrr,
        config=config,
        sha256=hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest(),
        time=time,
    )


def replicate(chosen: Selection, index: int) -> ReplicateRecord:
    """Replicate `index` of a selection, trained and tested; a little worse than the search said."""
    draw = Random(f"replicate {chosen.arm}/{index}")
    mrr = chosen.valid_mrr * draw.uniform(0.93, 0.99)
    tested = {
        "mrr": mrr - 0.003,
        "hits_at_1": 0.7 * mrr,
        "hits_at_3": 1.1 * mrr,
        "hits_at_10": 1.5 * mrr,
        "mean_rank": 120.0,
    }
    return ReplicateRecord(
        arm=chosen.arm,
        index=index,
        selection_sha256=chosen.sha256,
        seed=9000 + index,
        state=TrialState.COMPLETE,
        best_epoch=chosen.epoch,
        valid_mrr=mrr,
        test_metrics=tuple(tested.items()),
        cost=Cost(trials=1, epochs=chosen.epoch, device_seconds=chosen.epoch * EPOCH_SECONDS * 0.8),
        ranks_file=f"ranks/{chosen.arm}-{index}.parquet",
    )


def opening(chosen: Selection, *, replicates: tuple[int, ...], time: float, number: int = 0) -> Opening:
    """The test split, opened for these replicates of a selection."""
    return Opening(arm=chosen.arm, number=number, selection_sha256=chosen.sha256, replicates=replicates, time=time)


def nested(flat: Mapping[str, object]) -> dict[str, object]:
    """{"a.b": 1} -> {"a": {"b": 1}}"""
    tree: dict[str, object] = {}
    for path, value in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})  # type: ignore[assignment]
        node[leaf] = value
    return tree


def unpruned(record: StudyRecord) -> StudyRecord:
    """The same study, whose pruned trials ended by themselves."""
    trials = tuple(
        replace(each, state=TrialState.COMPLETE) if each.state is TrialState.PRUNED else each for each in record.trials
    )
    return replace(record, trials=trials)


def _fate(arm: Arm, number: int, epochs: int) -> tuple[TrialState, FailureClass | None, str, int]:
    if number % 4 == 1:
        return TrialState.PRUNED, None, f"pruned at epoch {min(2, epochs)}", min(2, epochs)
    if number % 4 == 2 and arm.loss == "sce":
        return TrialState.FAIL, FailureClass.DIVERGENCE, "the loss is nan in epoch 3", min(2, epochs)
    if number % 4 == 2:
        return TrialState.FAIL, FailureClass.MEMORY, "out of memory with sub-batches of 16 rows", 0
    return TrialState.COMPLETE, None, "max_epochs", epochs


def _cost(measured: tuple[Measurement, ...]) -> Cost:
    return Cost(
        trials=1, epochs=sum(m.epochs for m in measured), device_seconds=sum(m.device_seconds for m in measured)
    )


def _trial_as_of(trial: TrialRecord, time: float) -> TrialRecord:
    if trial.ended is not None and trial.ended <= time:
        return trial
    measured = tuple(each for each in trial.curve if each.time <= time)
    best = max(measured, key=lambda each: each.mrr, default=None)
    return replace(
        trial,
        state=TrialState.RUNNING,
        best_mrr=best.mrr if best else None,
        best_epoch=best.epoch if best else None,
        failure=None,
        reason="",
        attempts=1,
        cost=_cost(measured),
        curve=measured,
        ended=None,
    )


def _unfinished(each: ReplicateRecord) -> ReplicateRecord:
    return replace(
        each,
        state=TrialState.RUNNING,
        best_epoch=None,
        valid_mrr=None,
        test_metrics=(),
        cost=Cost(trials=1),
        ranks_file=None,
    )
