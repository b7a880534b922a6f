"""Is one arm better than another? The pairs that the study set out to compare, each with a sentence.

    better     the adjusted p-value is below 1 - confidence, and P(A beats B) is at least what the study file asks
    small      ... and it is not: there is a difference, and too little of one to build on
    undecided  the adjusted p-value is not below

What a pair needs: equal budgets, two tested seeds of either arm, none that failed, and the ranks of their test
triples. A pair without them is not in the family that p-values are adjusted over. study.comparison has the formulas.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from study.comparison import Comparison, compare
from study.records import StudyRecord
from study.report import text, theory
from study.report.fairness import Verdict
from study.report.lookup import ArmRecord
from study.report.tables import metric

Ranks = Mapping[str, NDArray[np.float64]]
POWER = 0.8  # of what is called detectable
RESAMPLES = 2000
_STRANGE = 1e-6  # ranks whose mean is as far from the recorded MRR are those of something else


class PairOutcome(StrEnum):
    """What became of a pair."""

    BETTER = "better"
    SMALL = "small"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One pair of arms."""

    pair: Comparison
    outcome: PairOutcome
    better: str | None  # the arm that is
    sentence: str
    theory: theory.Support


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """All pairs that can be decided on, and why others cannot."""

    hypotheses: bool  # declared in the study file; otherwise all pairs
    pairs: int  # that the study set out to compare
    rows: tuple[Decision, ...]
    withheld: tuple[str, ...]  # sentences

    @property
    def decided(self) -> int:
        """Pairs of which one arm is better."""
        return sum(row.better is not None for row in self.rows)

    @property
    def by_detectable(self) -> tuple[Decision, ...]:
        """The pairs by the difference that could be detected, the smallest first."""
        return tuple(sorted(self.rows, key=lambda row: row.pair.detectable))


def pairs_of(record: StudyRecord) -> tuple[tuple[str, str], ...]:
    """The pairs that a study sets out to compare."""
    names = [arm.name for arm in record.arms]
    chosen = combinations(names, 2) if record.comparison.pairs is None else record.comparison.pairs
    return tuple(pair for pair in chosen if set(pair) <= set(names))


def decisions(record: StudyRecord, arms: tuple[ArmRecord, ...], ranks: Ranks | None, verdict: Verdict) -> Decisions:
    """Decide what can be decided."""
    pairs = pairs_of(record)
    if verdict.comparable:
        problems = {arm.name: _seeds_problem(arm) or _ranks_problem(arm, ranks or {}) for arm in arms}
        possible = [pair for pair in pairs if not any(problems[arm] for arm in pair)]
        withheld = tuple(problems[arm.name] for arm in arms if _is_met(arm, pairs) and problems[arm.name])
    else:
        possible, withheld = [], (_unequal(verdict),)
    rows = tuple(_decided(record, arms, ranks or {}, possible)) if possible else ()
    return Decisions(
        hypotheses=record.comparison.pairs is not None, pairs=len(pairs), rows=rows, withheld=tuple(withheld)
    )


def _unequal(verdict: Verdict) -> str:
    if verdict.fair:
        return "there are no two arms to decide between."
    which = "were seconds on several kinds of device" if verdict.devices else "were not equal"
    return f"the budgets {which}, as the top of this page says. No probability, no p-value and no winner is named."


def _is_met(arm: ArmRecord, pairs: Iterable[tuple[str, str]]) -> bool:
    return any(arm.name in pair for pair in pairs)


def _seeds_problem(arm: ArmRecord) -> str:
    """Why the seeds of an arm cannot be compared; empty when they can."""
    name, tested = arm.name, len(arm.tested)
    if arm.broken:
        failed = f"{arm.broken} of {text.plural(len(arm.replicates), 'fresh seed')} failed"
        return f"{name}: {failed}; what the others reached is not what a seed of it reaches."
    if tested < 2:
        return f"{name}: {text.plural(tested, 'seed')} tested; how far seeds differ is known from two on."
    return ""


def _ranks_problem(arm: ArmRecord, ranks: Ranks) -> str:
    """Why the ranks of an arm cannot be compared; empty when they can."""
    name, tested, mrr = arm.name, len(arm.tested), metric(arm.tested, "mrr")
    if name not in ranks:
        return f"{name}: the ranks of its test triples are not here, or cannot be read."
    if len(ranks[name]) != tested or len(mrr) != tested:
        return f"{name}: ranks of {len(ranks[name])} seeds are here, {tested} were tested."
    if ranks[name].shape[1] < 2:
        return f"{name}: one test triple; how far triples differ is known from two on."
    if np.any(np.abs(ranks[name].mean(axis=1) - np.array(mrr)) > _STRANGE):
        return f"{name}: the ranks that are here do not give the test MRR that was recorded."
    return ""


def _decided(
    record: StudyRecord, arms: tuple[ArmRecord, ...], ranks: Ranks, pairs: list[tuple[str, str]]
) -> Iterator[Decision]:
    plan, by_name = record.comparison, {arm.name: arm for arm in arms}
    found = compare(
        {name: ranks[name] for name in by_name if name in ranks},
        generator=np.random.default_rng(abs(record.seed)),
        pairs=pairs,
        resamples=RESAMPLES,
        confidence=plan.confidence,
        power=POWER,
    )
    for pair in found:
        first, second = by_name[pair.first], by_name[pair.second]
        seeds = min(len(first.tested), len(second.tested))
        outcome, better = _outcome(pair, record)
        yield Decision(
            pair=pair,
            outcome=outcome,
            better=better,
            sentence=_sentence(pair, outcome, seeds=seeds, asked=plan.better, confidence=plan.confidence),
            theory=theory.support(first.arm, second.arm),
        )


def _outcome(pair: Comparison, record: StudyRecord) -> tuple[PairOutcome, str | None]:
    plan = record.comparison
    if pair.adjusted >= 1 - plan.confidence:
        return PairOutcome.UNDECIDED, None
    if _beats(pair) < plan.better:
        return PairOutcome.SMALL, None
    return PairOutcome.BETTER, _ahead(pair)[0]


def _ahead(pair: Comparison) -> tuple[str, str]:
    """The arm with the higher mean, then the other."""
    return (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)


def _beats(pair: Comparison) -> float:
    """The probability that the arm with the higher mean beats the other."""
    return pair.beats if pair.difference > 0 else 1 - pair.beats


def _sentence(pair: Comparison, outcome: PairOutcome, *, seeds: int, asked: float, confidence: float) -> str:
    size, (ahead, behind) = text.score(abs(pair.difference)), _ahead(pair)
    if outcome is PairOutcome.BETTER:
        return f"{ahead} is better than {behind}."
    if outcome is PairOutcome.SMALL:
        return (
            f"{ahead} is above {behind} by {size}, too little to call it better: a seed of it beats one of the other"
            f" with probability {_beats(pair):.2f}, and {asked:g} is asked for."
        )
    beyond = max(abs(pair.low), abs(pair.high))
    detectable = text.gap(pair.detectable, "no possible difference")
    return (
        f"Not decided: {seeds} seeds could detect {detectable}, the difference is {size}. More than"
        f" {text.score(beyond)} either way is excluded at {text.percent(confidence)}."
    )
