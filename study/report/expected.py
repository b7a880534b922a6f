"""What would fewer trials have found, and would they have named another winner? From the i.i.d. part of the search.

All arms drew their first trials with common random numbers; a sampler that learns comes after, and is left out.
study.expected_best has the formulas.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.expected_best import ExpectedBest, expected_best, expected_charge, flips, is_pruned, random_part
from study.report.lookup import ArmRecord
from study.report.tables import labels

DRAWS = 2000
COSTS = ("epochs", "device_seconds")
_SHOWN = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500)


@dataclass(frozen=True, kw_only=True)
class ExpectedCurve:
    """The best of 1, 2, ... random trials of an arm."""

    arm: str
    model: str
    loss: str
    objective: str
    points: tuple[ExpectedBest, ...]
    charges: Mapping[str, tuple[float, ...]]  # for each of COSTS: what so many trials are charged on average

    def places(self, unit: str) -> tuple[float, ...]:
        """Where the points lie on an axis of this unit."""
        return tuple(point.trials for point in self.points) if unit == "trials" else self.charges[unit]


@dataclass(frozen=True, kw_only=True)
class FlipRow:
    """How likely fewer trials order two arms otherwise than all of them."""

    first: str
    second: str
    trials: int  # random ones of each arm, that decide the order
    probabilities: tuple[tuple[int, float], ...]  # (number of trials, probability)

    @property
    def shown(self) -> tuple[tuple[int, float], ...]:
        """At a few numbers of trials."""
        return tuple(pair for pair in self.probabilities if pair[0] in shown(self.trials))


def shown(trials: int) -> tuple[int, ...]:
    """The numbers of trials that a table has columns for."""
    return tuple(number for number in _SHOWN if number < trials)


def expected_curves(arms: Iterable[ArmRecord], *, confidence: float) -> tuple[ExpectedCurve, ...]:
    """One curve an arm with two random trials or more, none of which was pruned."""
    drawn = ((arm, random_part(arm.trials)) for arm in arms)
    return tuple(_curve(arm, values, confidence) for arm, values in drawn if len(values) > 1)


def flip_rows(
    arms: Sequence[ArmRecord], pairs: Sequence[tuple[str, str]], *, seed: int, comparable: bool
) -> tuple[FlipRow, ...]:
    """One row a pair, over the random trials that all arms have; none where arms may not be ranked or were pruned."""
    kept = [arm for arm in arms if not is_pruned(arm.trials)]
    values = {arm.name: random_part(arm.trials) for arm in kept}
    pairs = [pair for pair in pairs if values.keys() >= set(pair)]
    count = min((len(each) for each in values.values()), default=0)
    if not comparable or count < 2 or not pairs:
        return ()
    even = {arm: each[:count] for arm, each in values.items()}
    return tuple(_rows(even, pairs, count, seed))


def _rows(
    values: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]], count: int, seed: int
) -> Iterable[FlipRow]:
    found = flips(values, generator=np.random.default_rng((abs(seed), 1)), pairs=pairs, draws=DRAWS)
    for start in range(0, len(found), count):
        mine = found[start : start + count]
        probabilities = tuple((flip.trials, flip.probability) for flip in mine)
        yield FlipRow(first=mine[0].first, second=mine[0].second, trials=count, probabilities=probabilities)


def _curve(arm: ArmRecord, values: Sequence[float], confidence: float) -> ExpectedCurve:
    model, loss = labels(arm)
    return ExpectedCurve(
        arm=arm.name,
        model=model,
        loss=loss,
        objective=arm.arm.objective,
        points=expected_best(values, confidence=confidence),
        charges={unit: expected_charge(arm.trials, unit) for unit in COSTS},
    )
