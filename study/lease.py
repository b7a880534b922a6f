"""One driver per study: a row that its holder renews.

A driver that dies on this machine frees its study at once (its process is gone), one that dies
elsewhere once somebody has watched its lease not being renewed, because clocks differ. Taking over
compares the owner that was seen dead and swaps it, so of two drivers that see it only one wins. A
driver may sleep at any moment, so each of its transactions that writes asks whether the study is still
its own, inside itself, by the token of its lease, which nobody can replace before that transaction has
ended. The row is also where a driver on any machine is asked to stop.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from study.database import Database, fenced, retried
from study.errors import StudyLockedError, WorldError

LOST = "another driver has taken the study over"
LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
WATCH_SECONDS = 30.0  # in which a live driver elsewhere renews its lease, whatever its clock says
POLL_SECONDS = 0.2  # between two looks at whether another driver has ended
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
    host: str  # as `this_host` gives it; its name alone in older databases
    pid: int
    expires: float
    stop: bool

    @property
    def name(self) -> str:
        """Which process it is, for people."""
        return f"process {self.pid} on {_hostname(self.host)}"

    @property
    def is_here(self) -> bool:
        """True when its process is one of those whose numbers we see."""
        return self.host in (socket.gethostname(), this_host())

    @property
    def is_gone(self) -> bool:
        """True when it was a process here that runs no more."""
        return self.is_here and not _runs(self.pid)

    @property
    def is_alive(self) -> bool:
        """False once the lease ran out by our clock, and at once when its process is gone."""
        return self.expires > time.time() and not self.is_gone

    @property
    def is_in_doubt(self) -> bool:
        """True when only its next renewal can tell: a host elsewhere may have died, our clock may be wrong."""
        return not self.is_gone and not (self.is_here and self.is_alive)

    @property
    def doubt(self) -> str:
        """What is said before it is watched."""
        return f"waiting {WATCH_SECONDS:g} s at most to see whether {self.name}, which may have died, renews its lease"


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
    def acquire(self, *, say: Callable[[str], None] = lambda _: None) -> None:
        """Take the study; StudyLockedError while another live driver holds it."""
        mine: dict[str, object] = {"token": self._token, "host": this_host(), "pid": os.getpid(), "stop": False}
        if self._database.insert(self._table, {"study": self._study, **mine, **_times()}):
            return
        owner = self.owner()
        if owner is None:
            raise StudyLockedError(f"study {self._study!r}: must have one driver, another has just ended; try again")
        if owner.token == self._token:  # our own row, whose answer was lost
            return
        if owner.is_in_doubt:
            say(f"study {self._study}: {owner.doubt}")
        if not self.is_dead(owner):
            raise StudyLockedError(f"study {self._study!r}: must have one driver, {owner.name} is running it")
        seen = {"study": self._study, "token": owner.token, "expires": owner.expires}
        if not self._database.update(self._table, seen, {**mine, **_times()}):
            raise StudyLockedError(
                f"study {self._study!r}: must have one driver, another has just taken it or ended; try again"
            )

    def is_dead(self, owner: Owner) -> bool:
        """Whether the owner drives the study no more; one in doubt is watched, by a clock that only we read."""
        if not owner.is_in_doubt:
            return owner.is_gone
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            now = self.owner()
            if now is None or now.token != owner.token:
                return True
            if now.expires != owner.expires:
                return False
        return True

    def is_ours_in(self, connection: sa.Connection) -> bool:
        """True while the study is ours, until this transaction ends: who takes it over waits for that."""
        key = (self._table.c.study == self._study, self._table.c.token == self._token)
        lease = sa.select(self._table.c.study).where(*key).with_for_update(read=True)  # SQLite has one lock for all
        return connection.execute(lease).first() is not None

    def fence(self, engine: sa.Engine, check: Callable[[sa.Connection], None]) -> AbstractContextManager[None]:
        """Have whatever an engine writes checked, but for leases themselves."""
        return fenced(engine, check, but=self._table)

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
    def held(
        self, *, on_lost: Callable[[], None], on_stop: Callable[[], None], say: Callable[[str], None] = lambda _: None
    ) -> Iterator["Hold"]:
        """Hold the study by a thread, which tells once another driver took it, and once somebody asks to stop."""
        self.acquire(say=say)
        hold = Hold(self, self._study, on_lost)
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done, on_lost, on_stop), name="lease", daemon=True)
        thread.start()
        try:
            with hold.fence(self._database.engine):
                yield hold
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
            except WorldError:  # the database is away; once it is back it says whose the study is
                continue
            if not held:
                on_lost()
                return
            if owner is not None and owner.stop:
                on_stop()


class Hold:
    """A study that is held: whatever its driver writes to the database is checked; before files it checks itself."""

    def __init__(self, lease: Lease, study: str, on_lost: Callable[[], None]) -> None:
        self._lease = lease
        self._study = study
        self._on_lost = on_lost

    def check(self, connection: sa.Connection | None = None) -> None:
        """WorldError when another driver has taken the study; within a transaction none can until it ends."""
        if not (self._lease.renew() if connection is None else self._lease.is_ours_in(connection)):
            self._on_lost()
            raise WorldError(f"study {self._study!r}: {LOST}")

    def fence(self, engine: sa.Engine) -> AbstractContextManager[None]:
        """Let an engine write only while the study is held; the one of the lease's own database does so anyway."""
        return self._lease.fence(engine, self.check)


def stop_driver(lease: Lease, study: str, *, timeout: float) -> Iterator[str]:
    """Ask the study's driver to end and wait for it, told in sentences; WorldError when it takes too long."""
    owner = lease.owner()
    if owner is not None and owner.is_in_doubt:
        yield f"study {study}: {owner.doubt}"
    if owner is None or lease.is_dead(owner):
        yield f"study {study}: no driver is running"
        return
    process, deadline = owner.name, time.monotonic() + timeout
    lease.ask_to_stop(owner)
    yield f"study {study}: {process} is asked to stop"
    while (now := lease.owner()) is not None and now.token == owner.token and not _has_ended(lease, now):
        if time.monotonic() > deadline:
            raise WorldError(f"study {study!r}: {process} must end within {timeout:g} s, it is still settling")
        time.sleep(POLL_SECONDS)
    yield f"study {study}: {process} has ended"


def this_host() -> str:
    """Name, boot and process namespace, where there are such: processes are looked up by number only in their own."""
    return " ".join([socket.gethostname(), *_boot_and_namespace()])


def _boot_and_namespace() -> Iterator[str]:
    with suppress(OSError):
        yield Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        yield str(Path("/proc/self/ns/pid").readlink())


def _hostname(host: str) -> str:
    return host.partition(" ")[0]


def _has_ended(lease: Lease, owner: Owner) -> bool:
    """Of an owner that was seen to live: whether it has died since."""
    return not owner.is_alive and lease.is_dead(owner)


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
