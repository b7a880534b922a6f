"""Search and replication on a real database and a toy cluster: killed at any commit, they end whole."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from study.arms import Arms, Search
from study.attempts import MAX_LOSSES
from study.budget import Ledger
from study.config import StudyConfig
from study.database import sqlite_url
from study.history import trial_records
from study.records import Assignment, Dimension, FailureClass, Measurement, Outcome, Selection, TrialRecord, TrialState
from study.replicate import ReplicateWork
from study.search import SearchWork
from study.selection import freeze
from study.space import Space
from study.store import Registration, Store
from study.work import ArmProgress, Sequence, Work
from tests.study.study_files import config

EPOCHS = 3
LIVES = 50  # of a driver, at most: each must bring the study on
PRUNED = config(
    ("    - {name: transe, norm: 1, label: transe-l1}\n", ""),
    ("trials: 4", "trials: 3"),
    ("replicates: 2", "replicates: 1"),
)
STUDY = replace(PRUNED, pruning=None)
TRIALS, REPLICATES = STUDY.budget.trials, STUDY.replicates
ARMS = [arm.name for arm in STUDY.arms]
LR = Dimension(path="optimizer.lr", kind="float", low=1e-3, high=1.0, log=True)
SPACES = {arm.name: Space(arm=arm, tuned=(LR,), fixed=(("training.max_epochs", EPOCHS),)) for arm in STUDY.arms}
Key = tuple[str, str, int]


class Killed(BaseException):
    """SIGKILL, as far as the database can tell."""


@dataclass
class Cluster:
    """Runs attempts of three epochs, some at once, in an order of its own; its disk survives the driver."""

    rng: random.Random
    disk: dict[Key, list[Measurement]] = field(default_factory=dict)
    loses: Callable[[Assignment], bool] = lambda _: False
    diverges: Callable[[Assignment], bool] = lambda _: False
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
                work.lost(assignment, reason="worker lost", by_itself=True)
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
        while len(saved) < EPOCHS:
            if self.diverges(assignment):
                yield Outcome(state=TrialState.FAIL, failure=FailureClass.DIVERGENCE, reason="the loss is nan")
                return
            self.clock += 1
            saved.append(measurement(assignment, epoch=len(saved) + 1, time=self.clock))
            yield saved[-1]
        yield Outcome(state=TrialState.COMPLETE, reason="max_epochs")


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
            cluster.execute(Sequence(self.works(store, arms)))

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
            listen=self.heard.append,
        )

    def search(self, store: Store, arms: Arms) -> SearchWork:
        return SearchWork(
            study="s",
            folder=self.folder,
            store=store,
            arms=arms,
            spaces=SPACES,
            ledger=Ledger(arms=ARMS, budget=self.study.budget, unit="trials"),
            pruning=self.study.pruning,
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
        budget_unit="trials",
        replicates=study.replicates,
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
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, TRIALS)
    assert all(trial.state.is_final for trial in trials)
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, trial.cost.epochs + 1))
        if trial.state is TrialState.COMPLETE:
            assert trial.cost.epochs == EPOCHS
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


@pytest.mark.parametrize("seed", range(4))
def test_drivers_killed_at_any_commit_leave_the_study_whole(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    home, cluster = Home(tmp_path, PRUNED if seed % 2 else STUDY), Cluster(rng)
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
    home.drive(Cluster(random.Random(1), diverges=lambda each: each.arm == ARMS[0]))
    failed = [trial for trial in home.all_trials() if trial.arm == ARMS[0]]
    assert [(each.state, each.failure) for each in failed] == [(TrialState.FAIL, FailureClass.DIVERGENCE)] * TRIALS
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


def test_progress_is_told_arm_by_arm(tmp_path: Path) -> None:
    home = Home(tmp_path, STUDY)
    home.drive(Cluster(random.Random(1)))
    last = {(each.stage, each.arm): each for each in home.heard}
    assert {key: (each.done, each.running, each.total) for key, each in last.items()} == {
        **{("search", arm): (TRIALS, 0, TRIALS) for arm in ARMS},
        **{("replicate", arm): (REPLICATES, 0, REPLICATES) for arm in ARMS},
    }
    assert all(each.running >= 0 for each in home.heard)
