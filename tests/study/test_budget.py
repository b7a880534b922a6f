"""The ledger under any interleaving: never over budget, fair at any moment, exact at the end."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.budget import Ledger, Stake
from study.records import Cost

ARMS = ("a.ns", "b.ns", "c.sce")


@dataclass
class Database:
    """What survives a kill: every trial with its state and its charges."""

    trials: dict[tuple[str, int], Stake] = field(default_factory=dict)

    def ledger(self, budget: int) -> Ledger:
        ledger = Ledger(arms=ARMS, budget=Cost(trials=budget), unit="trials")
        for stake in self.trials.values():
            ledger.put(stake)
        return ledger

    def running(self) -> list[tuple[str, int]]:
        return [key for key, stake in self.trials.items() if stake.running]

    def count(self, arm: str) -> int:
        return sum(1 for name, _ in self.trials if name == arm)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["start", "finish", "fail", "charge", "lose worker", "kill driver"]), st.integers(0, 99)),
    max_size=120,
)


@given(budget=st.integers(1, 6), width=st.integers(1, 5), actions=ACTIONS)
def test_no_interleaving_overshoots_or_favours_an_arm(budget: int, width: int, actions: list[tuple[str, int]]) -> None:
    database = Database()
    ledger = database.ledger(budget)
    for action, pick in actions:
        ledger = apply(database, ledger, action, pick, budget=budget, width=width)
        counts = [database.count(arm) for arm in ARMS]
        assert max(counts) <= budget
        assert max(counts) - min(counts) <= 1
        assert [ledger.committed(arm) for arm in ARMS] == counts


@given(budget=st.integers(1, 6), actions=ACTIONS)
def test_every_budget_is_used_whole(budget: int, actions: list[tuple[str, int]]) -> None:
    database = Database()
    ledger = database.ledger(budget)
    for action, pick in actions:
        ledger = apply(database, ledger, action, pick, budget=budget, width=2)
    while (arm := ledger.next_arm()) is not None:
        start(database, ledger, arm)
    assert {arm: database.count(arm) for arm in ARMS} == dict.fromkeys(ARMS, budget)
    assert ledger.parity()["trials"] == 1.0


def apply(database: Database, ledger: Ledger, action: str, pick: int, *, budget: int, width: int) -> Ledger:
    running = database.running()
    if action == "kill driver":
        return database.ledger(budget)
    if action == "start" and len(running) < width and (arm := ledger.next_arm()) is not None:
        start(database, ledger, arm)
    elif action != "start" and running:
        key = running[pick % len(running)]
        stake = database.trials[key]
        if action == "charge":
            stake = replace(stake, cost=stake.cost + Cost(epochs=1 + pick, device_seconds=0.5))
        elif action in ("finish", "fail"):
            stake = replace(stake, running=False)
        database.trials[key] = stake  # a lost worker changes nothing: the trial stays reserved
        ledger.put(stake)
    return ledger


def start(database: Database, ledger: Ledger, arm: str) -> None:
    stake = Stake(arm=arm, trial=database.count(arm), running=True, cost=Cost(trials=1))
    database.trials[arm, stake.trial] = stake
    ledger.put(stake)


def test_ties_go_to_the_arm_named_first() -> None:
    ledger = Ledger(arms=ARMS, budget=Cost(trials=2), unit="trials")
    order = []
    while (arm := ledger.next_arm()) is not None:
        order.append(arm)
        ledger.put(Stake(arm=arm, trial=len(order), running=True, cost=Cost(trials=1)))
    assert order == [*ARMS, *ARMS]


def test_an_epoch_budget_reserves_what_a_running_trial_has_not_charged_yet() -> None:
    ledger = Ledger(arms=["a"], budget=Cost(epochs=10), unit="epochs", reservation=Cost(epochs=6))
    ledger.put(Stake(arm="a", trial=0, running=True, cost=Cost(trials=1, epochs=2)))
    assert ledger.committed("a") == 6
    assert ledger.next_arm() is None
    ledger.put(Stake(arm="a", trial=0, running=False, cost=Cost(trials=1, epochs=4)))
    assert ledger.next_arm() == "a"


def test_parity_is_the_largest_over_the_smallest_spending() -> None:
    ledger = Ledger(arms=["a", "b"], budget=Cost(trials=3), unit="trials")
    ledger.put(Stake(arm="a", trial=0, running=False, cost=Cost(trials=1, epochs=30, device_seconds=2.0)))
    assert ledger.parity() == {"trials": float("inf"), "epochs": float("inf"), "device_seconds": float("inf")}
    ledger.put(Stake(arm="b", trial=0, running=False, cost=Cost(trials=1, epochs=20, device_seconds=1.0)))
    assert ledger.parity() == {"trials": 1.0, "epochs": 1.5, "device_seconds": 2.0}


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(ValueError, match="budget must be positive in epochs, got 0"):
        Ledger(arms=["a"], budget=Cost(trials=3), unit="epochs")
