"""One training of a study again, from what the study recorded of it: does its number hold?

    exact    every validation of the replay is the recorded one to the last bit: MRR, loss and all other metrics
    within   |MRR of the replay - MRR of the record| <= tolerance at every recorded epoch

A training is a function of its configuration, seed, data set, number of threads, device and programs, so on a CPU
with the same versions the first must come out. GPUs add in any order, other versions and other numbers of threads
in another one; there the second is what can be asked. The replay trains in a scratch folder and reads the study's
database without a word to it. A trial that broke by its own numbers must break in the same way again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from kge.data import Dataset
from kge.documents import parse_config
from kge.errors import ConfigError
from kge.names import unknown
from study.config import parse_study
from study.environment import environment
from study.errors import UserError
from study.history import curves_by_trial, study_record
from study.layout import REPLICATES, TRIALS
from study.nodes import Slots
from study.object_store import ObjectStore, remote_of
from study.records import Arm, Assignment, FailureClass, Measurement, Outcome, ReplicateRecord, StudyRecord
from study.replicate import STAGE, replicate_config
from study.report import hardware
from study.site import Site
from study.space import Space
from study.store import Store
from study.trial import fetch_start, run_attempt, same_dataset, same_starts

_KINDS = {TRIALS: "trial", REPLICATES: "replicate"}
_OWN_FAULT = (FailureClass.DIVERGENCE, FailureClass.BUG)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A training as the study recorded it."""

    name: str  # "trial complex.sce/3"
    arm: str
    number: int
    config: Mapping[str, object]
    curve: tuple[Measurement, ...]  # by epoch
    started: float | None  # unix time, seconds
    failure: FailureClass | None  # that must come again


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the replay says of the record."""

    holds: bool
    sentence: str


def again(
    site: Site,
    named: str,
    *,
    is_replicate: bool,
    device: str | None,
    tolerance: float,
    say: Callable[[str], None],
) -> Judgement:
    """Train ARM/NUMBER of a study again, telling every validation, and judge it; without a device, on the study's."""
    with closing(site.open()) as store:
        record = study_record(site.database, site.name)
        recorded = recorded_replicate(record, store, named) if is_replicate else recorded_trial(record, named)
        spec = _spec_at(record, store, recorded.started)
    same_starts([arm for arm in record.arms if arm.name == recorded.arm])
    remote = remote_of(record.environment)
    if remote is None:
        _check_start(recorded, site.folder)
    slots = Slots.of(parse_study(spec, f"study {record.name}", dataset=record.dataset).resources)
    dataset = same_dataset(record.dataset, record.passport).sealed()
    device = _checked(device or slots.device)
    torch.set_num_threads(slots.threads)
    say(f"{recorded.name} again, on {device} (threads: {slots.threads}), as far as the record goes")
    for line in hardware.changed(record.environment_at(recorded.started), environment()):
        say(line)
    known, events = {each.epoch: each.mrr for each in recorded.curve}, list[Measurement | Outcome]()
    for event in train_again(recorded, folder=site.folder, dataset=dataset, device=device, remote=remote):
        events.append(event)
        if isinstance(event, Measurement):
            was = f"recorded {known[event.epoch]:.6f}" if event.epoch in known else "not recorded"
            say(f"epoch {event.epoch}: mrr {event.mrr:.6f}, {was}")
    found = judge(recorded, events, tolerance=tolerance)
    say(found.sentence)
    return found


def recorded_trial(record: StudyRecord, named: str) -> Recorded:
    """The trial ARM/NUMBER; UserError when there is none, or nothing in it that could be held against a replay."""
    arm, number = _parsed(record, named)
    trial = next((each for each in record.trials if (each.arm, each.number) == (arm.name, number)), None)
    if trial is None:
        count = len(record.trials_of(arm.name))
        raise UserError(f"trial: must be one of the {count} trials of {arm.name}, counted from 0, got {number}")
    if not trial.state.is_final:
        raise UserError(f"trial: must have ended, {named} is running")
    failure = trial.failure if trial.failure in _OWN_FAULT else None
    if not trial.curve and failure is None:
        raise UserError(f"trial: must have been validated, {named} was not ({trial.reason})")
    space = Space.of(arm, next(card for card in record.spaces if card.arm == arm.name))
    try:
        config = space.trial_config(dict(trial.params), trial.seed, epochs=trial.epochs, source=trial.source)
    except ConfigError as error:
        raise UserError(f"trial: must be one that can train, {named} is refused as it was drawn: {error}") from None
    return Recorded(
        name=f"trial {named}",
        arm=arm.name,
        number=number,
        config=config,
        curve=trial.curve,
        started=trial.started,
        failure=failure,
    )


def recorded_replicate(record: StudyRecord, store: Store, named: str) -> Recorded:
    """The replicate ARM/INDEX of the arm's selection that counts; UserError as for a trial."""
    arm, index = _parsed(record, named)
    selection, mine = record.current_selection(arm.name), _replicates(record, arm.name)
    place = next((place for place, each in enumerate(mine) if each.index == index), None)
    if selection is None or place is None:
        known = ", ".join(str(each.index) for each in mine) or "none"
        raise UserError(f"replicate: must be one of {arm.name}'s (known: {known}), got {index}")
    curve = curves_by_trial(store.measurements(record.name, STAGE)).get((arm.name, index), ())
    if not mine[place].state.is_final or not curve:
        raise UserError(f"replicate: must have ended with a validation, {named} has not")
    start = _replicates(record, arm.source)[place] if arm.source is not None else None
    source = (start.arm, start.index) if start is not None else None
    config = replicate_config(selection, seed=mine[place].seed, source=source)
    return Recorded(
        name=f"replicate {named}",
        arm=arm.name,
        number=index,
        config=config,
        curve=tuple(curve),
        started=mine[place].started,
        failure=None,
    )


