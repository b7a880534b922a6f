"""Search and replication on a real database and a toy cluster: killed at any commit, they end whole."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from study.arms import Arms, Search
from study.attempts import MAX_LOSSES
from study.budget import Ledger, amount
from study.config import ResourcesSection, StudyConfig
from study.database import sqlite_url
from study.failures import stops
from study.history import trial_records
from study.records import (
    ArmStop,
    Assignment,
    Cost,
    Dimension,
    FailureClass,
    Measurement,
    Outcome,
    Selection,
    TrialRecord,
    TrialState,
)
from study.replicate import ReplicateWork
from study.search import SearchWork
from study.selection import freeze
from study.space import Space
from study.store import Registration, Store
from study.work import ArmProgress, InTurn, Work
from tests.study.study_files import config

EPOCHS = 3
LIVES = 50  # of a driver, at most: each must bring the study on
PRUNED = config(
    ("    - {name: transe, norm: 1, label: transe-l1}\n", ""),
    ("trials: 4", "trials: 3"),
    ("replicates: 2", "replicates: 1"),
)
STUDY = replace(PRUNED, pruning=None)
IN_EPOCHS = replace(STUDY, budget=Cost(epochs=8), budget_unit="epochs")
IN_SECONDS = replace(STUDY, budget=Cost(device_seconds=4.0), budget_unit="device_seconds")  # an epoch takes 0.5
TRIALS, REPLICATES = STUDY.budget.trials, STUDY.replicates
ARMS = [arm.name for arm in STUDY.arms]
LR = Dimension(path="optimizer.lr", kind="float", low=1e-3, high=1.0, log=True)
SPACES = {arm.name: Space(arm=arm, tuned=(LR,), fixed=(("training.max_epochs", EPOCHS),)) for arm in STUDY.arms}
CARDS = [space.card() for space in SPACES.values()]
DIVERGED = Outcome(state=TrialState.FAIL, failure=FailureClass.DIVERGENCE, reason="the loss is nan")
EXHAUSTED = Outcome(
    state=TrialState.FAIL,
    failure=FailureClass.MEMORY,
    reason="MemoryError (x.py:1)",
    unmeasured=Cost(epochs=1, device_seconds=0.25),
)
Key = tuple[str, str, int]


class Killed(BaseException):
    """SIGKILL, as far as the database can tell."""


@dataclass
class Cluster:
    """Runs attempts of three epochs or fewer, some at once, in an order of its own; its disk survives the driver."""

    rng: random.Random
    disk: dict[Key, list[Measurement]] = field(default_factory=dict)
    loses: Callable[[Assignment], bool] = lambda _: False
    fails: Callable[[Assignment, int], Outcome | None] = lambda _, epochs: None  # after so many epochs
    loss: str = "worker lost"
    held: float = 0.0  # seconds of a worker that is lost
    clock: float = 0.0
    width: int = 3

    def execute(self, work: Work) -> None:
        live: dict[int, tuple[Assignment, Iterator[Measurement | Outcome]]] = {}
        issued = 0
        while True:
            while len(live) < self.width and (assignment := work.next()) is not None:
                live[issued] = assignment, self.attempt(assignment)
                issued += 1
            if not live:
                return
            slot = self.rng.choice(sorted(live))
            assignment, events = live[slot]
            if self.loses(assignment):
                del live[slot]
                work.lost(assignment, reason=self.loss, by_itself=True, held=self.held)
                continue
            event = next(events)
            if isinstance(event, Outcome):
                work.ended(assignment, event)
            if isinstance(event, Outcome) or not work.measured(assignment, event):
                del live[slot]

    def attempt(self, assignment: Assignment) -> Iterator[Measurement | Outcome]:
        """Saves each validation before it is told, and tells the last one again when it goes on."""
        saved = self.disk.setdefault((assignment.stage, assignment.arm, assignment.trial), [])
        if saved:
            self.clock += 1
            yield replace(saved[-1], time=self.clock)
        training: Any = assignment.config["training"]
        last = training["stop_epoch"] or EPOCHS
        while len(saved) < last:
            failure = self.fails(assignment, len(saved))
            if failure is not None:
                yield failure
                return
            self.clock += 1
            saved.append(measurement(assignment, epoch=len(saved) + 1, time=self.clock))
            yield saved[-1]
        yield Outcome(state=TrialState.COMPLETE, reason="max_epochs" if last == EPOCHS else "stop_epoch")


def exhausts_until(rows: int) -> Callable[[Assignment, int], Outcome | None]:
    """The second trial and the first replicate of every arm, in their second epoch, while more rows are in memory."""

    def fails(assignment: Assignment, epochs: int) -> Outcome | None:
        training: Any = assignment.config["training"]
        large = (training["sub_batch_size"] or training["batch_size"]) > rows
        needs = (assignment.stage, assignment.trial) in {("search", 1), ("replicate", 0)}
        return EXHAUSTED if large and needs and epochs == 1 else None

    return fails


def has_both_sides(arm: str) -> bool:
    """Whether the rows of an arm's batch are two for each of its triples, so that one halving more is possible."""
    return next(each.training_type for each in STUDY.arms if each.name == arm) == "one_vs_all"


