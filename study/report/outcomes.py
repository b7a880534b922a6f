"""How trials ended: shares of complete, pruned, failed and useless ones, and why the failed ones broke.

    chance   = H(n) / n, H(n) = 1 + 1/2 + ... + 1/n     the MRR of n entities in random order
    useless  = complete, with a best validation MRR of at most twice that

A useless trial was charged and learned nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from study.records import ArmStop, FailureClass, StudyRecord, TrialRecord, TrialState
from study.report.lookup import ArmRecord
from study.report.tables import Counts, counts

_REASONS_SHOWN = 5
_USELESS = 2.0  # times chance
_EULER = 0.5772156649015329


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One cause of failure and how many trials it broke."""

    failure: str
    text: str
    trials: int


@dataclass(frozen=True, kw_only=True)
class OutcomeRow:
    """How the trials of one arm ended."""

    arm: str
    counts: Counts
    pruned_share: float | None  # of the trials that ended
    failed_share: float | None
    useless: int | None  # None where the number of entities is not known
    useless_share: float | None
    failures: tuple[tuple[FailureClass, int], ...]  # every class, zeros included
    reissued: int  # attempts beyond the first: retried after infrastructure or memory failures
    reasons: tuple[Reason, ...]  # the most frequent ones
    truncated: int  # complete, though its arm's budget ended it
    stop: ArmStop | None
    reasons_hidden: int  # trials that broke for a reason not in `reasons`


def chance(record: StudyRecord) -> float | None:
    """The MRR of a random order of the entities; None where their number is not recorded."""
    entities = record.passport.get("entities")
    if not isinstance(entities, int) or entities < 1:
        return None
    return (math.log(entities) + _EULER + 1 / (2 * entities)) / entities


def outcomes(arms: Iterable[ArmRecord], *, chance: float | None) -> tuple[OutcomeRow, ...]:
    """One row an arm, in the order of the study."""
    return tuple(_row(arm, chance) for arm in arms)


def _row(arm: ArmRecord, chance: float | None) -> OutcomeRow:
    ends = counts(arm)
    ended = ends.all - ends.running
    failed = [trial for trial in arm.trials if trial.state is TrialState.FAIL]
    reasons, useless = _reasons(failed), None if chance is None else _useless(arm, chance)
    return OutcomeRow(
        arm=arm.name,
        counts=ends,
        pruned_share=ends.pruned / ended if ended else None,
        failed_share=ends.failed / ended if ended else None,
        useless=useless,
        useless_share=useless / ended if ended and useless is not None else None,
        failures=tuple((kind, sum(trial.failure is kind for trial in failed)) for kind in FailureClass),
        reissued=sum(max(trial.attempts - 1, 0) for trial in arm.trials),
        reasons=reasons[:_REASONS_SHOWN],
        truncated=sum(trial.is_truncated for trial in arm.trials),
        stop=arm.stop,
        reasons_hidden=sum(reason.trials for reason in reasons[_REASONS_SHOWN:]),
    )


def _useless(arm: ArmRecord, chance: float) -> int:
    return sum(trial.is_selectable and (trial.best_mrr or 0.0) <= _USELESS * chance for trial in arm.trials)


def _reasons(failed: list[TrialRecord]) -> tuple[Reason, ...]:
    """Causes by falling frequency, ties by name."""
    found = Counter((trial.failure.value if trial.failure else "unclassed", trial.reason) for trial in failed)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Reason(failure=failure, text=reason, trials=number) for (failure, reason), number in ranked)
