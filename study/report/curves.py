"""Best-so-far curves: the validation MRR that an arm could have selected after each charge.

Charges count in the order in which they were made. A failed trial is charged and offers nothing.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from study import stats
from study.records import TrialRecord
from study.report.lookup import ArmRecord
from study.report.tables import labels

_ROUNDING = 1e-9  # of sums of seconds


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """The best MRR known after `charged` units."""

    charged: float
    best: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One arm's curve; `end` is what was charged in all, at or after the last point."""

    arm: str
    model: str
    loss: str
    objective: str
    unit: str
    points: tuple[Improvement, ...]  # only where the best improves
    end: float


@dataclass(frozen=True)
class _Charge:
    amount: float
    mrr: float | None


def curves(arms: Iterable[ArmRecord], unit: str) -> tuple[Curve, ...]:
    """One curve an arm that measured anything, against what it was charged in this unit."""
    charges = _by_trial if unit == "trials" else partial(_by_measurement, unit=unit)
    found = (_curve(arm, unit, list(charges(arm.trials))) for arm in arms)
    return tuple(curve for curve in found if curve.points)


def _curve(arm: ArmRecord, unit: str, charges: list[_Charge]) -> Curve:
    model, loss = labels(arm)
    best = stats.best_so_far(charge.mrr for charge in charges)
    points: list[Improvement] = []
    charged = 0.0
    for charge, value in zip(charges, best, strict=True):
        charged += charge.amount
        if value is not None and (not points or value > points[-1].best):
            points.append(Improvement(charged=charged, best=value))
    return Curve(
        arm=arm.name,
        model=model,
        loss=loss,
        objective=arm.arm.objective,
        unit=unit,
        points=tuple(points),
        end=charged,
    )


def _by_trial(trials: tuple[TrialRecord, ...]) -> Iterator[_Charge]:
    ended = [trial for trial in trials if trial.state.is_final]
    for trial in sorted(ended, key=lambda trial: (_or_last(trial.ended), trial.number)):
        yield _Charge(trial.charged.trials, trial.best_mrr if trial.is_selectable else None)


def _by_measurement(trials: tuple[TrialRecord, ...], unit: str) -> Iterator[_Charge]:
    """Measurements by time; what was charged after a trial's last measurement counts when it ended."""
    timed = [charge for trial in trials for charge in _measured(trial, unit)]
    yield from (charge for _, charge in sorted(timed, key=lambda item: item[0]))


def _measured(trial: TrialRecord, unit: str) -> Iterator[tuple[tuple[float, int, int], _Charge]]:
    """What one trial was charged, each with its place in the order of charges; without a curve it offers its best."""
    usable = trial.is_selectable
    if before := getattr(trial.pretraining, unit):
        yield (trial.started or 0.0, trial.number, -1), _Charge(before, None)
    for m in trial.curve:
        yield (m.time, trial.number, m.epoch), _Charge(getattr(m, unit), m.mrr if usable else None)
    rest = getattr(trial.cost, unit) - sum(getattr(m, unit) for m in trial.curve)
    offered = trial.best_mrr if usable and not trial.curve else None
    if rest > _ROUNDING or offered is not None:
        yield (_or_last(trial.ended), trial.number, sys.maxsize), _Charge(rest, offered)


def _or_last(time: float | None) -> float:
    return float("inf") if time is None else time