def measurement(assignment: Assignment, *, epoch: int, time: float) -> Measurement:
    seed = assignment.config["seed"]
    assert isinstance(seed, int)
    quality = random.Random(seed).random()
    return Measurement(
        arm=assignment.arm,
        trial=assignment.trial,
        epoch=epoch,
        mrr=quality * epoch / EPOCHS,
        metrics=(),
        loss=1.0,
        epochs=1,
        device_seconds=0.5,
        time=time,
    )


@dataclass
class Home:
    """A study's folder and database."""

    folder: Path
    study: StudyConfig
    heard: list[ArmProgress] = field(default_factory=list)

    @property
    def url(self) -> str:
        return sqlite_url(self.folder / "study.db")

    def drive(self, cluster: Cluster) -> None:
        """One driver's life."""
        with self.opened() as (store, arms):
            cluster.execute(InTurn(self.works(store, arms)))

    @contextmanager
    def opened(self) -> Iterator[tuple[Store, Arms]]:
        search = Search(seed=self.study.seed, config=self.study.search, spaces=SPACES)
        with closing(Store(self.url)) as store, closing(Arms(self.url, "s", search)) as arms:
            yield store, arms

    def works(self, store: Store, arms: Arms) -> Iterator[Work]:
        yield self.search(store, arms)
        yield ReplicateWork(
            study="s",
            seed=self.study.seed,
            folder=self.folder,
            store=store,
            selections=self.freeze(store, arms),
            replicates=self.study.replicates,
            sources={},
            listen=self.heard.append,
        )

    def search(self, store: Store, arms: Arms) -> SearchWork:
        return SearchWork(
            study="s",
            folder=self.folder,
            store=store,
            arms=arms,
            spaces=SPACES,
            ledger=Ledger.over(cards=CARDS, budget=self.study.budget, unit=self.study.budget_unit, generations={}),
            config=self.study,
            listen=self.heard.append,
        )

    def freeze(self, store: Store, arms: Arms) -> list[Selection]:
        return freeze(store, study="s", folder=self.folder, spaces=SPACES, trials=self.trials(store, arms))

    def trials(self, store: Store, arms: Arms) -> tuple[TrialRecord, ...]:
        return trial_records(store, arms, registration(self.study))

    def all_trials(self) -> tuple[TrialRecord, ...]:
        with self.opened() as (store, arms):
            return self.trials(store, arms)


def registration(study: StudyConfig) -> Registration:
    return Registration(
        name="s",
        spec=study.text,
        spec_sha256=study.sha256,
        seed=study.seed,
        dataset=study.dataset,
        passport={},
        arms=study.arms,
        spaces=(),
        budget=study.budget,
        budget_unit=study.budget_unit,
        replicates=study.replicates,
        identical_errors=study.identical_errors,
        pruning=None,
        environment={},
        created=0.0,
    )


@contextmanager
def killed_after(commits: int) -> Iterator[None]:
    """Let a number of transactions through, then die before the next is committed."""
    left = commits

    def count(_: sa.Connection) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    sa.event.listen(sa.Engine, "commit", count)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "commit", count)


def assert_whole(home: Home) -> None:
    """Every budget used exactly, nothing running, every epoch charged once, replicates and selections whole."""
    trials = home.all_trials()
    assert_used_up(home.study, trials)
    assert all(trial.state.is_final for trial in trials)
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, trial.cost.epochs + 1))
        if trial.state is TrialState.COMPLETE:
            assert trial.cost.epochs == EPOCHS or trial.is_truncated
    with closing(Store(home.url)) as store:
        replicates = store.replicates("s")
        selections = store.selections("s")
    assert [(each.arm, each.index) for each in replicates] == [
        (arm, i) for arm in sorted(ARMS) for i in range(REPLICATES)
    ]
    assert all(each.state is TrialState.COMPLETE and each.cost.epochs == EPOCHS for each in replicates)
    for selection in selections:
        rivals = [each for each in trials if each.arm == selection.arm and each.state is TrialState.COMPLETE]
        assert selection.valid_mrr == max(each.best_mrr or 0 for each in rivals)


