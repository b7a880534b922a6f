"""One driver per study: a row that its holder renews.

A driver that dies on this machine frees its study at once (its process is gone), one that dies
elsewhere when its lease runs out. Taking over compares the owner that was seen dead and swaps it, so of
two drivers that see it only one wins.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from study.database import Database, retried
from study.errors import StudyLockedError, WorldError

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0


def lease_table(metadata: sa.MetaData) -> sa.Table:
    """The table of leases: one row per study that is driven."""
    return sa.Table(
        "kge_lease",
        metadata,
        sa.Column("study", sa.String(255), primary_key=True),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("renewed", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
    )


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a study, or held it when it died."""

    token: str
    host: str
    pid: int
    expires: float

    @property
    def is_alive(self) -> bool:
        """False once the lease ran out, and at once when its process on this machine is gone."""
        return self.expires > time.time() and (self.host != socket.gethostname() or _runs(self.pid))


class Lease:
    """One study's row in the table of leases, as this process sees it."""

    def __init__(self, database: Database, table: sa.Table, study: str) -> None:
        self._database = database
        self._table = table
        self._study = study
        self._token = uuid.uuid4().hex

    @retried
    def owner(self) -> Owner | None:
        """Who holds the study; None when nobody does."""
        rows = self._database.select(self._table, study=self._study)
        fields = ("token", "host", "pid", "expires")
        return Owner(**{name: rows[0][name] for name in fields}) if rows else None

    @retried
    def acquire(self) -> None:
        """Take the study; StudyLockedError while another live driver holds it."""
        mine = {"token": self._token, "host": socket.gethostname(), "pid": os.getpid(), **_times()}
        if self._database.insert(self._table, {"study": self._study, **mine}):
            return
        owner = self.owner()
        if owner is None:
            raise StudyLockedError(f"study {self._study!r}: must have one driver, another has just ended; try again")
        if owner.token == self._token:
            return  # our own row, whose answer was lost
        if owner.is_alive:
            raise StudyLockedError(
                f"study {self._study!r}: must have one driver, process {owner.pid} on {owner.host} is running it"
            )
        if not self._database.update(self._table, {"study": self._study, "token": owner.token}, mine):
            raise StudyLockedError(f"study {self._study!r}: must have one driver, another has just taken it")

    @retried
    def renew(self) -> bool:
        """Prolong the lease; False when it is no longer ours."""
        return self._database.update(self._table, {"study": self._study, "token": self._token}, _times())

    @retried
    def release(self) -> None:
        """Give the study back if it is ours."""
        self._database.delete(self._table, study=self._study, token=self._token)

    @contextmanager
    def held(self, *, on_lost: Callable[[], None]) -> Iterator[None]:
        """Hold the study, renewed by a thread; `on_lost` is called there once another driver took it."""
        self.acquire()
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done, on_lost), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def _keep(self, done: threading.Event, on_lost: Callable[[], None]) -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                held = self.renew()
            except WorldError:
                held = False
            if not held:
                on_lost()
                return


def _times() -> dict[str, float]:
    now = time.time()
    return {"renewed": now, "expires": now + LEASE_SECONDS}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """A killed process whose parent has not noticed keeps its number (where there is a /proc to tell)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")
