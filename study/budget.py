"""Who may start the next trial: equal budgets per arm, used up, fair at any moment.

A trial reserves its worth before it starts and settles for what it used:

    committed(arm) = sum over final trials of cost + sum over running trials of what they reserve + kept

    unit             a running trial reserves                 a trial's worth before it starts
    trials           1                                        1
    epochs           max(cost, what it was given)             the most epochs that its space can give
    device_seconds   max(cost + interval, the arm's longest)  the arm's longest trial so far

where an interval is the longest time between two validations of any trial of the arm so far; while nothing of
it was measured, the longest that a trial took without (what failed allocations take says nothing of how long a
validation is waited for). Before an arm has any, a trial's worth is all of its budget. In epochs, what trials of
an arm reserved and did not use when they ended is kept for the trials that it starts next, so no commitment ever
falls: an arm starts while it has the smallest, and is therefore never ahead of another by more than one trial's
worth.

An arm is open while a trial's worth remains, or when nothing of it runs and anything does. So at most one
trial at a time gets less than its worth, and budgets are used up: in epochs to the last one, because a trial
is given no more than what remains; in device-seconds to within one interval, because a trial goes on after a
measurement only while the next intervals of all that run still fit.

The next arm is the open one with the smallest commitment. In device-seconds no arm starts a second trial
before every arm has measured something: until then nobody knows what a trial is worth. Arms that start from
another one (study.pretraining) follow when the trials of all that come before them have ended; what they start
from is charged before their first trial, and then the rule holds among them. The ledger is a pure
view over what the database knows of the trials: a lost worker leaves its trial reserved, and a killed driver
changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from operator import itemgetter

from study.records import Cost, SpaceCard, TrialRecord

UNITS = ("trials", "epochs", "device_seconds")
UNIT_NAMES = {"trials": "trials", "epochs": "epochs", "device_seconds": "device-seconds"}
BEFORE = -1  # the number of what is charged before the first trial


@dataclass(frozen=True, kw_only=True)
class Stake:
    """What one trial has taken from its arm's budget."""

    arm: str
    trial: int
    running: bool = True
    cost: Cost = field(default_factory=lambda: Cost(trials=1))  # charged so far
    epochs: int = 0  # given when it started
    interval: float = 0.0  # its longest time up to a measurement, in device-seconds
    unmeasured: float = 0.0  # what it took without any, in device-seconds

    @classmethod
    def all_of(cls, trial: TrialRecord) -> Iterator["Stake"]:
        """What was charged before a trial, where this is so, and the trial as it stands."""
        if trial.pretraining.trials:
            yield cls.before(trial.arm, trial.pretraining)
        yield cls.of(trial)

    @classmethod
    def before(cls, arm: str, cost: Cost) -> "Stake":
        """What an arm is charged before its first trial."""
        return cls(arm=arm, trial=BEFORE, running=False, cost=cost)

    @classmethod
    def of(cls, trial: TrialRecord) -> "Stake":
        """The stake of a trial as it stands."""
        intervals = [each.device_seconds for each in trial.curve]
        return cls(
            arm=trial.arm,
            trial=trial.number,
            running=not trial.state.is_final,
            cost=trial.cost,
            epochs=trial.epochs,
            interval=max(intervals, default=0.0),
            unmeasured=max(0.0, trial.cost.device_seconds - sum(intervals)),
        )

    def charged(self, cost: Cost) -> "Stake":
        """The stake after another measurement."""
        return replace(self, cost=self.cost + cost, interval=max(self.interval, cost.device_seconds))

    def charged_unmeasured(self, cost: Cost) -> "Stake":
        """The stake with what it took beyond its measurements."""
        return replace(self, cost=self.cost + cost, unmeasured=self.unmeasured + cost.device_seconds)


