"""The mirror's own process, as a driver sees it: started, left alone, told to finish.

The process ends by a last round when its standard input closes: at `finish`, and just as well when the
driver is killed. Nothing here waits for the tracking server except `finish`, for as long as it is told to.
"""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn, Self

from study.database import sqlite_url
from study.errors import UserError

HOST = "127.0.0.1"


def tracking_uri(home: Path) -> str:
    """Where MLflow is: MLFLOW_TRACKING_URI, else a SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_url(home.resolve() / "mlflow.db")


def is_tracked(home: Path) -> bool:
    """Is there an MLflow that a study may have been sent to? Makes none."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (home.resolve() / "mlflow.db").exists()


def check_port(port: int) -> None:
    """UserError where the pages cannot be served: MLflow says so in pages of its log, and ends as if all were well."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does, or one that ended is in the way
        try:
            probe.bind((HOST, port))
        except OSError as error:
            came = "which is in use" if error.errno == errno.EADDRINUSE else f"which cannot be opened: {error.strerror}"
            raise UserError(f"--port: must be free, got {port}, {came}") from None


def serve(home: Path, *, port: int) -> NoReturn:
    """Become the server of MLflow's pages on the database that MLflow is here."""
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(port)]
    # A URL may hold a password, which anyone could read among the arguments of a process.
    own = {"MLFLOW_BACKEND_STORE_URI": tracking_uri(home), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execve(sys.executable, command, os.environ | own)


def artifact_folder(home: Path) -> Path:
    """Where files go when MLflow is a database and no server."""
    return home.resolve() / "mlartifacts"


class Mirror:
    """A running mirror process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @classmethod
    def start(cls, *, name: str, home: Path, database: str) -> Self:
        """Mirror study `name` of the database from now on; what happens is logged in its folder."""
        folder = home.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        # URLs may hold passwords, which anyone could read among the arguments of a process.
        environment = os.environ | {"KGE_STUDY_DATABASE": database, "MLFLOW_TRACKING_URI": tracking_uri(home)}
        with (folder / "tracking.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "study.tracking.worker", name, str(home.resolve())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # the Ctrl-C that settles the driver must not end the mirror first
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def finish(self, *, timeout: float = 60.0) -> bool:
        """Have the last round sent; False when MLflow is not up to date (`study sync NAME` sends the rest)."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