def _spec_at(record: StudyRecord, store: Store, time: float | None) -> str:
    """The study file as it was when a training began: an amendment may give later ones other resources."""
    amended = [each.spec for each in record.amendments if time is not None and each.time <= time]
    return amended[-1] if amended else store.launched(record.name).spec


def _check_start(recorded: Recorded, folder: Path) -> None:
    """UserError where the checkpoint that the training started from is not in the study's folder any more."""
    start = parse_config(recorded.config).pretrain.checkpoint
    if start is None or (folder / start).is_file():
        return
    what = "the checkpoint"
    if not Path(start).is_absolute():
        stage, arm, number, _ = Path(start).parts
        what = f"the best checkpoint of {_KINDS[stage]} {number} of {arm}"
    raise UserError(f"{folder / start}: must be {what}, from which {recorded.name} started, but it does not exist")


def train_again(
    recorded: Recorded, *, folder: Path, dataset: Dataset, device: str, remote: ObjectStore | None = None
) -> Iterator[Measurement | Outcome]:
    """The validations of the replay, as far as the record goes; the outcome last, where it came to one."""
    last = recorded.curve[-1].epoch if recorded.curve else 0
    with TemporaryDirectory(prefix="kge-replay-") as scratch:
        if remote is not None:
            fetch_start(parse_config(recorded.config), remote, folder := Path(scratch))
        assignment = Assignment(
            study="replay",
            arm=recorded.arm,
            stage="search",
            trial=recorded.number,
            attempt=0,
            config=recorded.config,
            folder=str(folder),
            directory=scratch,
        )
        with closing(run_attempt(assignment, device=device, dataset=lambda _: dataset, share=1.0)) as events:
            for event in events:
                yield event
                if isinstance(event, Measurement) and event.epoch >= last and recorded.failure is None:
                    return


def judge(recorded: Recorded, events: Sequence[Measurement | Outcome], *, tolerance: float) -> Judgement:
    """Does the record hold?"""
    again = {each.epoch: each for each in events if isinstance(each, Measurement)}
    problem = _broken(recorded, again, [each for each in events if isinstance(each, Outcome)])
    if problem:
        return Judgement(holds=False, sentence=f"does not hold: {problem}")
    count = f"{len(recorded.curve)} validation" + ("" if len(recorded.curve) == 1 else "s")
    if all(each.epoch in again and _values(each) == _values(again[each.epoch]) for each in recorded.curve):
        broken = f", and it breaks by {recorded.failure} again" if recorded.failure else ""
        return Judgement(holds=True, sentence=f"holds exactly: {count}, the same to the last bit{broken}")
    return _measured(recorded.curve, again, tolerance)


def _broken(recorded: Recorded, again: Mapping[int, Measurement], ends: Sequence[Outcome]) -> str:
    """Why the replay cannot hold the record, whatever it measured; empty when it can."""
    broke = next((each for each in ends if each.failure), None)
    if recorded.failure and (broke is None or broke.failure is not recorded.failure):
        came = f"by {broke.failure}: {broke.reason}" if broke else "not at all"
        return f"it broke by {recorded.failure} and now {came}"
    missing = next((each.epoch for each in recorded.curve if each.epoch not in again), None)
    return f"the replay broke before epoch {missing}: {broke.reason}" if broke and missing else ""


def _measured(curve: Sequence[Measurement], again: Mapping[int, Measurement], tolerance: float) -> Judgement:
    """By the largest difference; a replay whose own curve ended it earlier is compared as far as it goes."""
    both = [(each, again[each.epoch]) for each in curve if each.epoch in again]
    difference, epoch = max(((abs(a.mrr - b.mrr), a.epoch) for a, b in both), default=(inf, 0))
    bests = abs(max(each.mrr for each in curve) - max((each.mrr for each in again.values()), default=inf))
    holds = max(difference, bests) <= tolerance
    said = (
        f"the largest difference of validation MRR is {difference:.3g}, at epoch {epoch}, that of the best {bests:.3g}"
    )
    if len(both) < len(curve):
        said += f"; its own curve ended the replay after epoch {max(again, default=0)} of {curve[-1].epoch}"
    return Judgement(holds=holds, sentence=f"{'holds' if holds else 'does not hold'} within {tolerance:g}: {said}")


def _replicates(record: StudyRecord, arm: str) -> list[ReplicateRecord]:
    return sorted(record.current_replicates(arm), key=attrgetter("index"))


def _values(measurement: Measurement) -> tuple[object, ...]:
    return measurement.mrr, measurement.loss, sorted(measurement.metrics)


def _checked(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: must be on this machine, got 'cuda'; --device cpu says whether the number holds there")
    return device


def _parsed(record: StudyRecord, named: str) -> tuple[Arm, int]:
    name, slash, number = named.rpartition("/")
    if not slash or not number.isdecimal():
        raise UserError(f"trial: must be ARM/NUMBER, got {named!r}")
    arm = next((each for each in record.arms if each.name == name), None)
    if arm is None:
        raise UserError(f"trial: {unknown('arm', name, [each.name for each in record.arms])}")
    return arm, int(number)
