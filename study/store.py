"""Everything of a study that must survive a crash, in tables beside Optuna's own.

A charge is keyed by (study, arm, stage, trial, epoch): whatever is killed and run again, an epoch is
charged once; the same epoch measured by another attempt goes to the waste. All writes are idempotent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from study.database import Database, retried
from study.errors import StudyExistsError, UnknownStudyError
from study.lease import Lease, lease_table
from study.records import (
    Arm,
    Cost,
    FailureClass,
    Measurement,
    Opening,
    Outcome,
    ReplicateRecord,
    Selection,
    SpaceCard,
    TrialState,
)

_TABLES = sa.MetaData()
_NAME = sa.String(255)
_WORD = sa.String(32)
_SHA256 = sa.String(64)


def _table(name: str, key: Mapping[str, Any], values: Mapping[str, Any], optional: Mapping[str, Any]) -> sa.Table:
    return sa.Table(
        name,
        _TABLES,
        *(sa.Column(column, kind, primary_key=True) for column, kind in key.items()),
        *(sa.Column(column, kind, nullable=False) for column, kind in values.items()),
        *(sa.Column(column, kind, nullable=True) for column, kind in optional.items()),
    )


_TRIAL = {"study": _NAME, "arm": _NAME, "stage": _WORD, "trial": sa.Integer}
_COST = {"epochs": sa.Integer, "device_seconds": sa.Double}

_studies = _table(
    "kge_studies",
    {"name": _NAME},
    {
        "spec": sa.Text,
        "spec_sha256": _SHA256,
        "seed": sa.BigInteger,
        "dataset": sa.Text,
        "passport": sa.Text,
        "arms": sa.Text,
        "spaces": sa.Text,
        "budget": sa.Text,
        "budget_unit": _WORD,
        "replicates": sa.Integer,
        "environment": sa.Text,
        "created": sa.Double,
    },
    {},
)
_charges = _table(
    "kge_charges",
    {**_TRIAL, "epoch": sa.Integer},
    {"mrr": sa.Double, "metrics": sa.Text, "loss": sa.Double, **_COST, "time": sa.Double},
    {},
)
_waste = _table("kge_waste", {**_TRIAL, "epoch": sa.Integer, "time": sa.Double}, _COST, {})
_attempts = _table(
    "kge_attempts",
    {**_TRIAL, "attempt": sa.Integer},
    {"started": sa.Double, "state": _WORD, "reason": sa.Text},
    {"ended": sa.Double, "failure": _WORD},
)
_selections = _table(
    "kge_selections",
    {"study": _NAME, "arm": _NAME},
    {
        "trial": sa.Integer,
        "epoch": sa.Integer,
        "valid_mrr": sa.Double,
        "config": sa.Text,
        "sha256": _SHA256,
        "time": sa.Double,
    },
    {},
)
_replicates = _table(
    "kge_replicates",
    {"study": _NAME, "arm": _NAME, "replicate": sa.Integer},
    {"seed": sa.BigInteger, "state": _WORD, "test_metrics": sa.Text, "reason": sa.Text},
    {"best_epoch": sa.Integer, "valid_mrr": sa.Double, "ranks_file": sa.Text},
)
_openings = _table("kge_openings", {"study": _NAME, "arm": _NAME, "selection_sha256": _SHA256}, {"time": sa.Double}, {})
_lease = lease_table(_TABLES)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A study as it was declared; written once, never changed."""

    name: str
    spec: str
    spec_sha256: str
    seed: int
    dataset: str
    passport: Mapping[str, object]
    arms: tuple[Arm, ...]
    spaces: tuple[SpaceCard, ...]
    budget: Cost
    budget_unit: str
    replicates: int
    environment: Mapping[str, str]
    created: float


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """One execution of a trial or replicate. An outcome in state RUNNING says that it was interrupted."""

    arm: str
    stage: str
    trial: int
    attempt: int
    started: float
    ended: float | None = None
    outcome: Outcome | None = None


