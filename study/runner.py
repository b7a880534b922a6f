"""Ray: where attempts run. One Tuner over warm actors executes a work, whatever its decisions are.

    work.next() -> Searcher.suggest        one Tune trial is one attempt
    work.measured(), work.ended()          in TrialScheduler.on_trial_result, before Tune goes on
    work.lost()                            for what Tune sees as an error: that is infrastructure

The database is the only truth. Tune's own state is scratch in a temporary folder and never restored;
what was running when a driver died is issued again by the work.
"""

import logging
import math
import os
import signal
import socket
import textwrap
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest.mock import patch

import ray
import torch
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from study.config import Resources
from study.environment import device_name
from study.errors import UserError, WorldError
from study.object_store import ObjectStore
from study.records import Assignment, Outcome, Place
from study.scratch import scratch_folder
from study.trial import run_attempt, sealed_dataset
from study.work import Stop, Work

log = logging.getLogger(__name__)

# Workers lost in a row, with nothing measured in between: the cluster is broken, not the trials. A large node takes
# all its trials with it, so on a wide cluster it is as many as run at once, three times over.
MAX_LOSSES = 12
_WAVES = 3
METRIC = "mrr"  # Tune wants a name; no decision is made on its copy of the value

# Strict checks and loggers would end a study for a missing metric and slow every report; Tune's snapshots are
# never read; SIGINT is ours.
_TUNE = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_THRESHOLD_S": "5",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# Trials share the machine: a spinning thread of one is a lost core of another. Paths in the environment, such as
# KGE_DATA_DIR, may be relative, so a worker stays where it was started.
_WORKER = {"OMP_WAIT_POLICY": "passive", "RAY_CHDIR_TO_TRIAL_DIR": "0"}

_CHECK = 5.0  # seconds between two looks at the cluster
_JOINING = 120.0  # seconds that a running cluster has for its first node with room for a trial
_EVERYWHERE = ("CPU", "GPU", "memory", "object_store_memory")  # what Ray counts on nodes by itself
_OBJECTS = 128 * 2**20  # bytes for objects between processes: ranks of a test split are the largest

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What one attempt takes, and how many may run at once (None: as many as fit)."""

    cpus: float = 1
    gpus: float = 0
    custom: Mapping[str, float] = field(default_factory=dict)  # as the nodes of a cluster name them
    max_concurrent: int | None = None

    @classmethod
    def of(cls, resources: Resources) -> Self:
        """What a study file asks of a cluster for each trial."""
        return cls(
            cpus=resources.cpus_per_trial,
            gpus=resources.gpus_per_trial,
            custom=resources.custom,
            max_concurrent=resources.max_concurrent,
        )

    @property
    def threads(self) -> int:
        """Threads of torch in a worker."""
        return max(1, math.floor(self.cpus))

    @property
    def device(self) -> str:
        """Where a worker trains."""
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def needs(self) -> dict[str, float]:
        """What one attempt takes, as Ray names it."""
        return {kind: need for kind, need in {"CPU": self.cpus, "GPU": self.gpus, **self.custom}.items() if need > 0}

    @property
    def width(self) -> int:
        """How many attempts run at once on the nodes that the connected cluster has now."""
        return sum(self._fit(node) for node in _nodes()) if self.max_concurrent is None else self.max_concurrent

    @property
    def shortage(self) -> str:
        """What is lacking when no node has room for an attempt; where `max_concurrent` is given, one may still join."""
        if self.width > 0:
            return ""
        needs = ", ".join(f"{need:g} {kind}" for kind, need in self.needs.items())
        return f"{needs} per trial where the cluster has {node_kinds()}"

    def share(self, node: Mapping[str, float]) -> float:
        """An attempt's part of the memory of a node, or of the one GPU that it trains on."""
        if self.gpus > 0:
            return min(1.0, self.gpus)
        fit = self._fit(node)
        return 1 / max(1, fit if self.max_concurrent is None else min(fit, self.max_concurrent))

    def _fit(self, node: Mapping[str, float]) -> int:
        return min(math.floor(node.get(kind, 0) / need + 1e-6) for kind, need in self.needs.items())


