"""Does the order at a rung foretell the order at the end? Kendall's tau-b for each rung of each arm.

It is taken between the best so far at the rung and the final best, over the trials that trained past the
rung to their own end. The trials that were pruned there are missing: what they would have reached is not
known, so the number describes the survivors alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from study import rungs, stats
from study.records import StudyRecord, TrialRecord, TrialState
from study.report.lookup import ArmRecord

_FEWEST = 10  # trials
_LOWEST = 0.6  # tau


@dataclass(frozen=True, kw_only=True)
class RungRow:
    """How one rung of one arm agrees with what came after it."""

    arm: str
    epochs: int  # at the rung
    reached: int  # trials with a validation there
    trials: int  # of these, how many trained past it to their end: all that tau knows
    tau: float | None  # None where there are too few trials, or all of one value

    @property
    def licenses(self) -> bool:
        """True when there are enough trials and they agree well enough."""
        return self.trials >= _FEWEST and self.tau is not None and self.tau >= _LOWEST

    @property
    def judgement(self) -> str:
        """What follows for pruning, in words."""
        if self.licenses:
            return "licenses pruning here"
        why = f"fewer than {_FEWEST} trials" if self.trials < _FEWEST else f"tau is not at least {_LOWEST}"
        return f"does not license pruning: {why}"


def rung_rows(record: StudyRecord, arms: Iterable[ArmRecord]) -> tuple[RungRow, ...]:
    """One row for each rung that a trial of the arm passed; none where nothing is pruned."""
    if record.pruning is None:
        return ()
    return tuple(row for arm in arms for row in _rows(arm, *record.pruning))


def _rows(arm: ArmRecord, min_epochs: int, reduction_factor: int) -> Iterator[RungRow]:
    longest = max((_last(trial) for trial in arm.trials), default=0)
    for rung in rungs.levels(min_epochs, reduction_factor, until=longest - 1):
        reached = [trial for trial in arm.trials if _last(trial) >= rung]
        known = [trial for trial in reached if _trained_past(trial, rung)]
        yield RungRow(
            arm=arm.name,
            epochs=rung,
            reached=len(reached),
            trials=len(known),
            tau=stats.kendall_tau(
                [rungs.best_at({m.epoch: m.mrr for m in trial.curve}, rung) for trial in known],
                [max(m.mrr for m in trial.curve) for trial in known],
            ),
        )


def _last(trial: TrialRecord) -> int:
    return trial.curve[-1].epoch if trial.curve else 0


def _trained_past(trial: TrialRecord, rung: int) -> bool:
    return trial.state is TrialState.COMPLETE and not trial.is_truncated and _last(trial) > rung
