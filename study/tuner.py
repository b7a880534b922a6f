"""Ray Tune executes a work: one Tune trial is one attempt, on actors that stay warm.

    work.next() -> Searcher.suggest
    work.measured(), work.ended()          in TrialScheduler.on_trial_result, before Tune goes on
    work.lost()                            for what Tune sees as an error: that is infrastructure

Tune's own state is scratch in a temporary folder and never restored.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
import torch
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from kge.documents import flatten
from study.environment import device_name
from study.errors import WorldError, in_short, named
from study.nodes import Slots, offered
from study.object_store import ObjectStore
from study.records import Assignment, Outcome, Place
from study.trial import run_attempt, sealed_dataset
from study.work import Stop, Work

# Workers lost in a row, with nothing measured in between: the cluster is broken, not the trials. A large node takes
# all its trials with it, so on a wide cluster it is as many as run at once, three times over.
MAX_LOSSES_IN_A_ROW = 12
_WAVES = 3
METRIC = "mrr"  # Tune wants a name; no decision is made on its copy of the value
_CHECK = 5.0  # seconds between two looks at the cluster

# Strict checks and loggers would end a study for a missing metric and slow every report; Tune's snapshots are
# never read; SIGINT is ours.
VARIABLES = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_THRESHOLD_S": "5",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run(desk: "Desk", *, slots: Slots, scratch: Path, remote: ObjectStore | None, fingerprint: str | None) -> None:
    """Let Tune execute what the desk issues until it issues no more; Stopped when told to stop."""
    tuner = tune.Tuner(
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
            storage_path=str(scratch),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            stop=_Stopper(desk),
            verbose=0,
        ),
    )
    with _memory_kills_are_deaths(), _credentials_stay():
        tuner.fit()


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


def _cause(trial: Trial) -> str:
    """Why Tune gave a trial up, in one line. Only some errors are stored as such, the others as text."""
    if trial.pickled_error_file:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return one_line(error)
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    return in_short(text.partition("\n")[2])


def _held(trial: Trial) -> float:
    """Seconds since its worker began; none where none has. What waits for a node has no worker yet."""
    began: Any = trial.run_metadata.start_time
    return 0.0 if began is None else max(0.0, time.time() - began)


def one_line(error: Exception) -> str:
    """An error in short. Ray says what happened first; of a traceback that it quotes, the last line is the error's."""
    if not isinstance(error, RayTaskError | TuneError):
        return named(error)
    return in_short(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[-1]}")


class Desk:
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
        if self.losses >= max(MAX_LOSSES_IN_A_ROW, _WAVES * self.width):
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

    def __init__(self, desk: Desk) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._desk = desk

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self._desk.stop.reason is not None:
            raise Stopped  # of no answer Tune would ask again for ten minutes while nothing runs
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

    def __init__(self, desk: Desk) -> None:
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


class Stopped(BaseException):
    """Leaves Tune at once: its own way to stop waits up to ten seconds for every worker."""


class _Stopper(_Scratch, tune.Stopper):
    """Ends Tune's loop on request, or when nothing can run any more."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._checked = time.monotonic()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._desk.stop.reason is not None:
            raise Stopped
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
        precision = str(flatten(assignment.config)["training.precision"])
        self._place = Place(
            arm=assignment.arm,
            stage=assignment.stage,
            trial=assignment.trial,
            attempt=assignment.attempt,
            node=node,
            host=socket.gethostname(),
            device=device_name(slots.device, precision),
        )
        self._events = run_attempt(
            assignment,
            dataset=partial(sealed_dataset, fingerprint=config["fingerprint"]),
            device=slots.device,
            remote=config["remote"],
            share=slots.share(offered(node)),
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return {"event": next(self._events), "place": self._place}

    def cleanup(self) -> None:
        self._events.close()