class Cluster:
    """A Ray cluster of our own on this machine ("local"), or a running one by its address; started at first use."""

    def __init__(self, *, address: str, slots: Slots, stop: Stop, say: Callable[[str], None] = lambda _: None) -> None:
        self._address = address
        self._slots = slots
        self._stop = stop
        self._say = say
        self._open: ExitStack | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def connect(self) -> None:
        """Start or reach the cluster and see that a trial fits; WorldError when it cannot be."""
        if self._open is not None:
            return
        if "://" in self._address:
            raise UserError(
                f"--address: must be auto or HOST:PORT, got {self._address!r}; `study submit` takes a job server"
            )
        self._open = ExitStack()
        # Right below /tmp because the paths of sockets in it are limited to 107 bytes.
        scratch = self._open.enter_context(scratch_folder("kge-ray-", root=Path("/tmp")))
        self._open.callback(ray.shutdown)
        _quieten()
        os.environ.update(_TUNE)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self._address == "local":
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
            raise WorldError(f"Ray at {self._address!r}: must start or answer, got: {_one_line(error)}") from error
        self._await_room()

    def _await_room(self) -> None:
        """A cluster that others start may have its head alone as yet; WorldError when nothing that fits has come."""
        deadline = time.monotonic() + (0 if self._address == "local" else _JOINING)
        if self._slots.shortage and self._address != "local":
            self._say(f"waiting for a node, {_JOINING:g} s at most: {self._slots.shortage}")
        while self._slots.shortage and time.monotonic() < deadline and self._stop.reason is None:
            time.sleep(0.5)
        if self._slots.shortage and self._stop.reason is None:
            raise WorldError(f"resources: must fit a node, got {self._slots.shortage}")

    def facts(self) -> dict[str, str]:
        """What is to be remembered of a cluster that others have started."""
        return {} if self._address == "local" else {"nodes": node_kinds()}

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
        desk = _Desk(work, stop=self._stop, width=self._slots.width, look=self._look, placed=placed)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(desk.width)
        while not desk.done and self._stop.reason is None:
            with scratch_folder("kge-tune-") as scratch:
                try:
                    with _memory_kills_are_deaths(), _credentials_stay():
                        tuner = _tuner(
                            desk, slots=self._slots, scratch=str(scratch), remote=remote, fingerprint=fingerprint
                        )
                        tuner.fit()
                except _Stopped:
                    return
                except Exception as error:  # not of a training: these are results
                    if desk.error is not None:
                        raise desk.error from None
                    log.exception("Ray Tune ended early")
                    desk.lose_all(reason=_one_line(error))

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
                    raise WorldError(f"task: must finish, got: {_one_line(error)}") from error

    def _look(self) -> int:
        """How many attempts fit now. WorldError once our own cluster has lost its only node: nothing else would come.

        Elsewhere other nodes may come. Where it is the head that died, Ray itself ends this process after a minute.
        """
        if self._address == "local" and not _nodes():
            raise WorldError("Ray: must live as long as the study, its raylet has died")
        return self._slots.width


def node_kinds() -> str:
    """The nodes of the connected cluster by what they offer: "1 x (0 CPU), 2 x (16 CPU, 1 GPU H100)"."""
    kinds = Counter(_kind(node) for node in _nodes())
    return ", ".join(f"{count} x ({kind})" for kind, count in sorted(kinds.items())) or "no node"


def _nodes() -> list[dict[str, float]]:
    """What each living node offers, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@cache
def _node(node: str) -> dict[str, float]:
    """What a node offers."""
    return next(each["Resources"] for each in ray.nodes() if each["NodeID"] == node)  # type: ignore[no-untyped-call]


def _kind(node: Mapping[str, float]) -> str:
    model = "".join(f" {name.partition(':')[2]}" for name in sorted(node) if name.startswith("accelerator_type:"))
    gpus = [f"{node['GPU']:g} GPU{model}"] if node.get("GPU") else []
    others = [f"{node[name]:g} {name}" for name in sorted(node) if name not in _EVERYWHERE and ":" not in name]
    return ", ".join([f"{node.get('CPU', 0):g} CPU", *gpus, *others])


def _reach(address: str) -> None:
    """Fail in seconds where Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _memory_kills_are_deaths() -> Iterator[None]:
    """Let Tune survive a worker that Ray killed for memory.

    Ray raises OutOfMemoryError for it, which is no RayActorError, and Tune's actor manager then ends the whole
    run with "Caught unexpected exception" (Ray 2.60).
    """
    original = RayActorManager._actor_task_failed

    def translated(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", translated):
        yield


@contextmanager
def _credentials_stay() -> Iterator[None]:
    """Keep the driver's AWS credentials from being sent to workers, because Ray writes what is sent to a log.

    Tune would send them in the environment of every actor (Ray 2.60). Nodes have credentials of their own.
    """
    sent = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if not name.startswith("AWS_")}
    with patch.object(class_cache, "ENV_VARS_TO_PROPAGATE", sent):
        yield


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


def _cause(trial: Trial) -> str:
    """Why Tune gave a trial up, in one line. Only some errors are stored as such, the others as text."""
    if trial.pickled_error_file:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return _one_line(error)
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    return _shorten((text.splitlines()[1:] or ["no message"])[0])


def _held(trial: Trial) -> float:
    """Seconds since its worker began; none where none has. What waits for a node has no worker yet."""
    began: Any = trial.run_metadata.start_time
    return 0.0 if began is None else max(0.0, time.time() - began)


def _one_line(error: Exception) -> str:
    """Ray says what happened first; where it quotes a traceback, the last line is the error's own."""
    lines = str(error).strip().splitlines() or ["no message"]
    return _shorten(f"{type(error).__name__}: {lines[-1 if isinstance(error, RayTaskError | TuneError) else 0]}")


def _shorten(line: str) -> str:
    return textwrap.shorten(line, 200, placeholder=" ...")


