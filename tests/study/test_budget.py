"""The ledger under any interleaving, in all three units: never over budget, fair at any moment, used up at the end."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.budget import Ledger, Stake, amount, in_time, longest_interval
from study.records import Cost, Dimension, SpaceCard
from tests.study import records_factory

MOST = {"a.ns": 4, "b.ns": 7, "c.sce": 10}  # epochs of a trial
ARMS = tuple(MOST)
Key = tuple[str, int]


@dataclass
class Machine:
    """Starts, charges and ends trials as a driver does; the stakes are what survives a kill."""

    unit: str
    budget: float
    width: int
    stakes: dict[Key, Stake] = field(default_factory=dict)
    known: dict[Key, float] = field(default_factory=dict)  # the longest interval when that of a trial began
    surprise: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # ... and by how much it was longer
    spans: dict[Key, tuple[float, float | None]] = field(default_factory=dict)  # when a trial started and ended
    clock: float = 0.0

    def __post_init__(self) -> None:
        self.revive()

    def revive(self) -> None:
        """Another driver, from what the database knows."""
        budget = Cost(**{self.unit: self.budget})  # type: ignore[arg-type]
        self.ledger = Ledger(arms=ARMS, budget=budget, unit=self.unit, epochs=MOST)
        for stake in in_time((stake, *self.spans[key]) for key, stake in self.stakes.items()):
            self.ledger.put(stake)

    @property
    def running(self) -> list[Key]:
        return [key for key, stake in self.stakes.items() if stake.running]

    def do(self, action: str, pick: int, seconds: float) -> None:
        running = self.running
        if action == "kill driver":
            self.revive()
        elif action == "start" and len(running) < self.width:
            self.start()
        elif action in {"charge", "finish", "fail"} and running:
            getattr(self, action)(running[pick % len(running)], 1 + pick, seconds)
        # A lost worker changes nothing: its trial stays reserved.

    def start(self) -> bool:
        arm = self.ledger.next_arm()
        if arm is None:
            return False
        before = {each: self.ledger.committed(each) for each in ARMS}
        whole = {each: self.whole_trial(each) for each in ARMS}
        number = sum(1 for name, _ in self.stakes if name == arm)
        given = min(MOST[arm], int(self.ledger.remaining(arm))) if self.unit == "epochs" else MOST[arm]
        self.put(Stake(arm=arm, trial=number, epochs=given))
        self.known[arm, number] = self.longest(arm)
        assert all(before[arm] <= before[each] for each in ARMS if before[each] + whole[each] <= self.budget)
        return True

    def whole_trial(self, arm: str) -> float:
        costs = [stake.cost.device_seconds for (name, _), stake in self.stakes.items() if name == arm]
        seconds = max(costs, default=0.0) or self.budget
        return {"trials": 1.0, "epochs": float(MOST[arm]), "device_seconds": seconds}[self.unit]

    def charge(self, key: Key, epochs: int, seconds: float) -> None:
        """A validation; what the budget does not let go on ends, and so does what has no epochs left."""
        stake = self.stakes[key]
        epochs = min(epochs, stake.epochs - stake.cost.epochs)
        self.surprise[key[0]] += max(0.0, seconds - self.known[key])
        self.put(stake.charged(Cost(epochs=epochs, device_seconds=seconds)))
        self.known[key] = self.longest(key[0])
        if self.stakes[key].cost.epochs == stake.epochs or not self.ledger.lets_go_on(key[0]):
            self.put(replace(self.stakes[key], running=False))

    def finish(self, key: Key, epochs: int, seconds: float) -> None:
        """Early stopping or pruning, at a validation."""
        self.charge(key, epochs, seconds)
        self.put(replace(self.stakes[key], running=False))

    def fail(self, key: Key, epochs: int, seconds: float) -> None:
        """A charge that no validation carries, and the end; a trial that lasted is not charged for its end."""
        stake = self.stakes[key]
        if not stake.cost.epochs or not epochs % 2:
            epochs = min(epochs, stake.epochs - stake.cost.epochs)
            self.surprise[key[0]] += max(0.0, seconds - self.known[key])
            stake = stake.charged_unmeasured(Cost(epochs=epochs, device_seconds=seconds))
        self.put(replace(stake, running=False))

    def put(self, stake: Stake) -> None:
        key = (stake.arm, stake.trial)
        self.clock += 1
        started, ended = self.spans.get(key, (self.clock, None))
        self.spans[key] = started, ended if stake.running or ended is not None else self.clock
        self.stakes[key] = stake
        self.ledger.put(stake)
        for each in self.running:  # the first measurement of an arm may be shorter than what went unmeasured before
            self.known[each] = min(self.known.get(each, inf), self.longest(each[0]))

    def spent(self, arm: str) -> float:
        return amount(self.ledger.spent(arm), self.unit)

    def longest(self, arm: str) -> float:
        return longest_interval(self.stakes_of(arm))

    def stakes_of(self, arm: str) -> list[Stake]:
        return [stake for (name, _), stake in self.stakes.items() if name == arm]


UNITS = st.one_of(
    st.tuples(st.just("trials"), st.integers(1, 6)),
    st.tuples(st.just("epochs"), st.integers(1, 60)),
    st.tuples(st.just("device_seconds"), st.integers(1, 60)),
)
NAMES = ["start", "start", "charge", "finish", "fail", "lose worker", "kill driver"]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 99), st.sampled_from([0.5, 1.0, 2.5, 8.0])), max_size=120
)


@given(declared=UNITS, width=st.integers(1, 5), actions=ACTIONS)
def test_no_interleaving_overshoots(
    declared: tuple[str, int], width: int, actions: list[tuple[str, int, float]]
) -> None:
    machine = Machine(*declared, width=width)
    for action in actions:
        machine.do(*action)
        for arm in ARMS:
            if machine.unit == "device_seconds":  # as far as an interval is longer than all before it
                assert machine.spent(arm) <= machine.budget + machine.surprise[arm]
            else:
                assert machine.ledger.committed(arm) <= machine.budget


@given(budget=st.integers(1, 60), actions=ACTIONS)
def test_one_trial_at_a_time_overshoots_by_less_than_an_interval_or_a_failure(
    budget: int, actions: list[tuple[str, int, float]]
) -> None:
    machine = Machine("device_seconds", budget, width=1)
    for action in actions:
        machine.do(*action)
        for arm in ARMS:
            stretches = [stretch for stake in machine.stakes_of(arm) for stretch in (stake.interval, stake.unmeasured)]
            assert machine.spent(arm) < budget + (max(stretches, default=0) or 1)


@given(declared=UNITS, width=st.integers(1, 5), actions=ACTIONS)
def test_at_any_moment_no_arm_is_ahead_by_more_than_one_trial(
    declared: tuple[str, int], width: int, actions: list[tuple[str, int, float]]
) -> None:
    machine = Machine(*declared, width=width)
    for action in actions:
        machine.do(*action)
        if machine.unit == "device_seconds":
            continue  # Machine.start has seen that the arm with the least went first
        committed = {arm: machine.ledger.committed(arm) for arm in ARMS}
        for arm in ARMS:
            for other in ARMS:
                worth = max(machine.whole_trial(arm), machine.whole_trial(other))
                assert committed[arm] - committed[other] <= worth


@given(actions=ACTIONS, width=st.integers(1, 5))
def test_a_new_driver_knows_what_is_kept(actions: list[tuple[str, int, float]], width: int) -> None:
    machine = Machine("epochs", 60, width=width)
    for action in actions:
        machine.do(*action)
        before = {arm: machine.ledger.committed(arm) for arm in ARMS}
        machine.revive()
        assert before == {arm: machine.ledger.committed(arm) for arm in ARMS}


@given(declared=UNITS, width=st.integers(1, 5), actions=ACTIONS, pick=st.integers(0, 99))
def test_every_budget_is_used_up(
    declared: tuple[str, int], width: int, actions: list[tuple[str, int, float]], pick: int
) -> None:
    machine = Machine(*declared, width=width)
    for action in actions:
        machine.do(*action)
    while machine.running or machine.ledger.next_arm() is not None:
        while len(machine.running) < width and machine.start():
            pass
        running = machine.running
        machine.do(("charge", "finish", "fail")[pick % 3], pick % 7, 1.0)
        pick += 1
        assert running, "with nothing running, an arm starts or all are full"
    for arm in ARMS:
        if machine.unit == "device_seconds":
            assert machine.budget - machine.longest(arm) < machine.spent(arm)
        else:
            assert machine.spent(arm) == machine.budget
    if machine.unit != "device_seconds":
        assert len({amount(machine.ledger.spent(arm), machine.unit) for arm in ARMS}) == 1


def test_ties_go_to_the_arm_named_first() -> None:
    ledger = Ledger(arms=ARMS, budget=Cost(trials=2), unit="trials")
    order = []
    while (arm := ledger.next_arm()) is not None:
        order.append(arm)
        ledger.put(Stake(arm=arm, trial=len(order)))
    assert order == [*ARMS, *ARMS]


def test_epochs_reserve_what_a_running_trial_was_given_and_the_last_trial_is_given_what_is_left() -> None:
    ledger = Ledger(arms=["a"], budget=Cost(epochs=10), unit="epochs", epochs={"a": 6})
    running = Stake(arm="a", trial=0, epochs=6)
    ledger.put(running.charged(Cost(epochs=2)))
    assert ledger.committed("a") == 6
    assert ledger.next_arm() is None, "four epochs are less than a trial, and one is running"
    ledger.put(replace(running.charged(Cost(epochs=5)), running=False))
    assert ledger.next_arm() == "a"
    assert ledger.remaining("a") == 5


def test_in_device_seconds_every_arm_is_measured_before_one_starts_a_second_trial() -> None:
    ledger = Ledger(arms=["a", "b"], budget=Cost(device_seconds=10), unit="device_seconds")
    first, second = Stake(arm="a", trial=0), Stake(arm="b", trial=0)
    ledger.put(first)
    assert ledger.committed("a") == 10, "nobody knows what a trial is worth"
    assert ledger.next_arm() == "b"
    ledger.put(second)
    ledger.put(first.charged(Cost(device_seconds=2)))
    assert ledger.committed("a") == 4, "what it took, and another interval"
    assert ledger.next_arm() is None, "b has measured nothing"
    ledger.put(second.charged(Cost(device_seconds=1)))
    assert ledger.next_arm() == "b", "two against four"


def test_device_seconds_let_go_on_what_fits_and_reserve_a_trial_like_the_longest() -> None:
    ledger = Ledger(arms=["a"], budget=Cost(device_seconds=20), unit="device_seconds")
    long, short = Stake(arm="a", trial=0), Stake(arm="a", trial=1)
    for _ in range(3):
        long = long.charged(Cost(device_seconds=2))
    ledger.put(replace(long, running=False))
    ledger.put(short)
    assert ledger.committed("a") == 12, "six, and as much again"
    ledger.put(Stake(arm="a", trial=2))
    assert ledger.next_arm() is None, "two seconds remain, a trial takes six"
    ledger.put(short.charged(Cost(device_seconds=9)))
    assert not ledger.lets_go_on("a"), "fifteen are used, and two intervals of nine do not fit"


def test_what_an_arm_starts_from_is_no_trial_that_the_next_ones_are_like() -> None:
    ledger = Ledger(arms=["a"], budget=Cost(device_seconds=200), unit="device_seconds")
    ledger.put(Stake.before("a", Cost(trials=1, device_seconds=60)))
    ledger.put(replace(Stake(arm="a", trial=0).charged(Cost(device_seconds=10)), running=False))
    ledger.put(Stake(arm="a", trial=1))
    assert ledger.committed("a") == 60 + 10 + 10


def test_a_stopped_arm_starts_nothing() -> None:
    ledger = Ledger(arms=["a", "b"], budget=Cost(trials=2), unit="trials")
    assert ledger.stop("a")
    assert not ledger.stop("a"), "it was stopped before"
    assert ledger.next_arm() == "b"


def test_the_stake_of_a_record_is_the_stake_of_its_events() -> None:
    record = records_factory.trial(records_factory.arm("complex", "sce"), 0, epochs=4)
    curve = tuple(replace(each, device_seconds=each.epoch / 4) for each in record.curve)
    record = replace(record, curve=curve, cost=Cost(trials=1, epochs=6, device_seconds=8.0))
    stake = Stake(arm="complex.sce", trial=0, epochs=4)
    for each in curve:
        stake = stake.charged(Cost(epochs=each.epochs, device_seconds=each.device_seconds))
    stake = stake.charged_unmeasured(Cost(epochs=2, device_seconds=5.5))
    assert Stake.of(record) == replace(stake, running=False)
    assert (stake.interval, stake.unmeasured) == (1.0, 5.5)


def test_what_failed_allocations_take_is_charged_and_is_no_interval() -> None:
    ledger = Ledger(arms=["a"], budget=Cost(device_seconds=3600), unit="device_seconds")
    failed = Stake(arm="a", trial=0).charged_unmeasured(Cost(device_seconds=1200))
    ledger.put(replace(failed, running=False))
    assert ledger.is_open("a")
    running = Stake(arm="a", trial=1)
    while ledger.lets_go_on("a"):
        running = running.charged(Cost(device_seconds=10))
        ledger.put(running)
    assert ledger.spent("a").device_seconds == 3600


def test_where_nothing_was_measured_the_longest_without_stands_for_an_interval() -> None:
    ledger = Ledger(arms=["a"], budget=Cost(device_seconds=10), unit="device_seconds")
    for number in range(3):
        assert ledger.is_open("a")
        failed = Stake(arm="a", trial=number).charged_unmeasured(Cost(device_seconds=3))
        ledger.put(replace(failed, running=False))
    assert not ledger.is_open("a"), "one second remains, a trial takes three"


def test_the_most_epochs_of_a_space_are_the_highest_that_it_gives() -> None:
    path = "training.max_epochs"
    for tuned, most in (
        ((Dimension(path=path, kind="int", low=10, high=50),), 50),
        ((Dimension(path=path, kind="categorical", choices=(20, 80, 40)),), 80),
        ((), 30),
    ):
        card = SpaceCard(arm="a", tuned=tuned, fixed=((path, 30),) if not tuned else ())
        ledger = Ledger.over(cards=[card], budget=Cost(epochs=100), unit="epochs", generations={})
        ledger.put(Stake(arm="a", trial=0, epochs=101 - most))
        assert ledger.next_arm() is None, "one epoch less than a trial remains"
        ledger = Ledger.over(cards=[card], budget=Cost(epochs=100), unit="epochs", generations={})
        ledger.put(Stake(arm="a", trial=0, epochs=100 - most))
        assert ledger.next_arm() == "a"


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(ValueError, match="budget must be positive in epochs, got 0"):
        Ledger(arms=["a"], budget=Cost(trials=3), unit="epochs")