def assert_used_up(study: StudyConfig, trials: tuple[TrialRecord, ...]) -> None:
    for arm in ARMS:
        spent = sum((trial.cost for trial in trials if trial.arm == arm), start=Cost())
        if study.budget_unit == "device_seconds":
            assert study.budget.device_seconds - 0.5 < spent.device_seconds <= study.budget.device_seconds
        else:
            assert amount(spent, study.budget_unit) == amount(study.budget, study.budget_unit)


@pytest.mark.parametrize("study", [STUDY, PRUNED, IN_EPOCHS, IN_SECONDS], ids=["trials", "pruned", "epochs", "seconds"])
def test_drivers_killed_at_any_commit_leave_the_study_whole(tmp_path: Path, study: StudyConfig) -> None:
    rng = random.Random(study.budget_unit)
    home, cluster = Home(tmp_path, study), Cluster(rng, fails=exhausts_until(200))
    kills = 0
    for _ in range(LIVES):
        with killed_after(rng.randrange(25, 70)):
            try:
                home.drive(cluster)
                break
            except Killed:
                kills += 1
        counts = Counter(trial.arm for trial in home.all_trials())
        assert max(counts.values(), default=0) - min(counts[arm] for arm in ARMS) <= 1, "fair at any moment"
        # In epochs and seconds too: every trial of an arm takes as much as one of another.
    assert kills >= 4
    assert_whole(home)


def test_a_killed_study_ends_with_the_same_random_trials_as_one_that_was_not(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name, STUDY) for name in ("calm", "killed")]
    for home, kills in zip(homes, (False, True), strict=True):
        home.folder.mkdir()
        cluster = Cluster(random.Random(0), width=1)
        for _ in range(LIVES):
            with killed_after(45 if kills else 10**6):
                try:
                    home.drive(cluster)
                    break
                except Killed:
                    pass
        assert_whole(home)
    calm, killed = (
        [(each.arm, each.number, each.params, each.seed, each.best_mrr) for each in home.all_trials()] for home in homes
    )
    assert calm == killed


def test_lost_workers_are_replaced_and_nothing_is_charged_for_them(tmp_path: Path) -> None:
    losses = iter([False, False, True] * 20)
    home = Home(tmp_path, STUDY)
    home.drive(Cluster(random.Random(1), loses=lambda _: next(losses, False)))
    assert_whole(home)
    assert sum(trial.attempts for trial in home.all_trials()) > len(ARMS) * TRIALS


def test_a_trial_that_always_loses_its_worker_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path, STUDY)
    home.drive(
        Cluster(random.Random(1), loses=lambda each: (each.stage, each.arm, each.trial) == ("search", ARMS[0], 1))
    )
    trials = home.all_trials()
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, TRIALS)
    [failed] = [trial for trial in trials if trial.state is TrialState.FAIL]
    assert (failed.arm, failed.number, failed.attempts) == (ARMS[0], 1, MAX_LOSSES)
    assert failed.failure is FailureClass.INFRASTRUCTURE
    assert failed.reason == "lost its worker 5 times, the last: worker lost"


def test_a_diverged_trial_is_charged_and_an_arm_of_them_has_no_selection(tmp_path: Path) -> None:
    home = Home(tmp_path, STUDY)
    home.drive(Cluster(random.Random(1), fails=lambda each, _: DIVERGED if each.arm == ARMS[0] else None))
    failed = [trial for trial in home.all_trials() if trial.arm == ARMS[0]]
    assert [(each.state, each.failure) for each in failed] == [(TrialState.FAIL, FailureClass.DIVERGENCE)] * TRIALS
    assert all(each.cost.epochs == 1 and each.cost.device_seconds > 0 for each in failed), "it had charged nothing"
    with closing(Store(home.url)) as store:
        assert {each.arm for each in store.selections("s")} == set(ARMS[1:])
        assert {each.arm for each in store.replicates("s")} == set(ARMS[1:])


