"""A study behind its front door: its commands as processes, its database as records."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import sqlalchemy as sa

from study.database import sqlite_url
from study.history import study_record
from study.records import FailureClass, StudyRecord
from study.store import AttemptRecord, Store

PATIENCE = 120.0  # seconds; a machine may be busy

T = TypeVar("T")


class Driver(subprocess.Popen[str]):
    """A command, as the leader of a session of its own."""

    def __init__(self, command: list[str], environment: Mapping[str, str], output: Path) -> None:
        self.output = output
        with output.open("w") as stream:
            super().__init__(command, stdout=stream, stderr=stream, env=environment, start_new_session=True, text=True)

    def said(self) -> str:
        """What it has said so far."""
        return self.output.read_text()

    def kill_all(self) -> None:
        """End it and what it has started in its group, unless it has ended."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


@dataclass
class Home:
    """Where a study lives, and its front door."""

    folder: Path
    study: str
    variables: dict[str, str] = field(default_factory=dict)  # of the environment of its commands
    url: str = ""  # of a PostgreSQL database
    commands: int = 0

    @property
    def database(self) -> Path:
        return self.folder / self.study / "study.db"

    def start(self, *arguments: str, **variables: str) -> Driver:
        """Start a command of the study."""
        self.commands += 1
        command = [sys.executable, "-m", "study.cli", *arguments, "--home", str(self.folder)]
        environment = os.environ | self.variables | variables
        if self.url:
            environment["KGE_STUDY_DATABASE"] = self.url
        return Driver(command, environment, self.folder / f"output-{self.commands}")

    def finish(self, *arguments: str) -> tuple[int, str]:
        """The exit code of a command, and what it said."""
        command = self.start(*arguments)
        return command.wait(PATIENCE), command.said()

    def rows(self, query: str) -> list[Any]:
        """What the database answers; nothing while it or a table is not there. Makes no table, unlike the store."""
        if not self.url and not self.database.exists():
            return []
        engine = sa.create_engine(self.url or f"sqlite:///file:{self.database}?mode=ro&uri=true")
        try:
            with engine.connect() as connection:
                return list(connection.execute(sa.text(query)).all())
        except sa.exc.DBAPIError:
            return []
        finally:
            engine.dispose()

    def charged(self, stage: str = "search") -> int:
        """How often the database has charged."""
        return len(self.rows(f"SELECT epoch FROM kge_charges WHERE stage = '{stage}'"))

    def record(self) -> StudyRecord:
        """The study as it stands."""
        with self._copy() as url:
            return study_record(url, self.study)

    def attempts(self, stage: str = "search") -> list[AttemptRecord]:
        with self._copy() as url, closing(Store(url)) as store:
            return store.attempts(self.study, stage)

    @contextmanager
    def _copy(self) -> Iterator[str]:
        """SQLite as it is now: to open it makes tables, which its own driver is to make."""
        if self.url:
            yield self.url
            return
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "study.db"
            with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            yield sqlite_url(copy)


def wait_until(happened: Callable[[], T], driver: Driver) -> T:
    """What is true once a living driver has done something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert driver.poll() is None, driver.said()
        assert time.monotonic() < deadline, driver.said()
        time.sleep(0.05)
    return found


def is_lost(attempt: AttemptRecord) -> bool:
    """Did the attempt lose its worker?"""
    return attempt.outcome is not None and attempt.outcome.failure is FailureClass.INFRASTRUCTURE


def workers(driver: int) -> list[int]:
    """Processes below the driver that train."""
    return [pid for pid in below(driver) if "ResourceTrainable.train" in title(pid)]


def below(ancestor: int) -> list[int]:
    """All processes that a process has started, or that these have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # just ended
    return [pid for pid in parents if ancestor in _ancestors(pid, parents)]


def title(pid: int) -> str:
    """The command line of a process; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid
