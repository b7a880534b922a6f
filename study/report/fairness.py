"""Were the budgets equal? What each arm spent, and the sentence that allows or withholds a comparison.

A comparison stands when every arm ended its search having spent the declared budget, neither less
nor more. Trials and epochs are counted exactly. Seconds are known only after they were spent, so an arm may
end within one of its own validation intervals of a budget of device-seconds, where that is no more than 5 % of it;
in another tool's table, which knows none, they must be equal. Seconds on several kinds of device are no one unit.
Units other than the declared one are shown and never decide.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from study import stats
from study.budget import UNIT_NAMES, UNITS, Stake, amount, longest_interval
from study.pretraining import start_text
from study.records import Cost, StudyRecord, TrialState
from study.report import text

COARSE = 0.05  # of the budget: arms that end further from it were not tuned equally, however long an interval is
_ROUNDING = 1e-9  # of the budget: sums of seconds
_NAMED = 4  # the sentence names this many arms and counts more; the list under it names them all


class Completion(StrEnum):
    """Where an arm stands against its budget."""

    DONE = "done"
    SHORT = "short"
    STOPPED = "stopped"  # short, and nothing more will come
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one arm spent on its search, and on its replicates apart from it."""

    arm: str
    search: Cost
    start: str  # what its trainings start from, and what that was charged; empty where they start anew
    replication: Cost
    share: float  # of the declared budget
    interval: float  # its longest time up to a validation, in device-seconds, where these are the budget
    completion: Completion

    @property
    def seconds_per_epoch(self) -> float | None:
        """Of its search, validation included; None where no epoch was charged."""
        return self.search.device_seconds / self.search.epochs if self.search.epochs else None


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
    devices: bool = False  # the budgets were spent, in seconds of several kinds of device


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return sum(costs, Cost())


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
    kinds = _kinds(record) if _is_timed(record) and len(rows) > 1 else ()
    if kinds:
        many = f"Comparison withheld: the budget is {budget_text(record)}, and a second is not the same on each device."
        return Verdict(fair=False, comparable=False, sentence=many, offenders=kinds, devices=True)
    budget, exactness = budget_text(record), _exactness(record, rows)
    if len(rows) == 1:
        alone = f"One arm, which spent its budget of {budget}, {exactness}: there is nothing to compare it with."
        return Verdict(fair=True, comparable=False, sentence=alone)
    equal = f"Fair: each of the {len(rows)} arms spent its budget of {budget}, {exactness}."
    return Verdict(fair=True, comparable=True, sentence=equal)


def unequal(record: StudyRecord) -> str:
    """Why the budgets of a search that has ended are no base for a comparison, and what would change that.

    Empty where they are one, or where there is one arm alone.
    """
    rows = spendings(record)
    found = verdict(record, rows)
    if found.fair or len(rows) < 2:
        return ""
    return " ".join((found.sentence, *(f"{offender}." for offender in found.offenders), _remedy(record, rows, found)))


def _remedy(record: StudyRecord, rows: tuple[Spending, ...], found: Verdict) -> str:
    """Where arms start from others, budget and failures must stay (study.amendment)."""
    changes = list(_helping(record, rows))
    if not changes or found.devices or any(arm.source is not None for arm in record.arms):
        return "No amendment can change that."
    reopening = " --reopen" if record.openings else ""
    return f"`study resume {record.name} --amend{reopening}` with {text.listing(changes)} can change that."


def _helping(record: StudyRecord, rows: tuple[Spending, ...]) -> Iterator[str]:
    """What would have to be another."""
    unfinished = {row.completion for row in rows} - {Completion.DONE}
    if any(stop.errors for stop in record.stops):
        yield "a larger `failures.identical_errors`"
    if any(not stop.errors for stop in record.stops):  # its checkpoint took the budget
        yield "a larger budget"
    elif _is_timed(record) and unfinished - {Completion.STOPPED}:
        needed = max(max(row.search.device_seconds, row.interval / COARSE) for row in rows)
        yield f"a budget of {math.ceil(needed):,} device-seconds"