def test_pruning_ends_trials_early_and_never_at_their_last_epoch(tmp_path: Path) -> None:
    home = Home(tmp_path, PRUNED)
    home.drive(Cluster(random.Random(1)))
    pruned = [trial for trial in home.all_trials() if trial.state is TrialState.PRUNED]
    assert pruned
    assert {trial.cost.epochs for trial in pruned} == {2}
    assert all(trial.reason.startswith("pruned at epoch 2") for trial in pruned)


def test_a_trial_that_was_promoted_is_not_asked_again_when_its_worker_repeats_itself(tmp_path: Path) -> None:
    home = Home(tmp_path, PRUNED)
    with home.opened() as (store, arms):
        work = home.search(store, arms)
        issued = [assignment for _ in range(3 * len(ARMS)) if (assignment := work.next()) is not None]
        first, *others = [assignment for assignment in issued if assignment.arm == ARMS[0]]
        low, high = (replace(measurement(first, epoch=2, time=1.0), mrr=mrr) for mrr in (0.1, 0.9))
        assert work.measured(first, low), "nobody else has come to the rung"
        for other in others:
            assert work.measured(other, replace(high, trial=other.trial))
        work.lost(first, reason="its node died", by_itself=True, held=0.0)
        again = work.next()
        assert again is not None
        assert again.trial == first.trial
        assert work.measured(again, low)


def test_a_pruning_that_a_crash_kept_from_being_written_is_decided_again(tmp_path: Path) -> None:
    home = Home(tmp_path, PRUNED)
    with home.opened() as (store, arms):
        work = home.search(store, arms)
        issued = [assignment for _ in range(3 * len(ARMS)) if (assignment := work.next()) is not None]
        first, second, third = [assignment for assignment in issued if assignment.arm == ARMS[0]]
        curve = ((first, 0.5, 1.0), (second, 0.1, 2.0), (third, 0.9, 3.0))
        values = {each.trial: replace(measurement(each, epoch=2, time=time), mrr=mrr) for each, mrr, time in curve}
        for value in values.values():  # charged, and then the driver died
            store.charge(home.study.name, "search", value)
    with home.opened() as (store, arms):
        work = home.search(store, arms)
        again = {each.trial: each for _ in issued if (each := work.next()) is not None and each.arm == ARMS[0]}
        goes_on = {trial: work.measured(again[trial], value) for trial, value in values.items()}
    assert goes_on == {first.trial: True, second.trial: False, third.trial: True}, (
        "as each would have been decided then"
    )


def test_the_next_driver_prunes_nobody_whom_the_last_one_let_go_on_though_clocks_differ(tmp_path: Path) -> None:
    home = Home(tmp_path, PRUNED)
    with home.opened() as (store, arms):
        work = home.search(store, arms)
        issued = [assignment for _ in range(3 * len(ARMS)) if (assignment := work.next()) is not None]
        first, second, _ = [assignment for assignment in issued if assignment.arm == ARMS[0]]
        low, high = (
            replace(measurement(each, epoch=2, time=time), mrr=mrr)
            for each, mrr, time in ((first, 0.5, 2.0), (second, 0.6, 1.0))  # in the order in which they are heard
        )
        assert work.measured(first, low)
        assert work.measured(second, high)
    with home.opened() as (store, arms):
        work = home.search(store, arms)
        again = {each.trial: each for _ in issued if (each := work.next()) is not None and each.arm == ARMS[0]}
        assert work.measured(again[first.trial], replace(low, time=3.0))


def test_progress_is_told_arm_by_arm(tmp_path: Path) -> None:
    home = Home(tmp_path, STUDY)
    home.drive(Cluster(random.Random(1)))
    last = {(each.stage, each.arm): each for each in home.heard}
    assert {key: (each.done, each.running, each.total) for key, each in last.items()} == {
        **{("search", arm): (TRIALS, 0, TRIALS) for arm in ARMS},
        **{("replicate", arm): (REPLICATES, 0, REPLICATES) for arm in ARMS},
    }
    assert all(each.running >= 0 for each in home.heard)


def test_an_epochs_budget_ends_exactly_and_its_last_trial_is_truncated(tmp_path: Path) -> None:
    home = Home(tmp_path, IN_EPOCHS)
    home.drive(Cluster(random.Random(1)))
    for arm in ARMS:
        trials = [trial for trial in home.all_trials() if trial.arm == arm]
        assert [(trial.epochs, trial.cost.epochs) for trial in trials] == [(3, 3), (3, 3), (2, 2)]
        assert trials[-1].reason == "budget: ended after 2 of 3 epochs"
        assert [trial.is_truncated for trial in trials] == [False, False, True]
        assert all(trial.is_selectable for trial in trials)


