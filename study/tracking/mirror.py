"""Sends to MLflow what it does not hold yet: runs and their files here, models by study.tracking.models.

A run is found by its key, a tag. Another tag says how many of its points were sent and what they were;
it is written in the same request after them, so a request that broke half-way is repeated, and repeated
points fall on themselves. One request a run, as long as MLflow's limits on its size allow.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the next round is the retry
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # the first use of a new database logs forty migrations
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow.entities import Experiment, Metric, Param, Run, RunTag  # noqa: E402  (reads the environment when imported)
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.store.db.db_types import DATABASE_ENGINES  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402
from requests import RequestException  # noqa: E402
from sqlalchemy import NullPool, create_engine  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from kge.errors import KgeError  # noqa: E402
from study.database import sqlite_file, sqlite_url, without_password  # noqa: E402
from study.errors import WorldError  # noqa: E402
from study.records import StudyRecord  # noqa: E402
from study.tracking.models import ModelSender, is_sent  # noqa: E402
from study.tracking.points import Point  # noqa: E402
from study.tracking.projection import DesiredRun, Plan, project  # noqa: E402
from study.tracking.views import views  # noqa: E402

KEY = "kge.key"
CREATED = "kge.created"
_SENT = "kge.sent"  # "<number of points>:<hash of them>"
_ARTIFACTS = "kge.artifacts"
_REPORT = "kge.report"
_PARENT = "mlflow.parentRunId"
_MOST_POINTS, _MOST_PARAMS = 800, 100  # of one request; MLflow takes 1000 values, of them 100 parameters
_PAGE = 200  # runs that are read at once: an answer must come within the timeout
_LONGEST_TAG, _LONGEST_PARAM = 5000, 500  # servers older than 3 take no more
_TROUBLE = (MlflowException, RequestException, SQLAlchemyError, ImportError, sqlite3.Error, OSError)
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What was sent; all zero when MLflow held everything."""

    created: int = 0  # runs
    updated: int = 0  # runs that were there and changed
    points: int = 0
    params: int = 0
    artifacts: int = 0  # files
    models: int = 0
    removed: int = 0  # runs that were there twice
    refused: tuple[str, ...] = field(default=())  # what MLflow would not take, in sentences

    def __add__(self, other: "SyncResult") -> "SyncResult":
        return SyncResult(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    def __str__(self) -> str:
        counts = ", ".join(f"{each.name} {getattr(self, each.name)}" for each in fields(self) if each.name != "refused")
        return "; ".join((counts, *self.refused))


def sync(
    record: StudyRecord, *, uri: str, artifacts: Path, report: Path | None = None, checkpoints: Path | None = None
) -> SyncResult:
    """Bring MLflow at `uri` up to the record; WorldError when it does not answer.

    Args:
        record: the study as it stands.
        uri: MLflow's tracking URI.
        artifacts: the folder for files of a new experiment; a tracking server has its own.
        report: the folder of the report, if there is one.
        checkpoints: the study's folder, if the models of finished arms are to be sent as well.
    """
    plan = project(record)
    try:
        client = _client(uri)
        experiment = _experiment(client, plan.experiment, uri, artifacts)
        _show(client, experiment, views(record.created))
        return _send(client, plan, experiment.experiment_id, report, checkpoints)
    except _TROUBLE as error:
        raise WorldError(f"tracking at {without_password(uri)}: must answer, got: {_one_line(error)}") from error


def _client(uri: str) -> MlflowClient:
    """MLflow's own client; UserError where the URI of a database is none."""
    if uri.startswith(tuple(DATABASE_ENGINES)):
        file = sqlite_file(uri, where="MLFLOW_TRACKING_URI")
        if file is not None and not file.exists():
            _create(file)
        else:
            # MLflow would ask one that does not answer for an hour.
            create_engine(uri, poolclass=NullPool).connect().close()
    return MlflowClient(tracking_uri=uri)


def _create(file: Path) -> None:
    """A new SQLite database with MLflow's tables, whole or not there.

    MLflow makes them in forty steps and never goes on where it was killed between two of them. WAL makes it
    three times faster, and readers never wait.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder, file.name)
        with closing(sqlite3.connect(made)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            MlflowClient(tracking_uri=sqlite_url(made))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with suppress(FileExistsError):  # another study was faster
            os.link(made, file)


def _send(
    client: MlflowClient, plan: Plan, experiment: str, report: Path | None, checkpoints: Path | None
) -> SyncResult:
    held, doubles = _held(client, experiment, plan.created)
    for each in doubles:
        client.delete_run(each.info.run_id)
    ids, total = dict[str, str](), SyncResult(removed=len(doubles))
    for run in plan.runs:
        tags = dict(run.tags) | {KEY: run.key, CREATED: plan.created}
        if run.parent in ids:
            tags[_PARENT] = ids[run.parent]
        try:
            sender = _Sender(client, run, tags, held.get(run.key), experiment)
            ids[run.key] = sender.id
            total += sender.send()
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            total += SyncResult(refused=(f"run {run.name}: {_one_line(error)}",))
    for run in plan.runs:
        if run.artifacts and run.key in ids:
            total += _send_files(client, ids[run.key], run, held.get(run.key), report)
    for run in plan.runs:
        tags = held[run.key].data.tags if run.key in held else {}
        if checkpoints and run.model and run.key in ids and not is_sent(run.model, tags):
            total += _send_model(ModelSender(client, experiment, run, ids[run.key], run.model), run, checkpoints)
    return total


class _Sender:
    """Brings one run up to date; creates it if MLflow has none."""

    def __init__(
        self, client: MlflowClient, run: DesiredRun, tags: Mapping[str, str], held: Run | None, experiment: str
    ) -> None:
        self._client = client
        self._run = run
        self._tags = {name: value[:_LONGEST_TAG] for name, value in tags.items()}
        self._is_new = held is None
        self._held = held or client.create_run(experiment, start_time=run.start, tags=self._tags, run_name=run.name)
        self.id: str = self._held.info.run_id

    def send(self) -> SyncResult:
        """Send what is missing; one request for values, one for the state."""
        points, held = self._missing_points(), self._held.data
        params = [(name, value) for name, value in self._run.params.items() if name not in held.params]
        tags = [RunTag(name, value) for name, value in self._tags.items() if held.tags.get(name) != value]
        if points:
            tags.append(RunTag(_SENT, _receipt(self._run.points)))
        if points or params or tags:
            self._log(points, [Param(name, value[:_LONGEST_PARAM]) for name, value in params], tags)
        gone = [name for name in self._run.absent if name in held.tags]
        for name in gone:
            self._client.delete_tag(self.id, name)
        changed = self._set_status() or bool(points or params or tags or gone)
        return SyncResult(
            created=int(self._is_new),
            updated=int(changed and not self._is_new),
            points=len(points),
            params=len(params),
        )

    def _missing_points(self) -> Sequence[Point]:
        """The tail that was not sent; everything when what was sent is not how the history begins."""
        receipt = self._held.data.tags.get(_SENT, "0:")
        sent = int(receipt.partition(":")[0])
        begins = self._run.points[:sent]
        return self._run.points[sent:] if sent and receipt == _receipt(begins) else self._run.points

    def _log(self, points: Sequence[Point], params: Sequence[Param], tags: Sequence[RunTag]) -> None:
        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        batches = zip_longest(_chunks(metrics, _MOST_POINTS), _chunks(params, _MOST_PARAMS), fillvalue=())
        *first, last = list(batches) or [((), ())]
        for some_metrics, some_params in first:
            self._client.log_batch(self.id, metrics=some_metrics, params=some_params)
        self._client.log_batch(self.id, metrics=last[0], params=last[1], tags=tags)

    def _set_status(self) -> bool:
        info, run = self._held.info, self._run
        if (info.status, info.end_time) == (run.status, run.end):
            return False
        if run.end is not None:
            self._client.set_terminated(self.id, run.status, run.end)
        elif info.status != run.status:
            self._client.update_run(self.id, run.status)
        return info.status != run.status or run.end is not None


def _experiment(client: MlflowClient, name: str, uri: str, artifacts: Path) -> Experiment:
    """The study's experiment, made if there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if uri.startswith("http") else f"{artifacts.resolve().as_uri()}/{name}"
        return client.get_experiment(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage != "active":
        raise WorldError(
            f"tracking at {without_password(uri)}: experiment {name!r} must not be deleted "
            f"(`mlflow experiments restore -x {found.experiment_id}` brings it back, `mlflow gc` removes it for good)"
        )
    return found


def _show(client: MlflowClient, experiment: Experiment, tags: Mapping[str, str]) -> None:
    """Send the views that are not there; one that a user has changed stays as it is."""
    for name, value in tags.items():
        if name not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, name, value)


def _held(client: MlflowClient, experiment: str, created: str) -> tuple[dict[str, Run], list[Run]]:
    """The study's runs in MLflow by key, and those that are there again.

    MLflow may take a request that was given up, after the next round has made the same run. Of two, that one
    stays to which more was sent.
    """
    found: dict[str, Run] = {}  # by MLflow's own id: pages overlap when something is written meanwhile
    token: str | None = None
    while True:
        page = client.search_runs([experiment], f"tags.`{CREATED}` = '{created}'", max_results=_PAGE, page_token=token)
        found |= {run.info.run_id: run for run in page if KEY in run.data.tags}
        token = page.token
        if not token:
            break
    fullest_last = sorted(found.values(), key=lambda run: (len(run.data.tags), run.info.run_id))
    runs = {run.data.tags[KEY]: run for run in fullest_last}
    return runs, [run for run in fullest_last if runs[run.data.tags[KEY]] is not run]


def _send_files(
    client: MlflowClient, run_id: str, run: DesiredRun, held: Run | None, report: Path | None
) -> SyncResult:
    """Send the run's texts and the report when they changed; trouble with files does not hold up the numbers."""
    tags = held.data.tags if held else {}
    total = SyncResult()
    try:
        if tags.get(_ARTIFACTS) != (texts := _hash(repr(run.artifacts).encode())):
            for path, text in run.artifacts:
                client.log_text(run_id, text, path)
            client.set_tag(run_id, _ARTIFACTS, texts)
            total += SyncResult(artifacts=len(run.artifacts))
        files = sorted(path for path in report.rglob("*") if path.is_file()) if report else []
        if files and tags.get(_REPORT) != (content := _hash(*(path.read_bytes() for path in files))):
            client.log_artifacts(run_id, str(report), "report")
            client.set_tag(run_id, _REPORT, content)
            total += SyncResult(artifacts=len(files))
    except _TROUBLE as error:
        total += SyncResult(refused=(f"files of run {run.name}: {_one_line(error)}",))
    return total


def _send_model(sender: ModelSender, run: DesiredRun, checkpoints: Path) -> SyncResult:
    """Send the model of a finished arm; trouble with it does not hold up the others."""
    try:
        return SyncResult(models=int(sender.send(checkpoints)))
    except (*_TROUBLE, KgeError) as error:
        return SyncResult(refused=(f"model of arm {run.name}: {_one_line(error)}",))


def _receipt(points: Sequence[Point]) -> str:
    return f"{len(points)}:{_hash(repr(points).encode())}"


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def _chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _one_line(error: Exception) -> str:
    return without_password(" ".join(str(error).split())[:500])
