"""Charged and reserved of every arm over time: was the study fair at every moment, and not only at its end?

    gap = (largest - smallest charged + reserved of the arms) / one trial's worth

The gap of a moment is that between the arms which may start then: arms that start from others (study.pretraining)
follow these, with what they start from charged. A trial's worth is 1 trial, the most epochs that a trial reserved,
or the most device-seconds that one cost. The trials of a record are put into a ledger again, in the order in which
they started, were measured and ended, so that what counts as reserved is said in one place. An arm reserves all of
a budget in device-seconds until something was measured in it; until then it counts with what it was charged.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import attrgetter

from study.budget import BEFORE, Ledger, Stake, amount
from study.pretraining import generations
from study.records import Cost, StudyRecord, TrialRecord, TrialState


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a trial's start, charge or end made of its arm and of the distance between arms."""

    time: float  # unix time, seconds
    arm: str
    trial: int  # BEFORE where the event is "pretrained"
    event: str  # "pretrained", "started", "charged" or "ended"
    charged: float  # by the arm, in the declared unit
    committed: float  # charged + reserved by the arm
    gap: float  # between the arms, in trials' worth
    ahead: str  # the arm with the most
    behind: str  # ... and with the least


def timeline(record: StudyRecord) -> tuple[Moment, ...]:
    """Every start of a trial, and what else changed an arm's charges or reservations, in the order of time."""
    return tuple(_moments(record)) if amount(record.budget, record.budget_unit) > 0 else ()


def worth(record: StudyRecord) -> float:
    """What one trial is worth in the declared unit, at the most."""
    reserved = [float(trial.epochs) for trial in record.trials]
    spent = [trial.cost.device_seconds for trial in record.trials]
    by_unit = {"trials": [1.0], "epochs": reserved, "device_seconds": spent}
    return max(by_unit[record.budget_unit], default=0.0)


def _moments(record: StudyRecord) -> Iterator[Moment]:
    unit, one = record.budget_unit, worth(record)
    arms = [arm.name for arm in record.arms]
    ledger = Ledger(arms=arms, budget=record.budget, unit=unit)
    charged, committed = dict.fromkeys(arms, 0.0), dict.fromkeys(arms, 0.0)
    turns = generations(record.arms)
    known: dict[tuple[str, int], float] = {}  # charged by trial
    for time, event, trial in _events(record.trials, turns):
        arm, key, spent = trial.arm, (trial.arm, trial.number), amount(trial.cost, unit)
        before = (charged[arm], committed[arm])
        ledger.put(Stake.before(arm, trial.cost) if event == "pretrained" else Stake.of(trial))
        charged[arm] += spent - known.get(key, 0.0)
        known[key] = spent
        is_known = unit != "device_seconds" or ledger.is_measured(arm)
        committed[arm] = ledger.committed(arm) if is_known else charged[arm]
        if event != "started" and before == (charged[arm], committed[arm]):
            continue
        peers = [each for each in arms if turns[each] == turns[arm]]
        ahead, behind = max(peers, key=committed.__getitem__), min(peers, key=committed.__getitem__)
        gap = (committed[ahead] - committed[behind]) / one if one else 0.0
        yield Moment(
            time=time,
            arm=arm,
            trial=trial.number,
            event=event,
            charged=charged[arm],
            committed=committed[arm],
            gap=gap,
            ahead=ahead,
            behind=behind,
        )


def _events(trials: Iterable[TrialRecord], turns: Mapping[str, int]) -> Iterator[tuple[float, str, TrialRecord]]:
    """What happened, when, and the trial as it stood then; of one instant in the order in which trials started."""
    begun = sorted((trial for trial in trials if trial.started is not None), key=attrgetter("started", "arm", "number"))
    found = [*_pretrainings(begun, turns), *(event for trial in begun for event in _history(trial))]
    yield from sorted(found, key=lambda event: event[0])


def _pretrainings(begun: Sequence[TrialRecord], turns: Mapping[str, int]) -> Iterator[tuple[float, str, TrialRecord]]:
    """What arms were charged before their first trials: all that may start together at once."""
    first = {turns[trial.arm]: trial.started or 0.0 for trial in reversed(begun)}
    for trial in begun:
        if trial.pretraining.trials:
            paid = replace(trial, number=BEFORE, state=TrialState.COMPLETE, cost=trial.pretraining, curve=())
            yield first[turns[trial.arm]], "pretrained", paid


def _history(trial: TrialRecord) -> list[tuple[float, str, TrialRecord]]:
    """The trial at its start, after each measurement, and at its end."""
    assert trial.started is not None
    running = replace(trial, state=TrialState.RUNNING, cost=Cost(trials=1), curve=(), ended=None)
    steps = [(trial.started, "started", running)]
    for count, measured in enumerate(trial.curve, start=1):
        cost = steps[-1][2].cost + measured.cost
        steps.append((measured.time, "charged", replace(running, cost=cost, curve=trial.curve[:count])))
    if trial.state.is_final:
        steps.append((steps[-1][0] if trial.ended is None else trial.ended, "ended", trial))
    times = accumulate((time for time, _, _ in steps), max)  # the clocks of two machines may disagree
    return [(time, event, then) for time, (_, event, then) in zip(times, steps, strict=True)]