def test_what_early_stopping_and_pruning_give_back_is_given_to_more_trials(tmp_path: Path) -> None:
    stopped = Outcome(state=TrialState.COMPLETE, reason="early_stopping")
    home = Home(tmp_path, replace(PRUNED, budget=Cost(epochs=20), budget_unit="epochs"))
    home.drive(
        Cluster(random.Random(1), fails=lambda each, epochs: stopped if (each.trial, epochs) == (0, 1) else None)
    )
    trials = home.all_trials()
    assert_used_up(home.study, trials)
    assert {trial.cost.epochs for trial in trials if trial.state is TrialState.PRUNED} == {2}
    assert {trial.cost.epochs for trial in trials if trial.number == 0} == {1}
    assert min(Counter(trial.arm for trial in trials).values()) > 7


def test_a_truncated_trial_is_not_pruned_at_its_last_epoch(tmp_path: Path) -> None:
    home = Home(tmp_path, replace(PRUNED, budget=Cost(epochs=5), budget_unit="epochs"))
    home.drive(Cluster(random.Random(1)))
    assert {trial.state for trial in home.all_trials()} == {TrialState.COMPLETE}, "two epochs are a rung"


def test_a_device_seconds_budget_ends_within_an_interval(tmp_path: Path) -> None:
    home = Home(tmp_path, replace(IN_SECONDS, budget=Cost(device_seconds=4.2)))
    home.drive(Cluster(random.Random(1)))
    trials = home.all_trials()
    for arm in ARMS:
        *_, last = [trial for trial in trials if trial.arm == arm]
        assert sum(trial.cost.device_seconds for trial in trials if trial.arm == arm) == 4.0
        assert (last.state, last.reason) == (TrialState.COMPLETE, "budget: ended after 2 of 3 epochs")
        assert last.epochs == EPOCHS, "it might have trained them all"


def test_a_trial_that_memory_did_not_hold_is_trained_with_fewer_rows_at_a_time(tmp_path: Path) -> None:
    home, seen = Home(tmp_path, STUDY), []
    exhausts = exhausts_until(200)

    def fails(assignment: Assignment, epochs: int) -> Outcome | None:
        config: Any = assignment.config
        seen.append((assignment.stage, config["training"]["sub_batch_size"], config["validation"]["block_size"]))
        return exhausts(assignment, epochs)

    home.drive(Cluster(random.Random(1), fails=fails))
    assert_whole(home)
    trials = home.all_trials()
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    for trial in (trial for trial in trials if trial.number == 1):
        assert trial.attempts == 3 + has_both_sides(trial.arm)
        assert trial.cost.device_seconds == 3 * 0.5 + (trial.attempts - 1) * 0.25
    halvings = {(None, 256), (256, 128), (128, 64)} | {(None, 256), (512, 128), (256, 64), (128, 32)}
    assert set(seen) == {(stage, *rows) for stage in ("search", "replicate") for rows in halvings}


@pytest.mark.parametrize(
    ("after", "seconds", "state", "reason"),
    [
        (1, 0.5, TrialState.COMPLETE, "budget: ended after 1 of 3 epochs"),
        (0, 0.8, TrialState.FAIL, "out of memory 1 times, the last: MemoryError (x.py:1)"),
    ],
)
def test_memory_is_not_tried_again_where_no_interval_fits(
    tmp_path: Path, after: int, seconds: float, state: TrialState, reason: str
) -> None:
    home = Home(tmp_path, replace(IN_SECONDS, budget=Cost(device_seconds=1.0)))
    exhausted = replace(EXHAUSTED, unmeasured=Cost(epochs=1, device_seconds=seconds))
    home.drive(Cluster(random.Random(1), fails=lambda _, epochs: exhausted if epochs == after else None))
    trials = home.all_trials()
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, 1)
    assert {(trial.state, trial.reason, trial.attempts) for trial in trials} == {(state, reason, 1)}
    assert {trial.cost.device_seconds for trial in trials} == {0.5 * after + seconds}


