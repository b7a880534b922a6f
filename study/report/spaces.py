"""Space cards: what each arm tunes, where its best trial lies, and what is too near a bound.

A position is 0 at the lower bound and 1 at the upper one, measured in logarithms when the dimension
is logarithmic. A best within 5 % of a bound says that the range, not the arm, may set the result.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from study.records import Dimension, Importance, SpaceCard, TrialRecord, Value
from study.report import text
from study.report.lookup import ArmRecord

_NEAR_BOUND = 0.05


@dataclass(frozen=True, kw_only=True)
class DimensionRow:
    """One tuned dimension of an arm."""

    path: str
    dimension: Dimension
    range: str
    best: Value
    sampled: bool  # the best trial has a value here
    position: float | None  # of the best, for numbers
    tried: tuple[float, ...]  # positions of all trials
    elsewhere: str  # how other arms treat this path
    warning: str
    importance: float | None = None  # share of what the tuned dimensions explain (study.importance)


@dataclass(frozen=True, kw_only=True)
class CardRow:
    """The search space of one arm."""

    arm: str
    best_trial: int | None
    dimensions: tuple[DimensionRow, ...]
    fixed: tuple[tuple[str, Value], ...]  # what is not fixed alike in all arms
    importance: Importance | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """The boundary warnings of the arm."""
        return tuple(row.warning for row in self.dimensions if row.warning)


def cards(arms: tuple[ArmRecord, ...], importances: Iterable[Importance] = ()) -> tuple[CardRow, ...]:
    """One card an arm that has one, in the order of the study."""
    every = [arm.space for arm in arms if arm.space is not None]
    alike = set(fixed_everywhere(arms))
    found = {each.arm: each for each in importances}
    rows = (_card(arm, arm.space, every, alike) for arm in arms if arm.space is not None)
    return tuple(_weighed(row, found[row.arm]) if row.arm in found else row for row in rows)


def fixed_everywhere(arms: Iterable[ArmRecord]) -> tuple[tuple[str, Value], ...]:
    """What all arms fix to the same value, by path; of a single arm nothing is common."""
    every = [arm.space.fixed for arm in arms if arm.space is not None]
    if len(every) < 2:
        return ()
    return tuple(sorted((pair for pair in every[0] if all(pair in fixed for fixed in every)), key=lambda pair: pair[0]))


def position(dimension: Dimension, value: Value) -> float | None:
    """Where a value lies between the bounds, 0 to 1; None for choices and degenerate ranges."""
    low, high = dimension.low, dimension.high
    if dimension.kind == "categorical" or low is None or high is None or not low < high:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if dimension.log and low > 0 and value > 0:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _weighed(card: CardRow, importance: Importance) -> CardRow:
    """The card with what mattered."""
    shares = dict(importance.shares)
    rows = tuple(replace(row, importance=shares.get(row.path)) for row in card.dimensions)
    return replace(card, dimensions=rows, importance=importance)


def _card(arm: ArmRecord, space: SpaceCard, every: list[SpaceCard], alike: set[tuple[str, Value]]) -> CardRow:
    others = [card for card in every if card.arm != space.arm]
    best = arm.best
    return CardRow(
        arm=space.arm,
        best_trial=None if best is None else best.number,
        dimensions=tuple(_dimension(dimension, space, best, arm.trials, others) for dimension in space.tuned),
        fixed=tuple(sorted((pair for pair in space.fixed if pair not in alike), key=lambda pair: pair[0])),
    )


def _dimension(
    dimension: Dimension,
    space: SpaceCard,
    best: TrialRecord | None,
    trials: tuple[TrialRecord, ...],
    others: list[SpaceCard],
) -> DimensionRow:
    params = dict(best.params) if best is not None else {}
    value = params.get(dimension.path)
    place = _place(dimension, space, best) if best is not None else None
    tried = (_place(dimension, space, trial) for trial in trials)
    return DimensionRow(
        path=dimension.path,
        dimension=dimension,
        range=_range(dimension),
        best=value,
        sampled=dimension.path in params,
        position=place,
        tried=tuple(sorted(where for where in tried if where is not None)),
        elsewhere=_elsewhere(dimension, others),
        warning=_warning(dimension, value, place),
    )


def _place(dimension: Dimension, space: SpaceCard, trial: TrialRecord) -> float | None:
    """Where a trial lies in a range; None where its value there decided nothing."""
    params = dict(trial.params)
    return position(dimension, params.get(dimension.path)) if space.has_effect(dimension.path, params) else None


def _range(dimension: Dimension) -> str:
    if dimension.kind == "categorical":
        return " · ".join(text.value(choice) for choice in dimension.choices)
    bounds = f"{text.value(dimension.low)} to {text.value(dimension.high)}"
    step = f", step {text.value(dimension.step)}" if dimension.step not in (None, 1) else ""
    return bounds + (", log" if dimension.log else "") + step


def _warning(dimension: Dimension, value: Value, place: float | None) -> str:
    if place is None or _NEAR_BOUND <= place <= 1 - _NEAR_BOUND:
        return ""
    side, bound = ("lower", dimension.low) if place < _NEAR_BOUND else ("upper", dimension.high)
    return f"{dimension.path} = {text.value(value)} is within 5 % of its {side} bound {text.value(bound)}"


def _elsewhere(dimension: Dimension, others: list[SpaceCard]) -> str:
    """How the other arms treat this path: alike everywhere, or what differs."""
    tuned = [other for card in others for other in card.tuned if other.path == dimension.path]
    fixed = sum(any(path == dimension.path for path, _ in card.fixed) for card in others)
    absent = len(others) - len(tuned) - fixed
    differing = sum(other != dimension for other in tuned)
    notes = [
        (differing, "another range in {}"),
        (fixed, "fixed in {}"),
        (absent, "absent in {}"),
    ]
    return "; ".join(note.format(text.plural(number, "other arm")) for number, note in notes if number)