class Store:
    """Reads and writes of one database; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = Database(url, _TABLES)

    def close(self) -> None:
        """Give back all connections."""
        self._database.engine.dispose()

    def lease(self, study: str) -> Lease:
        """The lease of a study, not taken yet."""
        return Lease(self._database, _lease, study)

    # -- studies ---------------------------------------------------------------------------------

    @retried
    def register_study(self, study: Registration) -> None:
        """Write a new study; StudyExistsError when the name is taken."""
        row = {name: _REGISTRATION[name].encode(value) for name, value in vars(study).items()}
        if not self._database.insert(_studies, row) and self.registration(study.name) != study:
            raise StudyExistsError(f"study {study.name!r} exists; `study resume {study.name}` continues it")

    @retried
    def registration(self, name: str) -> Registration:
        """The study as declared; UnknownStudyError when there is none."""
        rows = self._database.select(_studies, name=name)
        if not rows:
            known = ", ".join(self.study_names()) or "none"
            raise UnknownStudyError(f"study {name!r} is unknown here (known: {known})")
        return Registration(**{column: _REGISTRATION[column].decode(value) for column, value in rows[0].items()})

    @retried
    def study_names(self) -> list[str]:
        """Names of all studies in the database."""
        return [row["name"] for row in self._database.select(_studies)]

    # -- charges ---------------------------------------------------------------------------------

    @retried
    def charge(self, study: str, stage: str, measurement: Measurement) -> bool:
        """Charge a measurement; False when another attempt had charged its epoch: then it is waste."""
        fields = dict(vars(measurement))
        key = {"study": study, "stage": stage} | {name: fields[name] for name in ("arm", "trial", "epoch")}
        metrics = json.dumps(dict(fields.pop("metrics")))
        if self._database.insert(_charges, {**key, **fields, "metrics": metrics}):
            return True
        if self._database.select(_charges, **key)[0]["time"] == measurement.time:
            return True  # our own row, whose answer was lost
        self._database.insert(_waste, key | {name: fields[name] for name in ("epochs", "device_seconds", "time")})
        return False

    @retried
    def measurements(self, study: str, stage: str) -> list[Measurement]:
        """All that was charged in a stage, by arm, trial and epoch."""
        return [_measurement(row) for row in self._database.select(_charges, study=study, stage=stage)]

    @retried
    def wasted(self, study: str) -> Cost:
        """What was measured again after it had been charged."""
        rows = self._database.select(_waste, study=study)
        spent = (Cost(epochs=row["epochs"], device_seconds=row["device_seconds"]) for row in rows)
        return sum(spent, start=Cost())

    # -- attempts --------------------------------------------------------------------------------

    @retried
    def record_attempt(self, study: str, attempt: AttemptRecord) -> None:
        """Write an attempt: without outcome when it starts, with one when it ends."""
        names = ("arm", "stage", "trial", "attempt")
        key = {"study": study} | {name: getattr(attempt, name) for name in names}
        outcome = attempt.outcome or Outcome(state=TrialState.RUNNING)
        failure = outcome.failure.value if outcome.failure else None
        ended = {"ended": attempt.ended, "state": outcome.state.value, "failure": failure, "reason": outcome.reason}
        self._database.upsert(_attempts, key, {"started": attempt.started, **ended})

    @retried
    def attempts(self, study: str, stage: str) -> list[AttemptRecord]:
        """All attempts of a stage, by arm, trial and attempt."""
        return [_attempt(row) for row in self._database.select(_attempts, study=study, stage=stage)]

    # -- selection, replicates, test -------------------------------------------------------------

    @retried
    def record_selection(self, study: str, selection: Selection) -> None:
        """Freeze an arm's best; what was frozen first stays."""
        row = vars(selection) | {"config": json.dumps(selection.config)}
        self._database.insert(_selections, {"study": study, **row})

    @retried
    def selections(self, study: str) -> list[Selection]:
        """Frozen selections, by arm."""
        rows = self._database.select(_selections, study=study)
        return [Selection(**_without_study(row) | {"config": json.loads(row["config"])}) for row in rows]

    @retried
    def record_replicate(self, study: str, replicate: ReplicateRecord) -> None:
        """Write a replicate as it stands now; its cost lies in the charges."""
        values = {
            name: getattr(replicate, name) for name in ("seed", "best_epoch", "valid_mrr", "ranks_file", "reason")
        }
        values |= {"state": replicate.state.value, "test_metrics": json.dumps(dict(replicate.test_metrics))}
        self._database.upsert(_replicates, {"study": study, "arm": replicate.arm, "replicate": replicate.index}, values)

    @retried
    def replicates(self, study: str) -> list[ReplicateRecord]:
        """Replicates by arm and index, with what their training was charged."""
        costs: dict[tuple[str, int], Cost] = {}
        for charge in self.measurements(study, "replicate"):
            spent = Cost(epochs=charge.epochs, device_seconds=charge.device_seconds)
            costs[charge.arm, charge.trial] = costs.get((charge.arm, charge.trial), Cost(trials=1)) + spent
        rows = self._database.select(_replicates, study=study)
        return [_replicate(row, costs.get((row["arm"], row["replicate"]), Cost(trials=1))) for row in rows]

    @retried
    def record_opening(self, study: str, opening: Opening) -> None:
        """Note that the test split is opened for a selection; going on after a crash is the same opening."""
        self._database.insert(_openings, {"study": study, **vars(opening)})

    @retried
    def openings(self, study: str) -> list[Opening]:
        """Openings of the test split, by arm."""
        return [Opening(**_without_study(row)) for row in self._database.select(_openings, study=study)]