def _tuner(
    desk: "_Desk", *, slots: Slots, scratch: str, remote: ObjectStore | None, fingerprint: str | None
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(_Attempt, {"cpu": slots.cpus, "gpu": slots.gpus, **slots.custom}),
        param_space={"slots": slots, "remote": remote, "fingerprint": fingerprint},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=_Issuer(desk),
            scheduler=_Judge(desk),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            stop=_Stopper(desk),
            verbose=0,
        ),
    )


class _Desk:
    """What the searcher and the scheduler share: the work, and which Tune trial is which attempt."""

    def __init__(
        self, work: Work, *, stop: Stop, width: int, look: Callable[[], int], placed: Callable[[Place], None]
    ) -> None:
        self.work = work
        self._placed = placed
        self._known: set[str] = set()  # Tune trials whose place was told
        self.stop = stop
        self.width = max(1, width)
        self._look = look
        self.live: dict[str, Assignment] = {}
        self.done = False
        self.losses = 0
        self.error: Exception | None = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep the error that Tune would replace by a TuneError with its text."""
        try:
            yield
        except Exception as error:
            self.error = error
            raise

    def look(self) -> None:
        """Make use of nodes that have joined; for one that was lost, an attempt waits until another comes."""
        self.width = max(self.width, self._look())

    def issue(self, trial_id: str) -> Assignment | None:
        """The attempt that a new Tune trial is to make."""
        if len(self.live) >= self.width:
            return None
        assignment = self.work.next()
        if assignment is not None:
            self.live[trial_id] = assignment
        self.done = assignment is None and not self.live
        return assignment

    def hear(self, trial_id: str, event: Any, *, place: Place) -> bool:
        """Pass an event on; True while the attempt goes on."""
        self.losses = 0
        if trial_id not in self._known:
            self._known.add(trial_id)
            self._placed(place)
        if isinstance(event, Outcome):
            self.work.ended(self.live[trial_id], event)
            return False
        return self.work.measured(self.live[trial_id], event)

    def lose(self, trial_id: str, *, reason: str, by_itself: bool = True, held: float = 0.0) -> None:
        """Report an attempt as lost, so long after its worker began."""
        self.losses += 1
        self.work.lost(self.live.pop(trial_id), reason=reason, by_itself=by_itself, held=held)
        if self.losses >= max(MAX_LOSSES, _WAVES * self.width):
            raise WorldError(f"workers: must live, {self.losses} were lost in a row, the last: {reason}")

    def lose_all(self, *, reason: str) -> None:
        """Report everything that runs as lost."""
        if not self.live:
            raise WorldError(f"Ray Tune: must run, got: {reason}")
        for trial_id in list(self.live):
            self.lose(trial_id, reason=reason, by_itself=False)


class _Scratch:
    """Tune pickles what it is given into a file that is never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Issuer(_Scratch, Searcher):
    """Tune asks here for trials."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._desk = desk

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self._desk.stop.reason is not None:
            raise _Stopped  # of no answer Tune would ask again for ten minutes while nothing runs
        with self._desk.guarded():
            assignment = self._desk.issue(trial_id)
        if assignment is not None:
            return {"assignment": assignment}
        return Searcher.FINISHED if self._desk.done else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self._desk.live.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from its database")


class _Judge(_Scratch, TrialScheduler):
    """Tune tells results here first, and is told whether the trial goes on."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk
        self._metric = METRIC

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        pass

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        with self._desk.guarded():
            goes_on = self._desk.hear(trial.trial_id, result["event"], place=result["place"])
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        with self._desk.guarded():
            self._desk.lose(trial.trial_id, reason=_cause(trial), held=_held(trial))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        pass

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        pass

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return None  # no preference: Tune starts what waits in the order of issue

    def debug_string(self) -> str:
        return "study"


class _Stopped(BaseException):
    """Leaves Tune at once: its own way to stop waits up to ten seconds for every worker."""


class _Stopper(_Scratch, tune.Stopper):
    """Ends Tune's loop on request, or when nothing can run any more."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._checked = time.monotonic()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._desk.stop.reason is not None:
            raise _Stopped
        if time.monotonic() - self._checked > _CHECK:
            with self._desk.guarded():
                self._desk.look()
            self._checked = time.monotonic()
        return False


class _Attempt(tune.Trainable):
    """A warm actor: makes one attempt after the other, with the data set kept loaded in its process."""

    def setup(self, config: dict[str, Any]) -> None:
        slots: Slots = config["slots"]
        torch.set_num_threads(slots.threads)
        assignment: Assignment = config["assignment"]
        node = ray.get_runtime_context().get_node_id()
        self._place = Place(
            arm=assignment.arm,
            stage=assignment.stage,
            trial=assignment.trial,
            attempt=assignment.attempt,
            node=node,
            host=socket.gethostname(),
            device=device_name(slots.device),
        )
        self._events = run_attempt(
            assignment,
            dataset=partial(sealed_dataset, fingerprint=config["fingerprint"]),
            device=slots.device,
            remote=config["remote"],
            share=slots.share(_node(node)),
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return {"event": next(self._events), "place": self._place}

    def cleanup(self) -> None:
        self._events.close()
