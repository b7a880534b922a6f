"""How trials ended: shares of complete, pruned and failed ones, and why the failed ones broke."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from study.records import ArmStop, FailureClass, TrialRecord, TrialState
from study.report.lookup import ArmRecord
from study.report.tables import Counts, counts

_REASONS_SHOWN = 5


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
    failures: tuple[tuple[FailureClass, int], ...]  # every class, zeros included
    reissued: int  # attempts beyond the first: retried after infrastructure or memory failures
    reasons: tuple[Reason, ...]  # the most frequent ones
    truncated: int  # complete, though its arm's budget ended it
    stop: ArmStop | None
    reasons_hidden: int  # trials that broke for a reason not in `reasons`


def outcomes(arms: Iterable[ArmRecord]) -> tuple[OutcomeRow, ...]:
    """One row an arm, in the order of the study."""
    return tuple(_row(arm) for arm in arms)


def _row(arm: ArmRecord) -> OutcomeRow:
    ends = counts(arm)
    ended = ends.all - ends.running
    failed = [trial for trial in arm.trials if trial.state is TrialState.FAIL]
    reasons = _reasons(failed)
    return OutcomeRow(
        arm=arm.arm.name,
        counts=ends,
        pruned_share=ends.pruned / ended if ended else None,
        failed_share=ends.failed / ended if ended else None,
        failures=tuple((kind, sum(trial.failure is kind for trial in failed)) for kind in FailureClass),
        reissued=sum(max(trial.attempts - 1, 0) for trial in arm.trials),
        reasons=reasons[:_REASONS_SHOWN],
        truncated=sum(trial.is_truncated for trial in arm.trials),
        stop=arm.stop,
        reasons_hidden=sum(reason.trials for reason in reasons[_REASONS_SHOWN:]),
    )


def _reasons(failed: list[TrialRecord]) -> tuple[Reason, ...]:
    """Causes by falling frequency, ties by name."""
    found = Counter((trial.failure.value if trial.failure else "unclassed", trial.reason) for trial in failed)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Reason(failure=failure, text=reason, trials=number) for (failure, reason), number in ranked)
