"""What the tests of MLflow share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.database import sqlite_url
from study.tracking.mirror import sync
from tests.ports import free_port
from tests.study import records_factory as factory
from tests.study.mlflow_store import Served, Tracking, copy, kill, new_tracking, wait_until_healthy
from tests.study.saved_study import save


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its tables made, which takes seconds, and another study; tests get copies."""
    file = tmp_path_factory.mktemp("mlflow") / "home" / "made.db"
    sync(factory.finished(name="first", trials=1, replicates=0), uri=f"sqlite:///{file}", artifacts=file.parent)
    return file


@pytest.fixture
def home_of_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of one finished study, `small`, that no MLflow knows."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "home" / "small").mkdir(parents=True)
    record = factory.finished(name="small", models=("complex",), trials=2, replicates=0)
    save(record, sqlite_url(tmp_path / "home" / "small" / "study.db"))
    return tmp_path / "home"


@pytest.fixture
def tracking(made_database: Path, tmp_path: Path) -> Tracking:
    return new_tracking(made_database, tmp_path, "mlflow.db")


@pytest.fixture
def serve(made_database: Path, tmp_path: Path) -> Iterator[Served]:
    """Starts `mlflow server` on the same port and database each time it is called."""
    started: list[subprocess.Popen[bytes]] = []
    copy(made_database, tmp_path / "server.db")
    port = str(free_port())

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
        command += ["--artifacts-destination", str(tmp_path / "served")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (tmp_path / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True
            )
        started.append(process)
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        return process

    yield Served(start, f"http://127.0.0.1:{port}")
    for process in started:
        kill(process)
