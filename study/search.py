"""The search as a work: which arm tries what next, and when a trial is over.

Every event is written in one order: the charge first, then Optuna's copy, then the decision; an attempt's
outcome first, then the trial's. A crash in between leaves at most a trial that is RUNNING in Optuna and
over in the attempts, which the next driver settles, or one whose worker repeats its last measurement,
which collides with its charge.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.arms import Arms, Suggestion
from study.attempts import AttemptLog
from study.budget import Ledger, Stake
from study.config import PruningConfig
from study.history import best_of, cost_of, curves_by_trial
from study.records import Assignment, FailureClass, Measurement, Outcome, TrialState
from study.rungs import Prune, decide
from study.space import Space
from study.store import Store
from study.trial import forget
from study.work import ArmProgress

STAGE = "search"


@dataclass
class _Trial:
    """A trial as it stands."""

    suggestion: Suggestion
    state: TrialState = TrialState.RUNNING
    curve: list[Measurement] = field(default_factory=list)


class SearchWork:
    """All trials of all arms, in turn."""

    def __init__(
        self,
        *,
        study: str,
        folder: Path,
        store: Store,
        arms: Arms,
        spaces: Mapping[str, Space],
        ledger: Ledger,
        pruning: PruningConfig | None,
        listen: Callable[[ArmProgress], None],
    ) -> None:
        self._study = study
        self._folder = folder
        self._store = store
        self._arms = arms
        self._spaces = spaces
        self._ledger = ledger
        self._pruning = pruning
        self._listen = listen
        self._log = AttemptLog(store, study=study, stage=STAGE)
        self._trials: dict[str, dict[int, _Trial]] = {arm: {} for arm in spaces}
        self._waiting: deque[tuple[str, int]] = deque()
        self._recover()

    @property
    def is_done(self) -> bool:
        """True when every budget is used and every trial has ended."""
        running = any(
            trial.state is TrialState.RUNNING for trials in self._trials.values() for trial in trials.values()
        )
        return not running and self._ledger.next_arm() is None

    # -- the work --------------------------------------------------------------------------------

    def next(self) -> Assignment | None:
        """Interrupted trials first, then a new one of the arm with the smallest committed share."""
        if self._waiting:
            return self._issue(*self._waiting.popleft())
        arm = self._ledger.next_arm()
        if arm is None:
            return None
        suggestion = self._arms.ask(arm)
        self._trials[arm][suggestion.number] = _Trial(suggestion)
        self._enter(arm, suggestion.number)
        return self._issue(arm, suggestion.number)

    def measured(self, assignment: Assignment, measurement: Measurement) -> bool:
        """Charge, tell Optuna, then decide whether the trial goes on."""
        arm, number = assignment.arm, assignment.trial
        if self._store.charge(self._study, STAGE, measurement):
            self._log.progress(assignment)
            self._trials[arm][number].curve.append(measurement)
            self._enter(arm, number)
        self._arms.report(arm, number, measurement.epoch, measurement.mrr)
        reason = self._prunes(assignment, measurement)
        if reason:
            self.ended(assignment, Outcome(state=TrialState.PRUNED, reason=reason))
        else:
            self._tell(arm)
        return not reason

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Write the outcome to the attempt, then to the trial."""
        self._log.end(assignment, outcome)
        self._settle(assignment.arm, assignment.trial, outcome)

    def lost(self, assignment: Assignment, *, reason: str, by_itself: bool) -> None:
        """Issue the trial again, unless it has lost too many workers."""
        self._log.lose(assignment, reason=reason, by_itself=by_itself)
        self._tell(assignment.arm, f"trial {assignment.trial}: worker lost, {reason}")
        self._resolve(assignment.arm, assignment.trial)

    # -- the parts -------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Take over what the last driver left: settle what is over, queue what was interrupted."""
        curves = curves_by_trial(self._store.measurements(self._study, STAGE))
        self._log.interrupt()
        for arm in self._trials:
            running = {suggestion.number: suggestion for suggestion in self._arms.reconcile(arm)}
            for record in self._arms.trials(arm):
                suggestion = Suggestion(record.number, dict(record.params), record.seed)
                curve = list(curves.get((arm, record.number), ()))
                self._trials[arm][record.number] = _Trial(suggestion, record.state, curve)
                self._enter(arm, record.number)
            for number in running:
                self._resolve(arm, number)
            self._tell(arm)

    def _resolve(self, arm: str, number: int) -> None:
        """Settle a trial that its attempts have decided, queue one that they have not."""
        verdict = self._log.verdict(arm, number)
        if verdict is None:
            self._waiting.append((arm, number))
        else:
            self._settle(arm, number, verdict)

    def _issue(self, arm: str, number: int) -> Assignment:
        suggestion = self._trials[arm][number].suggestion
        assignment = Assignment(
            study=self._study,
            arm=arm,
            stage=STAGE,
            trial=number,
            attempt=self._log.begin(arm, number),
            config=self._spaces[arm].config(suggestion.params, suggestion.seed),
            directory=str(self._directory(arm, number)),
        )
        self._tell(arm)
        return assignment

    def _settle(self, arm: str, number: int, outcome: Outcome) -> None:
        trial = self._trials[arm][number]
        best = best_of(trial.curve)
        if outcome.state is TrialState.COMPLETE and best is None:
            outcome = Outcome(state=TrialState.FAIL, failure=FailureClass.BUG, reason="ended without a validation")
        self._arms.tell(arm, number, outcome, (best.mrr, best.epoch) if best else None)
        forget(self._directory(arm, number))
        trial.state = outcome.state
        self._enter(arm, number)
        found = f"mrr {best.mrr:.4f}" if best else "not measured"
        self._tell(arm, f"trial {number}: {outcome.state}, {found}, {outcome.reason}")

    def _directory(self, arm: str, number: int) -> Path:
        return self._folder / "trials" / arm / str(number)

    def _enter(self, arm: str, number: int) -> None:
        """Show the ledger a trial as it stands."""
        trial = self._trials[arm][number]
        running, cost = trial.state is TrialState.RUNNING, cost_of(trial.curve)
        self._ledger.put(Stake(arm=arm, trial=number, running=running, cost=cost))

    def _prunes(self, assignment: Assignment, measurement: Measurement) -> str:
        """Why the arm's other trials end this one here; empty when they do not."""
        training: Any = assignment.config["training"]
        if self._pruning is None or measurement.epoch >= training["max_epochs"]:
            return ""
        curves = {
            number: {each.epoch: each.mrr for each in trial.curve}
            for number, trial in self._trials[assignment.arm].items()
            if trial.curve
        }
        decision = decide(curves, assignment.trial, **vars(self._pruning))
        return decision.reason if isinstance(decision, Prune) else ""

    def _tell(self, arm: str, said: str = "") -> None:
        trials = self._trials[arm].values()
        states = [trial.state for trial in trials]
        best = best_of(each for trial in trials for each in trial.curve)
        progress = ArmProgress(
            stage=STAGE,
            arm=arm,
            done=sum(state.is_final for state in states),
            running=states.count(TrialState.RUNNING),
            total=int(self._ledger.limit),
            best_mrr=best.mrr if best else None,
            failed=states.count(TrialState.FAIL),
            pruned=states.count(TrialState.PRUNED),
            said=said,
        )
        self._listen(progress)
