"""Which bug is it, and has an arm met it too often? Pure: trials in, the stops of arms out.

Trials break by the same bug when the type of their error and its place are the same, whatever the error says:
`ValueError: dim 7 (model.py:12)` is `ValueError: dim 9 (model.py:12)`. All configurations are refused at one
place, so of these the key that is refused stands for it. Such trials teach nothing more, so an arm gets no more
of them. Divergence and memory are no bugs: other parameters may well avoid them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from study.records import ArmStop, FailureClass, TrialRecord

_REFUSAL = re.compile(r"(?P<key>ConfigError: .+?): must .*")
_ERROR = re.compile(r"(?P<type>[\w.]+).* (?P<place>\([^()]+:\d+\))")


class Bugs:
    """What the trials of an arm broke by, as they end."""

    def __init__(self, arm: str, *, limit: int | None) -> None:
        self._arm = arm
        self._limit = limit
        self._reasons: dict[str, dict[int, str]] = defaultdict(dict)  # by identity and trial

    def note(self, trial: int, failure: FailureClass | None, reason: str) -> None:
        """Take a trial that has ended."""
        if failure is FailureClass.BUG:
            self._reasons[identity(reason)][trial] = reason

    @property
    def stop(self) -> ArmStop | None:
        """Why the arm gets no more trials, when this is so: by its most frequent bug, in the words of the first."""
        reasons = max(self._reasons.values(), key=len, default={})
        if self._limit is None or len(reasons) < self._limit:
            return None
        return ArmStop(arm=self._arm, errors=len(reasons), reason=reasons[min(reasons)])


def stops(trials: Iterable[TrialRecord], *, limit: int | None) -> tuple[ArmStop, ...]:
    """The arms that get no more trials."""
    arms: dict[str, Bugs] = {}
    for trial in trials:
        bugs = arms.setdefault(trial.arm, Bugs(trial.arm, limit=limit))
        bugs.note(trial.number, trial.failure, trial.reason)
    return tuple(stop for bugs in arms.values() if (stop := bugs.stop) is not None)


def identity(reason: str) -> str:
    """The key of a refused configuration, the type and the place of another error, or the words of what has none."""
    if refusal := _REFUSAL.fullmatch(reason):
        return refusal["key"]
    error = _ERROR.fullmatch(reason)
    return f"{error['type']} {error['place']}" if error else reason
