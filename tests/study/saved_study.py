"""Writes a StudyRecord into a real database, as a driver would have left it there."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from study.arms import Arms
from study.records import Cost, Dimension, Measurement, Outcome, ReplicateRecord, StudyRecord, TrialRecord, Value
from study.store import AttemptRecord, Registration, Store


def save(record: StudyRecord, database: str) -> None:
    """Write everything of the record; `study.history.study_record` gives it back."""
    with closing(Store(database)) as store:
        registration = Registration(**{name: getattr(record, name) for name in Registration.__annotations__})
        store.register_study(registration)
        with closing(Arms(database, record.name)):
            storage = optuna.storages.RDBStorage(database)
            for trial in record.trials:
                _save_trial(record, trial, store, storage)
        for chosen in record.selections:
            store.record_selection(record.name, chosen)
        for replicate in record.replicate_records:
            store.record_replicate(record.name, replicate)
            for measurement in _training_of(replicate):
                store.charge(record.name, "replicate", measurement)
        for opening in record.openings:
            store.record_opening(record.name, opening)
        for amendment in record.amendments:
            amended = replace(registration, spec=amendment.spec, spec_sha256=amendment.spec_sha256)
            store.amend_study(amended, amendment, file=None)


def _save_trial(record: StudyRecord, trial: TrialRecord, store: Store, storage: optuna.storages.RDBStorage) -> None:
    card = next(card for card in record.spaces if card.arm == trial.arm)
    study = optuna.create_study(
        study_name=f"{record.name}/{trial.arm}", storage=storage, direction="maximize", load_if_exists=True
    )
    study.add_trial(_optuna_trial(trial, {each.path: _distribution(each) for each in card.tuned}))
    for measurement in trial.curve:
        store.charge(record.name, "search", measurement)
    for attempt in range(trial.attempts):
        key = {"arm": trial.arm, "stage": "search", "trial": trial.number, "attempt": attempt}
        unmeasured = Cost() if trial.curve or attempt < trial.attempts - 1 else replace(trial.cost, trials=0)
        outcome = Outcome(state=trial.state, failure=trial.failure, reason=trial.reason, unmeasured=unmeasured)
        started, ended = trial.started or 0.0, trial.ended
        store.record_attempt(
            record.name,
            AttemptRecord(**key, started=started, ended=ended, outcome=None if ended is None else outcome),  # type: ignore[arg-type]
        )


def _optuna_trial(trial: TrialRecord, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    told: dict[str, Value] = {
        "seed": trial.seed,
        "random": trial.random,
        "epochs": trial.epochs,
        "best_mrr": trial.best_mrr,
        "best_epoch": trial.best_epoch,
    }
    told |= {"source": trial.source} if trial.source is not None else {}
    told |= {"failure": trial.failure.value if trial.failure else None, "reason": trial.reason}
    succeeded = trial.state.name in {"COMPLETE", "PRUNED"}
    return FrozenTrial(
        number=trial.number,
        trial_id=-1,
        state=optuna.trial.TrialState[trial.state.name],
        value=trial.best_mrr if succeeded else None,
        datetime_start=datetime.fromtimestamp(trial.started or 0.0),
        datetime_complete=None if trial.ended is None else datetime.fromtimestamp(trial.ended),
        params=dict(trial.params),
        distributions=distributions,
        user_attrs=told,
        system_attrs={},
        intermediate_values={each.epoch: each.mrr for each in trial.curve},
    )


def _training_of(replicate: ReplicateRecord) -> Iterator[Measurement]:
    """One validation that carries the replicate's whole cost."""
    if replicate.cost.epochs:
        yield Measurement(
            arm=replicate.arm,
            trial=replicate.index,
            epoch=replicate.cost.epochs,
            mrr=replicate.valid_mrr or 0.0,
            metrics=(),
            loss=1.0,
            epochs=replicate.cost.epochs,
            device_seconds=replicate.cost.device_seconds,
            time=0.0,
        )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "categorical":
        return CategoricalDistribution(dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind == "int":
        return IntDistribution(int(dimension.low), int(dimension.high), step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