class _Plain:
    """A column that is its field."""

    def encode(self, value: Any) -> Any:
        return value

    def decode(self, value: Any) -> Any:
        return value


class _Json(_Plain):
    """A column of JSON text; pydantic gives the records back."""

    def __init__(self, kind: Any) -> None:
        self._adapter = TypeAdapter[Any](kind)

    def encode(self, value: Any) -> str:
        return self._adapter.dump_json(value).decode()

    def decode(self, value: Any) -> Any:
        return self._adapter.validate_json(value)


_REGISTRATION = {name: _Plain() for name in Registration.__annotations__} | {
    "passport": _Json(dict[str, Any]),
    "arms": _Json(tuple[Arm, ...]),
    "spaces": _Json(tuple[SpaceCard, ...]),
    "budget": _Json(Cost),
    "environment": _Json(dict[str, str]),
}


def _without_study(row: sa.RowMapping) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "study"}


def _measurement(row: sa.RowMapping) -> Measurement:
    fields = {name: row[name] for name in Measurement.__annotations__ if name != "metrics"}
    return Measurement(**fields, metrics=tuple(json.loads(row["metrics"]).items()))


def _attempt(row: sa.RowMapping) -> AttemptRecord:
    failure = FailureClass(row["failure"]) if row["failure"] else None
    outcome = Outcome(state=TrialState(row["state"]), failure=failure, reason=row["reason"])
    fields = {name: row[name] for name in ("arm", "stage", "trial", "attempt", "started", "ended")}
    return AttemptRecord(**fields, outcome=outcome if row["ended"] is not None else None)


def _replicate(row: sa.RowMapping, cost: Cost) -> ReplicateRecord:
    fields = {name: row[name] for name in ("arm", "seed", "best_epoch", "valid_mrr", "ranks_file", "reason")}
    return ReplicateRecord(
        **fields,
        index=row["replicate"],
        state=TrialState(row["state"]),
        test_metrics=tuple(json.loads(row["test_metrics"]).items()),
        cost=cost,
    )
