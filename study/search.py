"""The search as a work: which arm tries what next, and when a trial is over.

Every event is written in one order: the charge first, then Optuna's copy, then the decision; an attempt's
outcome first, then the trial's. A crash in between leaves at most a trial that is RUNNING in Optuna and
over in the attempts, which the next driver settles, or one whose worker repeats its last measurement,
which collides with its charge.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from kge.errors import ConfigError
from study.arms import Arms, Suggestion
from study.attempts import AttemptLog
from study.budget import Ledger, Stake, amount, in_time
from study.config import StudyConfig
from study.failures import Bugs
from study.history import best_of, curves_by_trial
from study.layout import trial_folder
from study.pretraining import begin, best_trial, generations
from study.records import BUDGET, Assignment, Cost, FailureClass, Measurement, Outcome, TrialState
from study.rungs import Rungs
from study.space import Space
from study.store import Store
from study.trial import forget, one_line
from study.work import ArmProgress

STAGE = "search"


@dataclass
class _Trial:
    """A trial as it stands."""

    suggestion: Suggestion
    measured: Stake
    state: TrialState = TrialState.RUNNING
    curve: list[Measurement] = field(default_factory=list)


class _Arm:
    """The trials of an arm, and what is known of all of them without looking at each."""

    def __init__(self, name: str, config: StudyConfig) -> None:
        self._name = name
        self.trials: dict[int, _Trial] = {}
        self.states: Counter[TrialState] = Counter()
        self.best: Measurement | None = None
        self._latest = -math.inf
        self.rungs = Rungs(**vars(config.pruning)) if config.pruning else None
        self.bugs = Bugs(name, limit=config.identical_errors)

    def start(self, suggestion: Suggestion) -> None:
        """Take a trial in."""
        stake = Stake(arm=self._name, trial=suggestion.number, epochs=suggestion.epochs)
        self.trials[suggestion.number] = _Trial(suggestion, stake)
        self.states[TrialState.RUNNING] += 1

    def in_turn(self, measurement: Measurement) -> Measurement:
        """Later than all before it, whatever the clock of its node says: the next driver takes them in by time."""
        return replace(measurement, time=max(measurement.time, math.nextafter(self._latest, math.inf)))

    def note(self, measurement: Measurement) -> None:
        """Take a validation of a trial, later than all before it."""
        self._latest = measurement.time
        trial = self.trials[measurement.trial]
        trial.curve.append(measurement)
        trial.measured = trial.measured.charged(measurement.cost)
        self.best = best_of([measurement] if self.best is None else [self.best, measurement])
        if self.rungs is not None:
            self.rungs.note(measurement.trial, measurement.epoch, measurement.mrr)

    def end(self, number: int, outcome: Outcome) -> None:
        """Take the end of a trial."""
        self.trials[number].state = outcome.state
        self.states[TrialState.RUNNING] -= 1
        self.states[outcome.state] += 1
        self.bugs.note(number, outcome.failure, outcome.reason)


class SearchWork:
    """All trials of all arms, in turn."""

    def __init__(  # noqa: PLR0913 (a driver makes it, once)
        self,
        *,
        study: str,
        folder: Path,
        store: Store,
        arms: Arms,
        spaces: Mapping[str, Space],
        ledger: Ledger,
        config: StudyConfig,
        listen: Callable[[ArmProgress], None],
        forget: Callable[[Path], object] = forget,
    ) -> None:
        self._study = study
        self._folder = folder
        self._store = store
        self._optuna = arms
        self._spaces = spaces
        self._ledger = ledger
        self._listen = listen
        self._forget = forget
        self._most_at_once = config.resources.max_concurrent_per_arm
        self._log = AttemptLog(store, study=study, stage=STAGE)
        self._arms = {arm: _Arm(arm, config) for arm in spaces}
        self._starts: dict[str, int] = {}  # by arm, the trial of its source
        self._unbegun: set[str] = set()  # arms that are to be charged before they start
        self._before: dict[str, Cost] = {}  # by arm, what was charged before its first trial
        self._waiting: deque[tuple[str, int]] = deque()
        self._recover()

    @property
    def is_done(self) -> bool:
        """True when every budget is used, or its arm stopped, and every trial has ended."""
        running = any(arm.states[TrialState.RUNNING] for arm in self._arms.values())
        return not running and self._next_arm() is None

    # -- the work --------------------------------------------------------------------------------

    def next(self) -> Assignment | None:
        """Interrupted trials first, then a new one of the arm with the smallest commitment."""
        while not self._waiting:
            arm = self._next_arm()
            if arm is None or self._is_full(arm):
                return None
            most = int(self._ledger.remaining(arm)) if self._ledger.unit == "epochs" else None
            suggestion = self._optuna.ask(arm, most=most, source=self._starts.get(arm))
            self._arms[arm].start(suggestion)
            self._resolve(arm, suggestion.number)
        return self._issue(*self._waiting.popleft())

    def measured(self, assignment: Assignment, measurement: Measurement) -> bool:
        """Charge, tell Optuna, then decide whether the trial goes on."""
        arm, number = assignment.arm, assignment.trial
        measurement = self._arms[arm].in_turn(measurement)
        if self._store.charge(self._study, STAGE, measurement):
            self._log.progress(assignment)
            self._arms[arm].note(measurement)
            self._enter(arm, number)
        self._optuna.report(arm, number, measurement.epoch, measurement.mrr)
        end = self._cut(arm, number, measurement.epoch)
        if end is not None:
            self.ended(assignment, end)
        else:
            self._tell(arm)
        return end is None

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Write the outcome to the attempt, then to the trial; what memory did not hold is issued again."""
        arm, number = assignment.arm, assignment.trial
        if outcome.reason == "stop_epoch":
            outcome = self._truncated(arm, number)
        self._log.end(assignment, outcome)
        if outcome.failure is FailureClass.MEMORY:
            self._tell(arm, f"trial {number}: out of memory, {outcome.reason}")
        self._resolve(arm, number)

    def lost(self, assignment: Assignment, *, reason: str, by_itself: bool, held: float) -> None:
        """Issue the trial again, unless it has lost too many workers."""
        self._log.lose(assignment, reason=reason, by_itself=by_itself, held=held)
        self._tell(assignment.arm, f"trial {assignment.trial}: worker lost, {reason}")
        self._resolve(assignment.arm, assignment.trial)

    # -- the parts -------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Take over what the last driver left: settle what is over, queue what was interrupted."""
        curves = curves_by_trial(self._store.measurements(self._study, STAGE))
        self._log.interrupt()
        order = generations(space.arm for space in self._spaces.values())
        for name, arm in sorted(self._arms.items(), key=lambda each: order[each[0]]):
            running = [suggestion.number for suggestion in self._optuna.reconcile(name)]
            records = self._optuna.trials(name)
            for record in records:
                arm.start(Suggestion(record.number, dict(record.params), record.seed, record.epochs, record.source))
            measured = (each for record in records for each in curves.get((name, record.number), ()))
            for measurement in sorted(measured, key=attrgetter("time")):
                arm.note(measurement)
            for record in records:
                if record.state.is_final:
                    ended = Outcome(state=record.state, failure=record.failure, reason=record.reason)
                    arm.end(record.number, ended)
                    self._forget(self._directory(name, record.number))  # the last driver may have died before it did
            self._take_over_start(name)
            for stake in in_time((self._stake(name, number), *self._log.span(name, number)) for number in arm.trials):
                self._ledger.put(stake)
            self._heed_bugs(name)
            for number in running:
                self._resolve(name, number)
            self._tell(name)

    def _take_over_start(self, name: str) -> None:
        """Charge an arm that has begun what it was charged then; one that has not is charged when its turn comes."""
        arm, trials = self._spaces[name].arm, self._arms[name].trials
        if not trials:
            self._unbegun |= {name} if arm.starts_elsewhere else set()
        elif arm.starts_elsewhere:
            self._begin(name, next(iter(trials.values())).suggestion.source)

    def _next_arm(self) -> str | None:
        """The arm that starts the next trial; one that starts from another training is charged for that first."""
        while (name := self._ledger.next_arm()) in self._unbegun:
            self._unbegun.remove(name)
            source = self._spaces[name].arm.source
            best = best_trial(self._optuna.trials(source)) if source is not None else None
            self._begin(name, best.number if best else None)
        return name

    def _is_full(self, name: str) -> bool:
        """Whether an arm has all the trials at once that it may; its turn is waited for, so that arms stay abreast."""
        limit = self._most_at_once
        return limit is not None and self._arms[name].states[TrialState.RUNNING] >= limit

    def _begin(self, name: str, start: int | None) -> None:
        """Charge an arm for the trial of its source that it starts from, or for its checkpoint."""
        arm = self._spaces[name].arm
        cost: Cost | None = arm.pretraining
        if arm.source is not None:
            cost = None if start is None else self._before.get(arm.source, Cost()) + self._stake(arm.source, start).cost
        stop = begin(self._ledger, arm, cost)
        if stop is not None:
            self._tell(name, f"no trials: {stop.reason}")
            return
        self._before[name] = cost or Cost()
        if start is not None:
            self._starts[name] = start

    def _resolve(self, arm: str, number: int) -> None:
        """Settle a trial that its model, its attempts or the budget have decided, queue one that they have not."""
        self._enter(arm, number)
        try:
            config = self._config(arm, number)
        except ConfigError as error:  # the corners of a space were checked, not what lies between them
            broken = Outcome(state=TrialState.FAIL, failure=FailureClass.BUG, reason=one_line(error))
            self._log.refuse(arm, number, broken)
            self._settle(arm, number, broken)
            return
        ending = self._log.ending(arm, number, config)
        if ending is None and not self._ledger.lets_go_on(arm):
            measured = self._arms[arm].trials[number].curve
            ending = self._truncated(arm, number) if measured else self._log.ending(arm, number, None)
        if ending is None:
            self._waiting.append((arm, number))
        else:
            self._settle(arm, number, ending)

    def _issue(self, arm: str, number: int) -> Assignment:
        config, directory = self._config(arm, number), self._directory(arm, number)
        assignment = self._log.issue(arm, number, config=config, folder=self._folder, directory=directory)
        self._tell(arm)
        return assignment

    def _config(self, arm: str, number: int) -> dict[str, Any]:
        """What a trial trains; with fewer epochs than its own where its arm's budget had no more."""
        suggestion = self._arms[arm].trials[number].suggestion
        return self._spaces[arm].trial_config(
            suggestion.params, suggestion.seed, epochs=suggestion.epochs, source=suggestion.source
        )

    def _settle(self, arm: str, number: int, outcome: Outcome) -> None:
        best = best_of(self._arms[arm].trials[number].curve)
        if outcome.state is TrialState.COMPLETE and best is None:
            outcome = Outcome(state=TrialState.FAIL, failure=FailureClass.BUG, reason="ended without a validation")
        self._optuna.tell(arm, number, outcome, (best.mrr, best.epoch) if best else None)
        self._forget(self._directory(arm, number))
        self._arms[arm].end(number, outcome)
        self._enter(arm, number)
        found = f"mrr {best.mrr:.4f}" if best else "not measured"
        self._tell(arm, f"trial {number}: {outcome.state}, {found}, {outcome.reason}")
        self._heed_bugs(arm)

    def _heed_bugs(self, arm: str) -> None:
        """Let an arm start no more trials when too many have broken by the same bug."""
        stop = self._arms[arm].bugs.stop
        if stop is not None and self._ledger.stop(arm):
            self._tell(arm, f"no more trials: {stop.errors} broke by the same bug, {stop.reason}")

    def _directory(self, arm: str, number: int) -> Path:
        return self._folder / trial_folder(arm, number)

    def _enter(self, arm: str, number: int) -> None:
        """Show the ledger a trial as it stands."""
        self._ledger.put(self._stake(arm, number))

    def _stake(self, arm: str, number: int) -> Stake:
        trial = self._arms[arm].trials[number]
        failed = trial.state is TrialState.FAIL
        unmeasured = self._log.unmeasured(arm, number, failed=failed, measured=trial.measured.cost)
        return replace(trial.measured.charged_unmeasured(unmeasured), running=not trial.state.is_final)

    def _cut(self, arm: str, number: int, epoch: int) -> Outcome | None:
        """How the arm's other trials, or its budget, end this one here; its last epoch ends it by itself."""
        if epoch >= self._arms[arm].trials[number].suggestion.epochs:
            return None
        rungs = self._arms[arm].rungs
        pruned = rungs.pruned(number) if rungs is not None else None
        if pruned is not None:
            return Outcome(state=TrialState.PRUNED, reason=pruned)
        return None if self._ledger.lets_go_on(arm) else self._truncated(arm, number)

    def _truncated(self, arm: str, number: int) -> Outcome:
        trial = self._arms[arm].trials[number]
        of = self._spaces[arm].epochs(trial.suggestion.params)
        reason = f"{BUDGET}: ended after {trial.curve[-1].epoch} of {of} epochs"
        return Outcome(state=TrialState.COMPLETE, reason=reason)

    def _tell(self, name: str, said: str = "") -> None:
        arm, unit = self._arms[name], self._ledger.unit
        ended = sum(count for state, count in arm.states.items() if state.is_final)
        before = self._before.get(name, Cost()).trials
        progress = ArmProgress(
            stage=STAGE,
            arm=name,
            done=ended + before if unit == "trials" else amount(self._ledger.spent(name), unit),
            running=arm.states[TrialState.RUNNING],
            total=self._ledger.limit,
            best_mrr=arm.best.mrr if arm.best else None,
            failed=arm.states[TrialState.FAIL],
            pruned=arm.states[TrialState.PRUNED],
            said=said,
            unit="" if unit == "trials" else unit,
        )
        self._listen(progress)
