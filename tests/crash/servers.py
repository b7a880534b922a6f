"""What a study stands on, to be stopped and started: a tracking server, PostgreSQL, a Ray head.

Each comes back at the address that it had, and all but Ray with what it knew.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import TracebackType
from typing import Self

from mlflow import MlflowClient

from tests.ports import free_port

PATIENCE = 120.0

Process = subprocess.Popen[bytes]


class Server:
    """A process that is killed when its block ends. A Popen that leads a session takes its workers along."""

    def __init__(self, command: list[str], log: Path, ready: Callable[[], bool], **variables: str) -> None:
        self._command = command
        self._log = log
        self._ready = ready
        self._variables = variables
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("wb") as log:
            self._process = process = Process(
                self._command,
                stdout=log,
                stderr=log,
                env=os.environ | self._variables,
                cwd=self._log.parent,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(self._command)}: did not start, {self._log.read_text()[-500:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to all its processes, so that none can say goodbye."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def tracking_server(folder: Path) -> tuple[Server, str]:
    """A real `mlflow server` over a SQLite file, and its address."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "served")]

    def ready() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
            return True
        return False

    return Server(command, folder / "server.log", ready, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"), uri


@cache
def tracking_tables() -> bytes:
    """A SQLite database with the tables of MLflow, as a study makes it when there is none."""
    with TemporaryDirectory() as folder, closing(sqlite3.connect(file := Path(folder, "mlflow.db"))) as connection:
        MlflowClient(f"sqlite:///{file}")
        connection.execute("PRAGMA journal_mode=WAL")
        return file.read_bytes()


def ray_head(folder: Path, *, cpus: int) -> tuple[Server, str]:
    """A real `ray start --head`, which outlives the drivers that come to it, and its address."""
    port = free_port()
    scratch = folder / "ray"  # short: the paths of sockets in it are limited to 107 bytes
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)]
    command += ["--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus), "--include-dashboard", "false"]
    command += ["--object-store-memory", str(128 * 2**20), "--temp-dir", str(scratch)]
    log = folder / "ray.log"
    return Server(command, log, lambda: "Ray runtime started" in log.read_text()), f"127.0.0.1:{port}"


class Postgres:
    """A real PostgreSQL from the binaries of this machine, in a folder of its own that goes with the block."""

    def __init__(self, binaries: Path, *, password: str | None = None) -> None:
        """Without a password it lets everyone in; the URL never holds it."""
        self._binaries = binaries
        self._password = password
        self._folder = Path(mkdtemp(prefix="kge-postgres-", dir="/tmp"))
        self._user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        port = free_port()
        self._options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self.url = f"postgresql+psycopg://study@127.0.0.1:{port}/postgres"

    def __enter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "--username", "study", "--no-sync", *self._authentication())
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", self._options, "start")

    def stop(self, mode: str) -> None:
        """`fast` breaks off what runs, `immediate` is a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def _authentication(self) -> list[str]:
        if self._password is None:
            return ["--auth", "trust"]
        file = self._folder / "password"
        file.write_text(self._password)
        return ["--auth", "scram-sha-256", "--pwfile", str(file)]

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(command, check=True, user=self._user, stdout=subprocess.DEVNULL, cwd=self._folder)


def postgres_binaries() -> Path | None:
    """Where the newest PostgreSQL of this machine has its programs; None where there is none."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name), default=None)
