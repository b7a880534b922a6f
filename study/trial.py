"""One attempt of a trial: where a configuration becomes a training of kge.

The training is pulled validation by validation, so whoever consumes the attempt decides whether it goes
on; closing it is safe at any time. An error of the training is not an error of the attempt but its
outcome, classed (memory, divergence, bug). What still escapes is the machine's fault, not the trial's.
"""

import errno
import fcntl
import logging
import math
import socket
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from kge.catalog import load
from kge.checkpoint import is_damaged
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.documents import parse_config
from kge.errors import CheckpointError, DataError, DivergenceError
from kge.files import remove_half_written, sha256_of
from kge.fitting import LAST, Evaluation, Validation, cost_of, evaluate_split, fit_by_epoch
from kge.footprint import Sizes, fitted, room
from kge.memory import broken_context, is_out_of_memory, release
from kge.pretraining import check_start
from kge.rehearsal import rehearse
from kge.training import EpochReport
from study.errors import StudyFileError, UserError, WorldError
from study.object_store import ObjectStore, Sender
from study.records import TEST_SPLIT, Arm, Assignment, Cost, FailureClass, Measurement, Outcome, TrialState
from study.scratch import scratch_folder
from study.space import Space

LOCK_PATIENCE = 120.0  # seconds to wait for a dying predecessor to let go of the trial's folder
_START = ("pretrain", "checkpoint")
_LOG = logging.getLogger(__name__)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}


def same_dataset(name: str, passport: Mapping[str, object]) -> Dataset:
    """The data set that a study began with, by its passport; UserError when another one has its name now."""
    began = passport["fingerprint"]
    try:
        dataset = load(name)
    except DataError as error:
        if Path(name).exists() or not Path(name).is_absolute():
            raise
        moved = "the folder that the study began with; where it was moved, a link there to where it is will do"
        raise UserError(f"{error}; it must be {moved}") from None
    if dataset.fingerprint != began:
        must = f"must be the one that the study began with (fingerprint {str(began)[:12]})"
        raise UserError(f"data set {name!r}: {must}, got {dataset.fingerprint[:12]}")
    return dataset


def nodes_dataset(name: str, fingerprint: str | None) -> Dataset:
    """The study's data set as this node has it; WorldError where it has none, or another one under that name.

    The driver has loaded it, so neither is a trial's fault. Without a fingerprint it may be any.
    """
    try:
        return load(name) if fingerprint is None else same_dataset(name, {"fingerprint": fingerprint})
    except (DataError, UserError, OSError) as error:
        raise WorldError(f"{socket.gethostname()}: {error}") from None


@cache
def sealed_dataset(name: str, fingerprint: str | None = None) -> Dataset:
    """The same without its test split, loaded once per process."""
    return nodes_dataset(name, fingerprint).sealed()


def run_attempt(
    assignment: Assignment,
    *,
    device: str = "cpu",
    dataset: Callable[[str], Dataset] = sealed_dataset,
    remote: ObjectStore | None = None,
    share: float | None = None,
) -> Generator[Measurement | Outcome, None, None]:
    """Train or go on training; one measurement per validation, and the outcome last.

    With `remote` the checkpoints are kept there and not in the assignment's directory. With `share`, of the machine
    or of its GPU, fewer rows are in memory at a time where the training is predicted to need more. WorldError, or an
    OSError of a full or broken disk, is infrastructure: the attempt is to be repeated.
    """
    broken = broken_context(device)  # by an attempt before this one in the same process: its fault, and not this one's
    if broken is not None:
        raise WorldError(f"{device}: must answer, got: {broken}")
    meter, began = None, time.perf_counter()
    try:
        config = parse_config(assignment.config)
        stop = "max_epochs"
        with _workplace(assignment, config, remote) as desk:
            _set_aside_damaged(desk.directory / LAST)
            data = dataset(config.dataset)
            _check_start(config, desk)
            rehearse(config, device=device)
            meter = _Meter(config)
            if share is not None:
                config = fitted(config, Sizes.of(data), limit=room(device, share=share), device=device)
            with closing(fit_by_epoch(config, data, directory=desk.directory, device=device, base=desk.base)) as events:
                for event in events:
                    if isinstance(event, EpochReport):
                        meter.trained(event)
                        continue
                    desk.saved()
                    yield _measurement(assignment, event)
                    meter.validated()
                    stop = event.stop or stop
        outcome = Outcome(state=TrialState.COMPLETE, reason=stop)
    except WorldError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        used = meter.used() if meter else Cost(device_seconds=time.perf_counter() - began)
        outcome = Outcome(state=TrialState.FAIL, failure=classify(error), reason=one_line(error), unmeasured=used)
    if outcome.failure is FailureClass.MEMORY:
        release()
    yield outcome


