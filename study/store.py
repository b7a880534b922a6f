"""Everything of a study that must survive a crash, in tables beside Optuna's own.

A charge is keyed by (study, arm, stage, trial, epoch): whatever is killed and run again, an epoch is
charged once; the same epoch measured by another attempt goes to the waste. An amended study is a new row
beside the one it was launched with. All writes are idempotent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from kge.names import instead
from study.database import Database, retried
from study.errors import StudyExistsError, UnknownStudyError
from study.lease import Lease, lease_table
from study.records import (
    Amendment,
    Arm,
    Continuation,
    Cost,
    FailureClass,
    Measurement,
    Opening,
    Outcome,
    Place,
    ReplicateRecord,
    Selection,
    SpaceCard,
    TrialState,
)

SCHEMA = 1  # the form of the tables below; another number refuses databases that have them otherwise
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
    {"name": _NAME, "amendment": sa.Integer},  # 0: as launched
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
        "pruning": sa.Text,
        "environment": sa.Text,
        "created": sa.Double,
        "changes": sa.Text,
        "reopens": sa.Boolean,
        "amended": sa.Double,
    },
    {"identical_errors": sa.Integer, "file": sa.Text},
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
    {"started": sa.Double, "state": _WORD, "reason": sa.Text, **_COST},  # the cost is what was not measured
    {"ended": sa.Double, "failure": _WORD},
)
_places = _table("kge_places", {**_TRIAL, "attempt": sa.Integer}, {"node": _NAME, "host": _NAME, "device": sa.Text}, {})
_selections = _table(
    "kge_selections",
    {"study": _NAME, "arm": _NAME, "number": sa.Integer},
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
    {"selection_sha256": _SHA256, "seed": sa.BigInteger, "state": _WORD, "test_metrics": sa.Text, "reason": sa.Text},
    {"best_epoch": sa.Integer, "valid_mrr": sa.Double, "ranks_file": sa.Text},
)
_openings = _table(
    "kge_openings",
    {"study": _NAME, "arm": _NAME, "number": sa.Integer},
    {"selection_sha256": _SHA256, "replicates": sa.Text, "time": sa.Double, "amendment": sa.Integer},
    {},
)
_continuations = _table(
    "kge_continuations", {"study": _NAME, "number": sa.Integer}, {"environment": sa.Text, "time": sa.Double}, {}
)
_lease = lease_table(_TABLES)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A study as it was declared, or as it was amended last."""

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
    identical_errors: int | None
    pruning: tuple[int, int] | None  # min_epochs and reduction_factor
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
        self._database = Database(url, _TABLES, schema=SCHEMA)

    def close(self) -> None:
        """Give back all connections."""
        self._database.engine.dispose()

    def lease(self, study: str) -> Lease:
        """The lease of a study, not taken yet."""
        return Lease(self._database, _lease, study)

    # -- studies ---------------------------------------------------------------------------------

    @retried
    def register_study(self, study: Registration, *, file: str | None = None) -> None:
        """Write a new study and where its file lies; StudyExistsError when the name is taken."""
        launch = {"amendment": 0, "changes": "[]", "reopens": False, "amended": study.created, "file": file}
        is_new = self._database.insert(_studies, _encoded(study) | launch)
        if not is_new and self.registration(study.name) != study:
            raise StudyExistsError(f"study {study.name!r} exists; `study resume {study.name}` continues it")

    @retried
    def amend_study(self, study: Registration, amendment: Amendment, *, file: str | None) -> None:
        """Write a study as it is from now on, beside what it was."""
        row = {"amendment": amendment.number, "changes": json.dumps(amendment.changes), "reopens": amendment.reopens}
        self._database.insert(_studies, _encoded(study) | row | {"amended": amendment.time, "file": file})

    @retried
    def registration(self, name: str) -> Registration:
        """The study as amended; UnknownStudyError when there is none."""
        return _registration(self._row(name))

    @retried
    def study_file(self, name: str) -> str | None:
        """Where the study's file lay when it was launched or amended last."""
        file: str | None = self._row(name)["file"]
        return file

    @retried
    def amendments(self, name: str) -> list[Amendment]:
        """The amendments of a study, by number."""
        rows = self._database.select(_studies, name=name)
        return [_amendment(row) for row in rows if row["amendment"]]

    @retried
    def study_names(self) -> list[str]:
        """Names of all studies in the database."""
        return [row["name"] for row in self._database.select(_studies, amendment=0)]

    @retried
    def record_continuation(self, study: str, continuation: Continuation) -> None:
        """Note what a study goes on with that is not what it had before."""
        row = vars(continuation) | {"environment": json.dumps(dict(continuation.environment))}
        self._database.insert(_continuations, {"study": study, **row})

    @retried
    def continuations(self, study: str) -> list[Continuation]:
        """What a study went on with, by number."""
        rows = self._database.select(_continuations, study=study)
        return [Continuation(**_without_study(row) | {"environment": json.loads(row["environment"])}) for row in rows]

    def _row(self, name: str) -> sa.RowMapping:
        """The study as amended last."""
        rows = self._database.select(_studies, name=name)
        if not rows:
            raise UnknownStudyError(f"study {name!r} is unknown here {instead(name, self.study_names())}")
        return rows[-1]

    @retried
    def launched(self, name: str) -> Registration:
        """The study as it was at launch, whatever was amended since."""
        [row] = self._database.select(_studies, name=name, amendment=0)
        return _registration(row)

    # -- charges ---------------------------------------------------------------------------------

    @retried
    def charge(self, study: str, stage: str, measurement: Measurement) -> bool:
        """Charge a measurement; False when another attempt had charged its epoch: then it is waste."""
        fields = dict(vars(measurement))
        key = {"study": study, "stage": stage} | {name: fields[name] for name in ("arm", "trial", "epoch")}
        metrics = json.dumps(dict(fields.pop("metrics")))
        if self._database.insert(_charges, {**key, **fields, "metrics": metrics}):
            return True
        charged = self._database.select(_charges, **key)[0]
        if charged["time"] == measurement.time:
            return True  # our own row, whose answer was lost
        if charged["device_seconds"] == measurement.device_seconds:
            return False  # told again from a checkpoint: nothing was trained twice
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
        cost = {name: getattr(outcome.unmeasured, name) for name in _COST}
        self._database.upsert(_attempts, key, {"started": attempt.started, **ended, **cost})

    @retried
    def attempts(self, study: str, stage: str) -> list[AttemptRecord]:
        """All attempts of a stage, by arm, trial and attempt."""
        return [_attempt(row) for row in self._database.select(_attempts, study=study, stage=stage)]

    @retried
    def record_place(self, study: str, place: Place) -> None:
        """Note where an attempt runs."""
        self._database.insert(_places, {"study": study, **vars(place)})

    @retried
    def places(self, study: str) -> list[Place]:
        """Where attempts ran, by arm, stage, trial and attempt."""
        return [Place(**_without_study(row)) for row in self._database.select(_places, study=study)]

    # -- selection, replicates, test -------------------------------------------------------------

    @retried
    def record_selection(self, study: str, selection: Selection) -> None:
        """Freeze an arm's best; what was frozen first under a number stays."""
        row = vars(selection) | {"config": json.dumps(selection.config)}
        self._database.insert(_selections, {"study": study, **row})

    @retried
    def selections(self, study: str) -> list[Selection]:
        """Frozen selections, by arm and number."""
        rows = self._database.select(_selections, study=study)
        return [Selection(**_without_study(row) | {"config": json.loads(row["config"])}) for row in rows]

    @retried
    def record_replicate(self, study: str, replicate: ReplicateRecord) -> None:
        """Write a replicate as it stands now; its cost lies in the charges."""
        values = {
            name: getattr(replicate, name)
            for name in ("selection_sha256", "seed", "best_epoch", "valid_mrr", "ranks_file", "reason")
        }
        values |= {"state": replicate.state.value, "test_metrics": json.dumps(dict(replicate.test_metrics))}
        self._database.upsert(_replicates, {"study": study, "arm": replicate.arm, "replicate": replicate.index}, values)

    @retried
    def replicates(self, study: str) -> list[ReplicateRecord]:
        """Replicates by arm and index, with what their training was charged."""
        costs: dict[tuple[str, int], Cost] = {}
        for charge in self.measurements(study, "replicate"):
            costs[charge.arm, charge.trial] = costs.get((charge.arm, charge.trial), Cost(trials=1)) + charge.cost
        rows = self._database.select(_replicates, study=study)
        return [_replicate(row, costs.get((row["arm"], row["replicate"]), Cost(trials=1))) for row in rows]

    @retried
    def record_opening(self, study: str, opening: Opening) -> None:
        """Note that the test split is opened; what was written first under a number stays."""
        row = vars(opening) | {"replicates": json.dumps(opening.replicates)}
        self._database.insert(_openings, {"study": study, **row})

    @retried
    def openings(self, study: str) -> list[Opening]:
        """Openings of the test split, by arm and number."""
        rows = self._database.select(_openings, study=study)
        return [Opening(**_without_study(row) | {"replicates": tuple(json.loads(row["replicates"]))}) for row in rows]


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
    "pruning": _Json(tuple[int, int] | None),
    "environment": _Json(dict[str, str]),
}