def longest_interval(stakes: Iterable[Stake]) -> float:
    """The longest time up to a measurement, in device-seconds; where nothing was measured, the longest without."""
    stakes = tuple(stakes)
    measured = max((stake.interval for stake in stakes), default=0.0)
    return measured or max((stake.unmeasured for stake in stakes), default=0.0)


def amount(cost: Cost, unit: str) -> float:
    """A cost in one unit."""
    return float(getattr(cost, unit))


def in_time(stakes: Iterable[tuple[Stake, float, float | None]]) -> Iterator[Stake]:
    """Stakes with when they started and ended: each as it was at its start and as it is now, in the order of time."""
    events = []
    for stake, started, ended in stakes:
        events.append((started, Stake(arm=stake.arm, trial=stake.trial, epochs=stake.epochs)))
        events.append((inf if ended is None else max(started, ended), stake))
    yield from (stake for _, stake in sorted(events, key=itemgetter(0)))


def most_epochs(card: SpaceCard) -> int:
    """The most epochs that the configurations of a space train."""
    path = "training.max_epochs"
    tuned = next((each for each in card.tuned if each.path == path), None)
    bounds = (dict(card.fixed)[path],) if tuned is None else (tuned.high, *tuned.choices)
    return max(int(each) for each in bounds if each is not None)


def most_repeated(epochs: int, budget: Cost, unit: str) -> float:
    """The most epochs of a replicate of a training of so many: one that the budget cut short ends where that did."""
    return min(epochs, amount(budget, unit)) if unit == "epochs" else epochs


@dataclass
class _Account:
    """The trials of an arm, with sums over those that have ended."""

    running: dict[int, Stake] = field(default_factory=dict)
    kept: float = 0.0  # epochs
    ended: set[int] = field(default_factory=set)
    settled: Cost = field(default_factory=Cost)
    measured: float = 0.0  # the longest interval
    unmeasured: float = 0.0  # the longest time without a measurement
    longest: float = 0.0  # trial, in device-seconds
    stopped: bool = False

    @property
    def interval(self) -> float:
        return self.measured or self.unmeasured


