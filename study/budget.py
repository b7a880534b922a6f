"""Who may start the next trial: equal budgets per arm, never overshot, fair at any moment.

A trial reserves its cost before it starts and settles for what it used, so

    committed(arm) = sum over final trials of cost + sum over running trials of max(cost, reservation)

and an arm may start a trial only while committed + reservation <= budget. The next arm is the one with
the smallest committed share of its budget, so a study stopped at any moment has spent the same on every
arm to within one trial. The ledger is a pure view over what the database knows of the trials: a lost
worker leaves its trial reserved, and a killed driver changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from study.records import Cost

UNITS = ("trials", "epochs", "device_seconds")


@dataclass(frozen=True, kw_only=True)
class Stake:
    """What one trial has taken from its arm's budget."""

    arm: str
    trial: int
    running: bool
    cost: Cost  # charged so far; `trials` is 1 from the start


def amount(cost: Cost, unit: str) -> float:
    """A cost in one unit."""
    return float(getattr(cost, unit))


class Ledger:
    """Budgets, reservations and spendings of all arms, in the order in which the study names them."""

    def __init__(self, *, arms: Iterable[str], budget: Cost, unit: str, reservation: Cost | None = None) -> None:
        if unit not in UNITS:
            raise ValueError(f"ledger: unit must be one of {', '.join(UNITS)}, got {unit!r}")
        self.arms = tuple(arms)
        self.unit = unit
        self.limit = amount(budget, unit)
        self._reserve = amount(reservation or Cost(trials=1, epochs=1), unit)
        self._stakes: dict[str, dict[int, Stake]] = {arm: {} for arm in self.arms}
        if not self.limit > 0:
            raise ValueError(f"ledger: budget must be positive in {unit}, got {self.limit}")

    def put(self, stake: Stake) -> None:
        """Take note of a trial as it stands now: issued, charged or settled."""
        if stake.arm not in self._stakes:
            raise ValueError(f"ledger: arm must be one of {self.arms}, got {stake.arm!r}")
        self._stakes[stake.arm][stake.trial] = stake

    def stakes(self, arm: str) -> list[Stake]:
        """The trials of an arm."""
        return list(self._stakes[arm].values())

    def spent(self, arm: str) -> Cost:
        """What the trials of an arm were charged, in all units."""
        return sum((stake.cost for stake in self.stakes(arm)), start=Cost())

    def committed(self, arm: str) -> float:
        """Spent and reserved by an arm, in the declared unit."""
        return sum(self._commitment(stake) for stake in self.stakes(arm))

    def remaining(self, arm: str) -> float:
        """What an arm may still commit."""
        return self.limit - self.committed(arm)

    def next_arm(self) -> str | None:
        """The arm that starts the next trial: smallest committed share, first named on ties; None when all are full."""
        open_arms = [arm for arm in self.arms if self.remaining(arm) >= self._reserve]
        return min(open_arms, key=self.committed, default=None)

    def parity(self) -> dict[str, float]:
        """Largest over smallest spending of an arm, per unit; 1 is equal."""
        return {unit: _ratio([amount(self.spent(arm), unit) for arm in self.arms]) for unit in UNITS}

    def _commitment(self, stake: Stake) -> float:
        cost = amount(stake.cost, self.unit)
        return max(cost, self._reserve) if stake.running else cost


def _ratio(spent: list[float]) -> float:
    low, high = min(spent), max(spent)
    if high == 0:
        return 1.0
    return high / low if low > 0 else float("inf")
