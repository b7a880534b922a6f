"""Were the budgets equal? What each arm spent, and the sentence that allows or withholds a comparison.

A comparison stands when every arm ended its search having spent the declared budget, neither less
nor more. Units other than the declared one are shown and never decide.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from study import stats
from study.records import Cost, StudyRecord, TrialRecord, TrialState
from study.report import text

UNITS = ("trials", "epochs", "device_seconds")
UNIT_NAMES = {"trials": "trials", "epochs": "epochs", "device_seconds": "device-seconds"}

# How far from its budget an arm may end. Trials are counted exactly; an epoch budget may leave a rest too
# small to train on; seconds are known only after they were spent.
_TOLERANCE = {"trials": 0.0, "epochs": 0.01, "device_seconds": 0.05}
_NAMED = 4  # the sentence names this many arms and counts more; the list under it names them all


class Completion(StrEnum):
    """Where an arm stands against its budget."""

    DONE = "done"
    SHORT = "short"
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one arm spent on its search, and on its replicates apart from it."""

    arm: str
    search: Cost
    replication: Cost
    share: float  # of the declared budget
    completion: Completion


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Largest over smallest spending of the arms in one unit."""

    unit: str
    factor: float
    declared: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """May arms be compared? One sentence, and one more for each arm that stands in the way."""

    fair: bool
    comparable: bool  # fair, and there are arms to compare
    sentence: str
    offenders: tuple[str, ...] = ()


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return sum(costs, Cost())


def amount(cost: Cost, unit: str) -> float:
    """The part of a cost that is counted in `unit`."""
    return float(getattr(cost, unit))


def spendings(record: StudyRecord) -> tuple[Spending, ...]:
    """What each arm spent, in the order of the study."""
    return tuple(_spending(record, arm.name) for arm in record.arms)


def parities(record: StudyRecord, rows: tuple[Spending, ...]) -> tuple[Parity, ...]:
    """The parity factor in all three units."""
    return tuple(
        Parity(
            unit=unit,
            factor=stats.parity_factor([amount(row.search, unit) for row in rows]),
            declared=unit == record.budget_unit,
        )
        for unit in UNITS
    )


def verdict(record: StudyRecord, rows: tuple[Spending, ...]) -> Verdict:
    """The one sentence on fairness that heads the page."""
    if not rows:
        return Verdict(fair=True, comparable=False, sentence="This study has no arms.")
    offenders = tuple(_offence(row, record) for row in rows if row.completion is not Completion.DONE)
    if offenders:
        return Verdict(fair=False, comparable=False, sentence=_withheld(record, rows), offenders=offenders)
    budget, exactness = budget_text(record), _exactness(record.budget_unit)
    if len(rows) == 1:
        alone = f"One arm, which spent its budget of {budget}, {exactness}: there is nothing to compare it with."
        return Verdict(fair=True, comparable=False, sentence=alone)
    equal = f"Fair: each of the {len(rows)} arms spent its budget of {budget}, {exactness}."
    return Verdict(fair=True, comparable=True, sentence=equal)


def budget_text(record: StudyRecord) -> str:
    """The declared budget of an arm, with its unit."""
    return text.quantity(amount(record.budget, record.budget_unit), UNIT_NAMES[record.budget_unit])


def _exactness(unit: str) -> str:
    tolerance = _TOLERANCE[unit]
    return f"to within {text.percent(tolerance)}" if tolerance else "all of it and no more"


def _spending(record: StudyRecord, arm: str) -> Spending:
    trials = [trial for trial in record.trials if trial.arm == arm]
    search = total(trial.cost for trial in trials)
    budget = amount(record.budget, record.budget_unit)
    spent = amount(search, record.budget_unit)
    share = spent / budget if budget else 1 + spent  # of no budget at all, nothing spent is the whole
    return Spending(
        arm=arm,
        search=search,
        replication=total(replicate.cost for replicate in record.replicate_records if replicate.arm == arm),
        share=share,
        completion=_completion(trials, share, _TOLERANCE[record.budget_unit]),
    )


def _completion(trials: list[TrialRecord], share: float, tolerance: float) -> Completion:
    if any(trial.state is TrialState.RUNNING for trial in trials):
        return Completion.RUNNING
    if abs(share - 1) <= tolerance:
        return Completion.DONE
    return Completion.SHORT if share < 1 else Completion.OVER


def _withheld(record: StudyRecord, rows: tuple[Spending, ...]) -> str:
    names = [row.arm for row in rows if row.completion is not Completion.DONE]
    factor = stats.parity_factor([amount(row.search, record.budget_unit) for row in rows])
    who = f"{len(names)} of {len(rows)} arms" if len(names) > _NAMED else text.listing(names)
    have = "has" if len(names) == 1 else "have"
    return (
        f"Comparison withheld: {who} {have} not finished on the declared budget of {budget_text(record)}; "
        f"the largest charge over the smallest is {text.factor(factor)}."
    )


def _offence(row: Spending, record: StudyRecord) -> str:
    spent = amount(row.search, record.budget_unit)
    what = {
        Completion.SHORT: "fell short",
        Completion.RUNNING: "has trials still running",
        Completion.OVER: "overspent",
    }[row.completion]
    return f"{row.arm} {what}: {spent:,.10g} of {budget_text(record)} ({text.percent(row.share)})"