def _kinds(record: StudyRecord) -> tuple[str, ...]:
    """Where each arm was searched, in words; empty where all trials were on one kind of device, as far as is known."""
    found = {arm.name: Counter[str]() for arm in record.arms}
    for place in record.places:
        if place.stage == "search" and place.kind and place.arm in found:
            found[place.arm][place.kind] += 1
    if len(set().union(*found.values())) < 2:
        return ()
    return tuple(
        f"{arm} was searched on {text.listing([f'{device} ({count})' for device, count in sorted(where.items())])}"
        for arm, where in found.items()
        if where
    )


def budget_text(record: StudyRecord) -> str:
    """The declared budget of an arm, with its unit."""
    return text.quantity(amount(record.budget, record.budget_unit), UNIT_NAMES[record.budget_unit])


def cost_unit(record: StudyRecord) -> str:
    """What curves are drawn against beside trials: device-seconds where the budget counts these, else epochs."""
    return "device_seconds" if record.budget_unit == "device_seconds" else "epochs"


def repeated(record: StudyRecord) -> str:
    """What was trained twice and charged to no arm; empty where nothing was."""
    wasted = record.wasted
    if not wasted.epochs:
        return ""
    return f"{text.plural(wasted.epochs, 'epoch')}, {wasted.device_seconds:,.1f} device-seconds"


def _exactness(record: StudyRecord, rows: tuple[Spending, ...]) -> str:
    if not _is_timed(record):
        return "all of it and no more"
    furthest = max(rows, key=lambda row: abs(row.share - 1))
    away = abs(furthest.search.device_seconds - record.budget.device_seconds)
    which = "the furthest" if len(rows) > 1 else "it"
    return (
        f"to within one validation interval: {which} ended {away:,.1f} device-seconds "
        f"({text.percent(abs(furthest.share - 1))}) away"
    )


def _is_timed(record: StudyRecord) -> bool:
    return record.budget_unit == "device_seconds" and not record.imported_from  # a table has no intervals


def _spending(record: StudyRecord, arm: str) -> Spending:
    trials = record.trials_of(arm)
    search = total(trial.charged for trial in trials)
    budget = amount(record.budget, record.budget_unit)
    spent = amount(search, record.budget_unit)
    interval = longest_interval(Stake.of(trial) for trial in trials) if _is_timed(record) else 0.0
    return Spending(
        arm=arm,
        search=search,
        start=_start(record, arm),
        replication=total(replicate.cost for replicate in record.replicate_records if replicate.arm == arm),
        share=spent / budget if budget else 1 + spent,  # of no budget at all, nothing spent is the whole
        interval=interval,
        completion=_completion(
            running=any(trial.state is TrialState.RUNNING for trial in trials),
            stopped=any(stop.arm == arm for stop in record.stops),
            excess=spent - budget,
            tolerance=min(interval, COARSE * budget) + _ROUNDING * budget,
        ),
    )


def _start(record: StudyRecord, name: str) -> str:
    arm = next(each for each in record.arms if each.name == name)
    if not arm.starts_elsewhere:
        return ""
    paid = total(trial.pretraining for trial in record.trials_of(name))
    said = f"{text.plural(paid.trials, 'trial')}, {text.plural(paid.epochs, 'epoch')}" if paid.trials else "nothing yet"
    return f"starts from {start_text(arm, record.trials)}, charged for it: {said}"


def _completion(*, running: bool, stopped: bool, excess: float, tolerance: float) -> Completion:
    if running:
        return Completion.RUNNING
    if abs(excess) <= tolerance:
        return Completion.DONE
    if excess > 0:
        return Completion.OVER
    return Completion.STOPPED if stopped else Completion.SHORT


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
        Completion.STOPPED: "fell short and was stopped",
        Completion.RUNNING: "has trials that have not ended",
        Completion.OVER: "overspent",
    }[row.completion]
    return f"{row.arm} {what}: {_rounded(spent, record)} of {budget_text(record)} ({text.percent(row.share)})"


def _rounded(spent: float, record: StudyRecord) -> str:
    return f"{spent:,.1f}" if record.budget_unit == "device_seconds" else f"{spent:,.10g}"
