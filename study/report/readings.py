"""One study read three times: at equal trials, at equal epochs and at equal device-seconds.

A reading cuts every arm's best-so-far curve where the arm that spent least in that unit ended, and orders the arms
by what they had found by then. Two arms cross where the one behind comes to lead. Values are validation MRRs of one
search, so an order is what this search found, and not what another would.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from study.budget import UNIT_NAMES
from study.report import text
from study.report.curves import Curve


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An arm in one reading."""

    arm: str
    best: float | None  # None: nothing to select by then
    rank: int  # from 1; arms that are equally good share the better one


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All arms at an equal amount of one unit."""

    unit: str
    limit: float
    places: tuple[Standing, ...]  # in the order of the study

    @property
    def leaders(self) -> tuple[str, ...]:
        """The arms in front."""
        return tuple(place.arm for place in self.places if place.rank == 1 and place.best is not None)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where one arm overtook another for the last time."""

    unit: str
    ahead: str  # from there on
    behind: str
    charged: float
    share: float  # of the reading's limit
    times: int  # that the two changed places


def readings(arms: Sequence[str], by_unit: Iterable[tuple[Curve, ...]]) -> tuple[Reading, ...]:
    """One reading for each unit in which every arm has a curve."""
    complete = (curves for curves in by_unit if arms and {curve.arm for curve in curves} >= set(arms))
    return tuple(_reading(arms, curves) for curves in complete if min(curve.end for curve in curves) > 0)


def crossings(
    found: Iterable[Reading], by_unit: Iterable[tuple[Curve, ...]], pairs: Sequence[tuple[str, str]]
) -> tuple[Crossing, ...]:
    """The last crossing of each pair in each reading, the latest first."""
    curves = {(curve.unit, curve.arm): curve for each in by_unit for curve in each}
    rows = [
        row
        for reading in found
        for first, second in pairs
        for row in _crossings(reading, curves[reading.unit, first], curves[reading.unit, second])
    ]
    return tuple(sorted(rows, key=lambda row: -row.share))


def summary(found: Sequence[Reading]) -> str:
    """Whether the readings have one leader; empty where there is nothing to read."""
    if not found:
        return ""
    leaders = [text.listing(list(reading.leaders)) or "no arm" for reading in found]
    if len(set(leaders)) == 1:
        units = text.listing([UNIT_NAMES[reading.unit] for reading in found])
        return f"{leaders[0]} found the highest validation MRR at equal {units} alike."
    parts = [f"{leader} at equal {UNIT_NAMES[reading.unit]}" for reading, leader in zip(found, leaders, strict=True)]
    return f"The highest validation MRR was found by {text.listing(parts)}: who is in front depends on what is counted."


def _reading(arms: Sequence[str], curves: tuple[Curve, ...]) -> Reading:
    limit = min(curve.end for curve in curves)
    best = {curve.arm: _best_at(curve, limit) for curve in curves}
    order = [best[arm] for arm in arms]
    return Reading(
        unit=curves[0].unit,
        limit=limit,
        places=tuple(Standing(arm=arm, best=best[arm], rank=1 + _above(best[arm], order)) for arm in arms),
    )


def _above(value: float | None, others: Iterable[float | None]) -> int:
    return sum(other is not None and (value is None or other > value) for other in others)


def _best_at(curve: Curve, charged: float) -> float | None:
    return max((point.best for point in curve.points if point.charged <= charged), default=None)


def _crossings(reading: Reading, first: Curve, second: Curve) -> Iterator[Crossing]:
    """One row, if the two ever changed places."""
    leads = list(_leads(first, second, reading.limit))
    turns = [(charged, now) for (_, before), (charged, now) in pairwise(leads) if before != now]
    if turns:
        charged, now = turns[-1]
        ahead, behind = (first, second) if now > 0 else (second, first)
        yield Crossing(
            unit=reading.unit,
            ahead=ahead.arm,
            behind=behind.arm,
            charged=charged,
            share=charged / reading.limit,
            times=len(turns),
        )


def _leads(first: Curve, second: Curve, limit: float) -> Iterator[tuple[float, int]]:
    """Who leads after each charge that improved something: 1 or -1; while both have as much nobody does."""
    steps = sorted((p.charged, which, p.best) for which, curve in ((0, first), (1, second)) for p in curve.points)
    best: list[float | None] = [None, None]
    moments: dict[float, tuple[float | None, float | None]] = {}
    for charged, which, value in steps:
        best[which] = value
        moments[charged] = (best[0], best[1])
    for charged, (a, b) in moments.items():
        if charged <= limit and a is not None and b is not None and a != b:
            yield charged, 1 if a > b else -1
