"""Ray: a cluster, where works are executed and functions mapped.

The database is the only truth: what was running when a driver died is issued again by the work.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import ray
import torch
from ray.exceptions import RayError

from study.config import StudyConfig
from study.errors import UserError, WorldError
from study.machine import check_fits
from study.nodes import Slots, living, node_kinds
from study.object_store import ObjectStore
from study.records import Place
from study.scratch import scratch_folder
from study.tuner import VARIABLES, Desk, Stopped, one_line, run
from study.work import Stop, Work

log = logging.getLogger(__name__)

# Trials share the machine: a spinning thread of one is a lost core of another. Paths in the environment, such as
# KGE_DATA_DIR, may be relative, so a worker stays where it was started.
_WORKER = {"OMP_WAIT_POLICY": "passive", "RAY_CHDIR_TO_TRIAL_DIR": "0"}

LOCAL = "local"  # the address of a cluster of this machine alone, which starts and ends with the command
_JOINING = 120.0  # seconds that a running cluster has for its first node with room for a trial
_OBJECTS = 128 * 2**20  # bytes for objects between processes: ranks of a test split are the largest

T = TypeVar("T")
R = TypeVar("R")


class Cluster:
    """A Ray cluster of our own on this machine ("local"), or a running one by its address; started at first use."""

    def __init__(
        self,
        *,
        address: str,
        slots: Slots,
        stop: Stop,
        say: Callable[[str], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._check = check  # refuses what would never fit a cluster of our own, before it is started
        self._address = address
        self._slots = slots
        self._stop = stop
        self._say = say
        self._open: ExitStack | None = None

    @classmethod
    def of(cls, config: StudyConfig, *, address: str, stop: Stop, say: Callable[[str], None]) -> Self:
        """The cluster of a study."""
        check = partial(check_fits, config)
        return cls(address=address, slots=Slots.of(config.resources), stop=stop, say=say, check=check)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def connect(self) -> None:
        """Start or reach the cluster and see that a trial fits.

        WorldError when it cannot be, UserError for an address of another kind or a trial that fits no such machine.
        """
        if self._open is not None:
            return
        if "://" in self._address:
            raise UserError(
                f"--address: must be auto or HOST:PORT, got {self._address!r}; `study submit` takes a job server"
            )
        if self._address == LOCAL:
            self._check()
        self._open = ExitStack()
        # Right below /tmp because the paths of sockets in it are limited to 107 bytes.
        scratch = self._open.enter_context(scratch_folder("kge-ray-", root=Path("/tmp")))
        self._open.callback(ray.shutdown)
        _quieten()
        os.environ.update(VARIABLES)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self._address == LOCAL:
            os.environ.update(_WORKER)
            options: dict[str, Any] = {"_temp_dir": str(scratch), "include_dashboard": False}
            options |= {"object_store_memory": _OBJECTS}
        else:
            options = {"runtime_env": {"env_vars": _WORKER}}
        try:
            _reach(self._address)
            with _our_signals():
                ray.init(address=self._address, log_to_driver=False, configure_logging=False, **options)
        except Exception as error:  # not more exactly: a node that does not start in time raises just this class
            got = f"{one_line(error)}; nothing is lost, so try again"
            raise WorldError(f"Ray at {self._address!r}: must start or answer, got: {got}") from error
        self._await_room()

    def _await_room(self) -> None:
        """A cluster that others start may have its head alone as yet; WorldError when nothing that fits has come."""
        is_alone = self._address == LOCAL  # no other node will join, whatever `max_concurrent` says
        slots = replace(self._slots, max_concurrent=None) if is_alone else self._slots
        deadline = time.monotonic() + (0 if is_alone else _JOINING)
        if slots.shortage and not is_alone:
            self._say(f"waiting for a node, {_JOINING:g} s at most: {slots.shortage}")
        while slots.shortage and time.monotonic() < deadline and self._stop.reason is None:
            time.sleep(0.5)
        if slots.shortage and self._stop.reason is None:
            raise WorldError(f"resources: must fit a node, got {slots.shortage}")

    def facts(self) -> dict[str, str]:
        """What is to be remembered of a cluster that others have started."""
        return {} if self._address == LOCAL else {"nodes": node_kinds()}

    def execute(
        self,
        work: Work,
        *,
        fingerprint: str | None = None,
        remote: ObjectStore | None = None,
        placed: Callable[[Place], None] = lambda _: None,
    ) -> None:
        """Run a work until it has no more, or until told to stop.

        Args:
            work: what is to be done.
            fingerprint: of its data set, which nodes may have another one of; None: any will do.
            remote: where checkpoints are kept, if not in the folders of the assignments.
            placed: hears where each attempt runs, before its first event is passed on.
        """
        self.connect()
        desk = Desk(work, stop=self._stop, width=self._slots.width, look=self._look, placed=placed)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(desk.width)
        while not desk.done and self._stop.reason is None:
            with scratch_folder("kge-tune-") as scratch:
                try:
                    run(desk, slots=self._slots, scratch=scratch, remote=remote, fingerprint=fingerprint)
                except Stopped:
                    return
                except Exception as error:  # not of a training: these are results
                    if desk.error is not None:
                        raise desk.error from None
                    log.exception("Ray Tune ended early")
                    desk.lose_all(reason=one_line(error))

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Apply a function to every item, each on the resources of a trial, as many at once; results as they come."""
        self.connect()
        slots = self._slots

        def task(item: T) -> R:
            torch.set_num_threads(slots.threads)
            return function(item)

        remote = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, resources=dict(slots.custom), max_retries=5)(task)
        queue, waiting = deque(items), dict[ray.ObjectRef[R], T]()
        while (queue or waiting) and self._stop.reason is None:
            width = max(1, self._look())
            while queue and len(waiting) < width:
                item = queue.popleft()
                waiting[remote.remote(item)] = item
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ready:
                item = waiting.pop(reference)
                try:
                    yield item, ray.get(reference)
                except RayError as error:
                    raise WorldError(f"task: must finish, got: {one_line(error)}") from error

    def _look(self) -> int:
        """How many attempts fit now. WorldError once our own cluster has lost its only node: nothing else would come.

        Elsewhere other nodes may come. Where it is the head that died, Ray itself ends this process after a minute.
        """
        if self._address == LOCAL and not living():
            raise WorldError("Ray: must live as long as the study, its raylet has died")
        return self._slots.width


def _reach(address: str) -> None:
    """Fail in seconds where Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _quieten() -> None:
    """Ray's import gives its logger a handler on the terminal; the study's log takes its messages instead."""
    logger = logging.getLogger("ray")
    logger.handlers[:] = [logging.NullHandler()]  # with no handler at all, Python would print warnings itself
    logger.propagate = True
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # it looks for files that are not written