def with_start(arm: Arm, space: Space, dataset: Dataset) -> Arm:
    """The arm with the whole path and the hash of the checkpoint that it starts from, and what its training took.

    StudyFileError where there is none, or one that the arm cannot start from; ConfigError where a value of the arm
    has no meaning with this data set.
    """
    space.check_size(dataset.num_entities)
    if arm.checkpoint is None:
        return arm
    path, cost = Path(arm.checkpoint).resolve(), cost_of_checkpoint(space)
    config = parse_config(space.config(space.draw(lambda _: 0.5), seed=0))
    try:
        check_start(path, config, dataset)
    except CheckpointError as error:
        raise StudyFileError(f"{space.where(_START)}: {error}") from None
    return replace(arm, checkpoint=str(path), checkpoint_sha256=sha256_of(path), pretraining=cost)


def cost_of_checkpoint(space: Space) -> Cost:
    """What the training took that the arm's checkpoint is of; StudyFileError where it is no checkpoint."""
    arm = space.arm
    if arm.checkpoint is None:
        return Cost()
    try:
        spent = cost_of(Path(arm.checkpoint).resolve())
    except CheckpointError as error:
        raise StudyFileError(f"{space.where(_START)}: {error}") from None
    if spent is None:
        must = "must say what its tables took, but an older version wrote it: train, join or export it anew"
        raise StudyFileError(f"{space.where(_START)}: {arm.checkpoint}: {must}")
    return Cost(trials=spent.trainings, epochs=spent.epochs, device_seconds=spent.device_seconds)


def same_starts(arms: Iterable[Arm]) -> None:
    """UserError where a checkpoint that an arm starts from is not the file any more that it was."""
    for arm in arms:
        if arm.checkpoint is None or not arm.checkpoint_sha256:
            continue
        path = Path(arm.checkpoint)
        now = sha256_of(path) if path.is_file() else "no file"
        if now != arm.checkpoint_sha256:
            must = f"must be the file that the arm began with (sha256 {arm.checkpoint_sha256[:12]})"
            raise UserError(f"arm {arm.name}: pretrain.checkpoint: {path} {must}, got {now[:12]}")


def _check_start(config: TrainingConfig, desk: "_Workplace") -> None:
    """WorldError where this node does not see the checkpoint that a training starts from: the driver did."""
    start = config.pretrain.checkpoint
    if start is not None and not (desk.directory / LAST).is_file() and not (desk.base / start).is_file():
        raise WorldError(f"{socket.gethostname()}: pretrain.checkpoint: must be a file, got {start}")


def _set_aside_damaged(last: Path) -> None:
    """A disk that spoils a checkpoint is not its trial's fault: it is trained anew, and charged once."""
    if last.is_file() and is_damaged(last):
        aside = last.with_suffix(".damaged")
        last.replace(aside)
        _LOG.warning("%s: must be a checkpoint, got a damaged file; set aside as %s, trained anew", last, aside.name)