def _encoded(study: Registration) -> dict[str, Any]:
    return {name: _REGISTRATION[name].encode(value) for name, value in vars(study).items()}


def _registration(row: sa.RowMapping) -> Registration:
    return Registration(**{name: column.decode(row[name]) for name, column in _REGISTRATION.items()})


def _amendment(row: sa.RowMapping) -> Amendment:
    return Amendment(
        number=row["amendment"],
        spec=row["spec"],
        spec_sha256=row["spec_sha256"],
        changes=tuple(json.loads(row["changes"])),
        reopens=row["reopens"],
        time=row["amended"],
    )


def _without_study(row: sa.RowMapping) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "study"}


def _measurement(row: sa.RowMapping) -> Measurement:
    fields = {name: row[name] for name in Measurement.__annotations__ if name != "metrics"}
    return Measurement(**fields, metrics=tuple(json.loads(row["metrics"]).items()))


def _attempt(row: sa.RowMapping) -> AttemptRecord:
    failure = FailureClass(row["failure"]) if row["failure"] else None
    cost = Cost(**{name: row[name] for name in _COST})
    outcome = Outcome(state=TrialState(row["state"]), failure=failure, reason=row["reason"], unmeasured=cost)
    fields = {name: row[name] for name in ("arm", "stage", "trial", "attempt", "started", "ended")}
    return AttemptRecord(**fields, outcome=outcome if row["ended"] is not None else None)


def _replicate(row: sa.RowMapping, cost: Cost) -> ReplicateRecord:
    names = ("arm", "selection_sha256", "seed", "best_epoch", "valid_mrr", "ranks_file", "reason")
    fields = {name: row[name] for name in names}
    return ReplicateRecord(
        **fields,
        index=row["replicate"],
        state=TrialState(row["state"]),
        test_metrics=tuple(json.loads(row["test_metrics"]).items()),
        cost=cost,
    )