def test_workers_killed_for_memory_are_given_fewer_rows(tmp_path: Path) -> None:
    home = Home(tmp_path, STUDY)
    kills = iter([True, True])

    def loses(assignment: Assignment) -> bool:
        return (assignment.stage, assignment.arm, assignment.trial) == ("search", ARMS[0], 1) and next(kills, False)

    cluster = Cluster(random.Random(1), loses=loses, loss="Task was killed due to the node running low on memory.")
    configs: list[Any] = []
    cluster.fails = lambda each, _: configs.append((each.arm, each.trial, each.config["training"])) or None  # type: ignore[func-returns-value]
    home.drive(cluster)
    assert_whole(home)
    assert {config["sub_batch_size"] for arm, trial, config in configs if (arm, trial) == (ARMS[0], 1)} >= {256}


def test_a_trial_that_no_halving_helps_fails_and_is_charged(tmp_path: Path) -> None:
    home = Home(tmp_path, IN_EPOCHS)
    home.drive(Cluster(random.Random(1), fails=exhausts_until(0)))
    trials = home.all_trials()
    assert_used_up(home.study, trials)
    for trial in (trial for trial in trials if trial.number == 1):
        count = 10 + has_both_sides(trial.arm)
        assert (trial.state, trial.failure, trial.attempts) == (TrialState.FAIL, FailureClass.MEMORY, count)
        assert trial.reason == f"out of memory {count} times, the last: MemoryError (x.py:1)"
        assert trial.cost == Cost(trials=1, epochs=2, device_seconds=0.5 + count * 0.25)


def bug(reason: str) -> Outcome:
    unmeasured = Cost(epochs=1, device_seconds=0.125)
    return Outcome(state=TrialState.FAIL, failure=FailureClass.BUG, reason=reason, unmeasured=unmeasured)


def test_an_arm_stops_after_three_identical_bugs_and_the_others_go_on(tmp_path: Path) -> None:
    home = Home(tmp_path, replace(STUDY, budget=Cost(trials=6)))
    broken = ARMS[1]

    def fails(assignment: Assignment, epochs: int) -> Outcome | None:
        line = 9 if assignment.trial else 8  # the first breaks elsewhere
        return bug(f"ValueError: dim {assignment.trial} (model.py:{line})") if assignment.arm == broken else None

    home.drive(Cluster(random.Random(1), fails=fails, width=1))
    trials = home.all_trials()
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, 6) | {broken: 4}
    assert all(trial.cost.epochs == 1 for trial in trials if trial.arm == broken)
    stop = ArmStop(arm=broken, errors=3, reason="ValueError: dim 1 (model.py:9)")
    assert stops(trials, limit=3) == (stop,)
    said = [each.said for each in home.heard if each.said.startswith("no more trials")]
    assert said == ["no more trials: 3 broke by the same bug, ValueError: dim 1 (model.py:9)"]
    with home.opened() as (store, arms):
        assert home.search(store, arms).is_done, "another driver finds nothing to do"
    home.study = replace(home.study, identical_errors=None)
    with home.opened() as (store, arms):
        assert not home.search(store, arms).is_done, "without the rule, the arm goes on"


def test_memory_and_divergence_never_stop_an_arm(tmp_path: Path) -> None:
    home = Home(tmp_path, replace(STUDY, budget=Cost(trials=5), identical_errors=1))
    home.drive(Cluster(random.Random(1), fails=lambda each, _: DIVERGED if each.trial % 2 else EXHAUSTED))
    trials = home.all_trials()
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, 5)
    assert {trial.failure for trial in trials} == {FailureClass.DIVERGENCE, FailureClass.MEMORY}


def test_the_times_of_a_trial_are_those_of_its_attempts(tmp_path: Path) -> None:
    home = Home(tmp_path, STUDY)
    before = time.time()
    home.drive(Cluster(random.Random(1)))
    with closing(Store(home.url)) as store:
        attempts = {(each.arm, each.trial): each for each in store.attempts("s", "search")}
    for trial in home.all_trials():
        attempt = attempts[trial.arm, trial.number]
        assert (trial.started, trial.ended) == (attempt.started, attempt.ended)
        assert before <= (trial.started or 0) <= (trial.ended or 0) <= time.time()


@pytest.mark.parametrize("limit", [1, 2])
def test_no_arm_has_more_trials_at_once_than_it_may(tmp_path: Path, limit: int) -> None:
    home = Home(tmp_path, replace(STUDY, resources=ResourcesSection(max_concurrent_per_arm=limit)))
    home.drive(Cluster(random.Random(0), width=100))
    assert max(said.running for said in home.heard if said.stage == "search") == limit
    assert_whole(home)
