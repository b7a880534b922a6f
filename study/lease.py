"""One driver per study: a row that its holder renews.

A driver that dies on this machine frees its study at once (its process is gone), one that dies
elsewhere when its lease runs out. Taking over compares the owner that was seen dead and swaps it, so of
two drivers that see it only one wins. The row is also where a driver on any machine is asked to stop.
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
POLL_SECONDS = 0.2  # between two looks at whether a driver that was asked to stop has ended
LOOK_SECONDS = 2.0  # between two looks at whether the driver is asked to stop


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
        sa.Column("stop", sa.Boolean, nullable=False),  # its holder is asked to end
    )


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a study, or held it when it died."""

    token: str
    host: str
    pid: int
    expires: float
    stop: bool

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
        return Owner(**{name: rows[0][name] for name in Owner.__annotations__}) if rows else None

    @retried
    def acquire(self) -> None:
        """Take the study; StudyLockedError while another live driver holds it."""
        mine = {"token": self._token, "host": socket.gethostname(), "pid": os.getpid(), "stop": False, **_times()}
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

    @retried
    def ask_to_stop(self, owner: Owner) -> bool:
        """Ask the owner to end; False when the study is no longer its own."""
        return self._database.update(self._table, {"study": self._study, "token": owner.token}, {"stop": True})

    @contextmanager
    def held(self, *, on_lost: Callable[[], None], on_stop: Callable[[], None]) -> Iterator[None]:
        """Hold the study by a thread, which tells once another driver took it, and once somebody asks to stop."""
        self.acquire()
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done, on_lost, on_stop), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def _keep(self, done: threading.Event, on_lost: Callable[[], None], on_stop: Callable[[], None]) -> None:
        looks = 0
        while not done.wait(LOOK_SECONDS):
            looks += 1
            try:
                owner = self.owner()
                held = owner is not None and owner.token == self._token
                if held and looks * LOOK_SECONDS >= RENEW_SECONDS:
                    held, looks = self.renew(), 0
            except WorldError:
                owner, held = None, False
            if not held:
                on_lost()
                return
            if owner is not None and owner.stop:
                on_stop()


def stop_driver(lease: Lease, study: str, *, timeout: float) -> Iterator[str]:
    """Ask the study's driver to end and wait for it, told in sentences; WorldError when it takes too long."""
    owner = lease.owner()
    if owner is None or not owner.is_alive:
        yield f"study {study}: no driver is running"
        return
    process, deadline = f"process {owner.pid} on {owner.host}", time.monotonic() + timeout
    lease.ask_to_stop(owner)
    yield f"study {study}: {process} is asked to stop"
    while (now := lease.owner()) is not None and now.token == owner.token and now.is_alive:
        if time.monotonic() > deadline:
            raise WorldError(f"study {study!r}: {process} must end within {timeout:g} s, it is still settling")
        time.sleep(POLL_SECONDS)
    yield f"study {study}: {process} has ended"


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