class _Meter:
    """What an attempt has used since its last measurement; an epoch counts when it has begun."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._epochs = 0
        self._begun = False  # another epoch; at first there is a model to be made
        self._since = time.perf_counter()

    def trained(self, report: EpochReport) -> None:
        """An epoch has ended: the next begins, or a validation."""
        self._epochs += 1
        self._begun = not self._config.validates_after(report.epoch)

    def validated(self) -> None:
        """A validation has been measured."""
        self._epochs, self._begun, self._since = 0, True, time.perf_counter()

    def used(self) -> Cost:
        """Epochs, the begun one included, and seconds."""
        return Cost(epochs=self._epochs + self._begun, device_seconds=time.perf_counter() - self._since)


def forget(directory: Path) -> None:
    """Remove what only going on with a training needs; its best checkpoint stays."""
    (directory / LAST).unlink(missing_ok=True)


def classify(error: Exception) -> FailureClass:
    """Whose fault an error of a training is."""
    if isinstance(error, DivergenceError):
        return FailureClass.DIVERGENCE
    return FailureClass.MEMORY if is_out_of_memory(error) else FailureClass.BUG


def one_line(error: BaseException) -> str:
    """`ValueError: what it said (file.py:12)`."""
    said = (str(error).strip().splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {said}{place}" if said else f"{type(error).__name__}{place}"


@contextmanager
def at_hand(checkpoint: Path, folder: Path, remote: ObjectStore | None) -> Iterator[Path]:
    """The best checkpoint of a training in a study's folder; where it is kept afar, fetched while it is used."""
    if remote is None:
        yield checkpoint
        return
    with scratch_folder("kge-ranked-") as scratch:
        fetched = scratch / checkpoint.name
        remote.fetch_best(checkpoint.parent.relative_to(folder), fetched)
        yield fetched


def fetch_start(config: TrainingConfig, remote: ObjectStore, base: Path) -> None:
    """Fetch what a training starts from, where that is another one of its study."""
    start = config.pretrain.checkpoint
    if start is not None and not Path(start).is_absolute():
        remote.fetch_best(Path(start).parent, base / start)


def rank_test_split(checkpoint: Path, dataset: Dataset, *, device: str = "cpu") -> Evaluation | Outcome:
    """Rank the test split, filtered by all splits; only for replicates of a frozen selection.

    Where a score is not finite the replicate has failed: to rank it again would find the same.
    """
    splits = ("train", "valid", "test")
    try:
        return evaluate_split(checkpoint, dataset, split="test", filter_splits=splits, device=device)
    except DivergenceError as error:
        reason = f"{TEST_SPLIT}: {one_line(error)}"
        return Outcome(state=TrialState.FAIL, failure=FailureClass.DIVERGENCE, reason=reason)


def _measurement(assignment: Assignment, validation: Validation) -> Measurement:
    if not math.isfinite(validation.mrr):
        raise DivergenceError(f"epoch {validation.epoch}: validation mrr must be finite, got {validation.mrr}")
    metrics = ((name, float(value)) for name, value in validation.metrics.items() if name != "mrr")
    return Measurement(
        arm=assignment.arm,
        trial=assignment.trial,
        epoch=validation.epoch,
        mrr=validation.mrr,
        metrics=tuple(metrics),
        loss=validation.loss,
        epochs=validation.epochs,
        device_seconds=validation.device_seconds,
        time=time.time(),
    )


@dataclass(frozen=True, kw_only=True)
class _Workplace:
    """Where an attempt works."""

    directory: Path  # of its checkpoints
    base: Path  # where relative paths of its configuration start
    saved: Callable[[], None]  # told of every checkpoint before anyone hears of the validation


@contextmanager
def _workplace(assignment: Assignment, config: TrainingConfig, remote: ObjectStore | None) -> Iterator[_Workplace]:
    """The trial's own folder; or a scratch folder that begins with what the attempts before this one have sent."""
    if remote is None:
        with _exclusive(Path(assignment.directory)) as directory:
            yield _Workplace(directory=directory, base=Path(assignment.folder), saved=lambda: None)
        return
    trial = Path(assignment.directory).relative_to(assignment.folder)
    with scratch_folder("kge-trial-") as scratch:
        directory = scratch / trial
        directory.mkdir(parents=True)
        remote.take_over(trial, attempt=assignment.attempt, to=directory)
        if not (directory / LAST).is_file():
            fetch_start(config, remote, scratch)
        sender = Sender(remote, trial, attempt=assignment.attempt, directory=directory)
        yield _Workplace(directory=directory, base=scratch, saved=sender.send)


@contextmanager
def _exclusive(directory: Path) -> Iterator[Path]:
    """Hold a trial's folder: a predecessor whose driver was killed may still be writing its last checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_PATIENCE
    with (directory / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WorldError(f"{directory}: must be free, another worker holds its lock") from None
                time.sleep(0.1)
        remove_half_written(directory, "*.pt")
        yield directory