class Ledger:
    """Budgets, reservations and spendings of all arms, in the order in which the study names them."""

    def __init__(
        self,
        *,
        arms: Iterable[str],
        budget: Cost,
        unit: str,
        epochs: Mapping[str, int] | None = None,
        generations: Mapping[str, int] | None = None,
    ) -> None:
        if unit not in UNITS:
            raise ValueError(f"ledger: unit must be one of {', '.join(UNITS)}, got {unit!r}")
        self.unit = unit
        self.limit = amount(budget, unit)
        self._accounts = {arm: _Account() for arm in arms}
        self._epochs = epochs or {}  # the most that a trial of an arm trains
        turns = {arm: (generations or {}).get(arm, 0) for arm in self._accounts}
        self._turns = [[arm for arm in turns if turns[arm] == turn] for turn in sorted(set(turns.values()))]
        if not self.limit > 0:
            raise ValueError(f"ledger: budget must be positive in {unit}, got {self.limit}")

    @classmethod
    def over(
        cls,
        *,
        cards: Iterable[SpaceCard],
        budget: Cost,
        unit: str,
        generations: Mapping[str, int],
        trials: Iterable[TrialRecord] = (),
    ) -> "Ledger":
        """The ledger of the arms of these spaces, with their trials as they stand."""
        cards = tuple(cards)
        epochs = {card.arm: most_epochs(card) for card in cards} if unit == "epochs" else {}
        arms = [card.arm for card in cards]
        ledger = cls(arms=arms, budget=budget, unit=unit, epochs=epochs, generations=generations)
        spans = ((stake, trial.started or 0.0, trial.ended) for trial in trials for stake in Stake.all_of(trial))
        for stake in in_time(spans):
            ledger.put(stake)
        return ledger

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, in the order of the study."""
        return tuple(self._accounts)

    def put(self, stake: Stake) -> None:
        """Take note of a trial as it stands now: issued, charged or settled. What has ended stays as it ended."""
        if stake.arm not in self._accounts:
            raise ValueError(f"ledger: arm must be one of {self.arms}, got {stake.arm!r}")
        account = self._accounts[stake.arm]
        if stake.trial in account.ended:
            return
        account.measured = max(account.measured, stake.interval)
        account.unmeasured = max(account.unmeasured, stake.unmeasured)
        if stake.trial != BEFORE:  # which no trial takes again
            account.longest = max(account.longest, stake.cost.device_seconds)
        self._keep(account, account.running.pop(stake.trial, None), stake)
        if stake.running:
            account.running[stake.trial] = stake
        else:
            account.ended.add(stake.trial)
            account.settled += stake.cost

    def stop(self, arm: str) -> bool:
        """Let an arm start no more trials; False when it was stopped before."""
        account = self._accounts[arm]
        before, account.stopped = account.stopped, True
        return not before

    def spent(self, arm: str) -> Cost:
        """What the trials of an arm were charged, in all units."""
        account = self._accounts[arm]
        return sum((stake.cost for stake in account.running.values()), start=account.settled)

    def is_measured(self, arm: str) -> bool:
        """Whether it is known what a trial of an arm is worth in device-seconds."""
        return self._accounts[arm].interval > 0

    def committed(self, arm: str) -> float:
        """Spent and reserved by an arm, and kept for it, in the declared unit."""
        account = self._accounts[arm]
        reserved = (self._reserved(account, stake) for stake in account.running.values())
        return amount(account.settled, self.unit) + sum(reserved) + account.kept

    def remaining(self, arm: str) -> float:
        """What an arm may still give to trials; what is kept is for them."""
        return self.limit - self.committed(arm) + self._accounts[arm].kept

    def next_arm(self) -> str | None:
        """The arm that starts the next trial: the smallest commitment, first named on ties; None when none can now."""
        for turn in self._turns:
            arms = [arm for arm in turn if not self._accounts[arm].stopped]
            if self.unit == "device_seconds":
                arms = [arm for arm in arms if not self._accounts[arm].interval] or arms
            following = min((arm for arm in arms if self.is_open(arm)), key=self.committed, default=None)
            if following is not None or any(self._accounts[arm].running for arm in turn):
                return following
        return None

    def is_open(self, arm: str) -> bool:
        """Whether an arm has enough left to start a trial now."""
        account, remaining = self._accounts[arm], self.remaining(arm)
        least = account.interval if self.unit == "device_seconds" else 1
        return remaining >= self._worth(arm) or (not account.running and remaining >= least)

    def lets_go_on(self, arm: str) -> bool:
        """Whether the next intervals of all that runs of an arm fit into its budget; only device-seconds run out so."""
        if self.unit != "device_seconds":
            return True
        account = self._accounts[arm]
        return self.spent(arm).device_seconds + len(account.running) * account.interval <= self.limit

    def _keep(self, account: _Account, before: Stake | None, now: Stake) -> None:
        """Keep what an ending trial gives back; let a starting one take it."""
        if self.unit != "epochs":
            return
        if before is None and now.running:
            account.kept = max(0.0, account.kept - self._reserved(account, now))
        elif before is not None and not now.running:
            account.kept += max(0.0, self._reserved(account, before) - now.cost.epochs)

    def _worth(self, arm: str) -> float:
        """What a trial of the arm takes when nothing cuts it short."""
        account = self._accounts[arm]
        if self.unit == "trials":
            return 1.0
        if self.unit == "epochs":
            return self._epochs[arm]
        return account.longest if account.interval else self.limit

    def _reserved(self, account: _Account, stake: Stake) -> float:
        if self.unit == "trials":
            return stake.cost.trials
        if self.unit == "epochs":
            return max(stake.cost.epochs, stake.epochs)
        if not account.interval:
            return self.limit
        return max(stake.cost.device_seconds + account.interval, account.longest)
