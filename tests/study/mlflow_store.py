"""A tracking store of a test: what it holds, and a server in front of it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from study.records import StudyRecord
from study.tracking.mirror import KEY, SyncResult, sync
from tests.ports import free_port

NOTHING = SyncResult()


def copy(database: Path, to: Path) -> None:
    """Through SQLite, since the file alone is not all of a database in WAL mode."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


@dataclass(frozen=True)
class Held:
    """A run as MLflow holds it."""

    parent: str | None
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    histories: dict[str, list[tuple[int, int, float]]]  # (step, time, value)
    status: str
    start: int
    end: int | None


class Tracking:
    """A tracking store of a test and what it holds."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self.client = MlflowClient(tracking_uri=uri)

    def sync(self, record: StudyRecord, report: Path | None = None) -> SyncResult:
        return sync(record, uri=self.uri, artifacts=self.artifacts, report=report)

    def search(self, name: str, query: str = "") -> list[Any]:
        experiment = self.client.get_experiment_by_name(name)
        assert experiment is not None
        return list(self.client.search_runs([experiment.experiment_id], query))

    def experiment_tags(self, name: str) -> dict[str, str]:
        experiment = self.client.get_experiment_by_name(name)
        assert experiment is not None
        return dict(experiment.tags)

    def held(self, name: str) -> dict[str, Held]:
        """Everything, by key; a key that is there twice is an error."""
        runs = self.search(name)
        keys = {run.info.run_id: run.data.tags[KEY] for run in runs}
        assert len(set(keys.values())) == len(runs)
        return {keys[run.info.run_id]: self._held(run, keys) for run in runs}

    def _held(self, run: Any, keys: dict[str, str]) -> Held:
        parent = run.data.tags.get("mlflow.parentRunId")
        histories = {}
        for name in run.data.metrics:
            points = self.client.get_metric_history(run.info.run_id, name)
            histories[name] = sorted((point.step, point.timestamp, point.value) for point in points)
        return Held(
            parent=keys[parent] if parent else None,
            name=run.info.run_name,
            tags={k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.") and k != "kge.sent"},
            params=run.data.params,
            histories=histories,
            status=run.info.status,
            start=run.info.start_time,
            end=run.info.end_time,
        )


def new_tracking(made_database: Path, folder: Path, name: str) -> Tracking:
    copy(made_database, folder / name)
    return Tracking(f"sqlite:///{folder / name}", folder / "mlartifacts")


@dataclass(frozen=True)
class Served:
    """A tracking server that can be started again after it was killed."""

    start: Callable[[], "subprocess.Popen[bytes]"]
    uri: str


@contextlib.contextmanager
def served(database: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address of a tracking server over a SQLite file, and the server; gone afterwards."""
    uri = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database.resolve()}"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (database.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=database.parent, start_new_session=True
        )
    try:
        wait_until_healthy(uri, process)
        yield uri, process
    finally:
        kill(process)


def wait_until_healthy(uri: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("the server ended before it answered")


def kill(process: "subprocess.Popen[bytes]") -> None:
    """The server and its workers, which are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
