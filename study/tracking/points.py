"""The metric histories of a study, its arms, its trials and its replicates.

Histories only grow at their end while a study runs, so what MLflow holds is a prefix of them. Trials and
replicates count steps in epochs, arms and the study in charged trials.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from statistics import fmean, stdev
from typing import NamedTuple

from study.budget import UNITS, amount
from study.history import is_replicated
from study.records import Cost, ReplicateRecord, StudyRecord, TrialRecord
from study.stats import parity_factor
from study.tracking.moments import milliseconds, opened_at, openings_of, selected_at, settled_at

_HEADLINE = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")
_REFUSED = re.compile(r"[^\w\-. :/]")
_LONGEST_NAME = 250


class Point(NamedTuple):
    """One value of a metric; `time` is in milliseconds."""

    name: str
    value: float
    step: int
    time: int


def allowed_name(name: str) -> str:
    """The name as MLflow takes it for a metric, a parameter or a tag."""
    return _REFUSED.sub("_", name.replace("@", "_at_"))[:_LONGEST_NAME]


def study_points(record: StudyRecord) -> Iterator[Point]:
    """Totals and parity (most spent / least spent, over the arms) after each charged trial."""
    spent = {arm.name: Cost() for arm in record.arms}
    for step, trial in enumerate(_charged(record, record.trials), start=1):
        spent[trial.arm] += trial.charged
        values = {}
        for unit in UNITS:
            by_arm = [amount(cost, unit) for cost in spent.values()]
            values[f"{unit}_charged"] = sum(by_arm)
            values[f"parity_{unit}"] = parity_factor(by_arm)
        yield from _points(values, step=step, time=settled_at(record, trial))


def arm_points(record: StudyRecord, arm: str) -> Iterator[Point]:
    """Best so far and cost after each charged trial, then what the replicates say after each opening of test."""
    best, spent = -math.inf, Cost()
    for step, trial in enumerate(_charged(record, record.trials_of(arm)), start=1):
        spent += trial.charged
        best = max(best, selectable_mrr(trial))
        yield from _points({"best_mrr": best} | _charges(spent), step=step, time=settled_at(record, trial))
    openings = openings_of(record, arm)
    for place, opening in enumerate(openings if is_replicated(record, arm) else openings[:-1], start=1):
        covered = {index for each in openings[:place] for index in each.replicates}
        replicates = [each for each in record.replicate_records if each.arm == arm and each.index in covered]
        current = [each for each in replicates if each.selection_sha256 == opening.selection_sha256]
        yield from _replicate_statistics(current, step=len(replicates), time=opening.time)


def trial_points(record: StudyRecord, trial: TrialRecord) -> Iterator[Point]:
    """Every validation metric by epoch with the best MRR so far, then what only a settled trial knows."""
    bests = accumulate((each.mrr for each in trial.curve), max)
    for each, best in zip(trial.curve, bests, strict=True):
        values = {"mrr": each.mrr, "best_mrr": best, "loss": each.loss} | dict(each.metrics)
        yield from _points(values, step=each.epoch, time=each.time)
    if trial.state.is_final:
        step = trial.curve[-1].epoch if trial.curve else 0
        values = _charges(trial.cost) | _best_epoch(trial.best_epoch)
        yield from _points(values, step=step, time=settled_at(record, trial))


def replicate_points(record: StudyRecord, replicate: ReplicateRecord) -> Iterator[Point]:
    """What it cost and reached on validation, and on test once that was opened; all at its best epoch."""
    if not replicate.state.is_final:
        return
    step, opened = replicate.best_epoch or 0, opened_at(record, replicate)
    values = _charges(replicate.cost) | _best_epoch(replicate.best_epoch)
    if replicate.valid_mrr is not None:
        values["best_mrr"] = replicate.valid_mrr
    yield from _points(values, step=step, time=selected_at(record, replicate))
    if opened is not None:
        tested = {f"test_{name}": value for name, value in replicate.test_metrics}
        yield from _points(tested, step=step, time=opened)


def selectable_mrr(trial: TrialRecord) -> float:
    """Only what completed can be selected, however good another was before it was pruned or broke."""
    return trial.best_mrr if trial.is_selectable and trial.best_mrr is not None else -math.inf


def _replicate_statistics(replicates: Sequence[ReplicateRecord], *, step: int, time: float) -> Iterator[Point]:
    """Mean and standard deviation over the replicates that were tested."""
    tested = [dict(each.test_metrics) for each in replicates if each.test_metrics]
    for name in _HEADLINE:
        values = [metrics[name] for metrics in tested if name in metrics]
        if values:
            yield from _points({f"test_{name}_mean": fmean(values)}, step=step, time=time)
        if len(values) > 1:
            yield from _points({f"test_{name}_std": stdev(values)}, step=step, time=time)


def _points(values: dict[str, float], *, step: int, time: float) -> Iterator[Point]:
    """The finite ones: MLflow would show infinity as 1.8e308."""
    for name, value in values.items():
        if math.isfinite(value):
            yield Point(allowed_name(name), float(value), step, milliseconds(time))


def _charges(cost: Cost) -> dict[str, float]:
    return {f"{unit}_charged": amount(cost, unit) for unit in UNITS}


def _best_epoch(epoch: int | None) -> dict[str, float]:
    return {} if epoch is None else {"best_epoch": epoch}


def _charged(record: StudyRecord, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Settled trials that were charged, in the order in which they ended."""
    settled = (trial for trial in trials if trial.state.is_final and trial.cost.trials)
    return sorted(settled, key=lambda trial: (settled_at(record, trial), trial.arm, trial.number))
