"""Optuna: one study per arm, named "<study>/<arm>", in the same database as everything else.

A trial's params are chosen first and the trial is written with them in one transaction, so a crash
leaves a whole trial or none, and whatever is RUNNING can be issued again. The first trials of an arm are
independent draws with common random numbers (study.seeds); then TPE, a fresh sampler with a seed of its
own for each trial, reads the arm's trials from a copy in memory, so that a failing database cannot
disturb its random numbers. No arm sees another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, create_trial

from study import seeds
from study.config import SearchConfig
from study.database import prepare, retried
from study.records import Cost, Dimension, FailureClass, Outcome, Params, TrialRecord, TrialState, Value
from study.space import Space

_STATE = {
    TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
    TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.FAIL: optuna.trial.TrialState.FAIL,
}
_UNCHARGED = "uncharged"  # user attribute of a trial that never was one: it counts for nothing

P = ParamSpec("P")
R = TypeVar("R")


class Suggestion(NamedTuple):
    """A trial to run: its number in the arm, its params and the seed of its training."""

    number: int
    params: Params
    seed: int


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the trials of a study are chosen."""

    seed: int  # of the study
    config: SearchConfig
    spaces: Mapping[str, Space]  # by arm


def _stored(call: Callable[P, R]) -> Callable[P, R]:
    """Retry while the database is away, which Optuna reports in a wrapping of its own."""

    @retried
    @wraps(call)
    def unwrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except StorageInternalError as error:
            raise (error.__cause__ or error) from None

    return unwrapped


class Arms:
    """The trials of a study, arm by arm. Everything but `ask` works without a search."""

    def __init__(self, url: str, study: str, search: Search | None = None) -> None:
        self._study_name = study
        self._search = search
        self._studies: dict[str, optuna.Study] = {}
        self._ids: dict[tuple[str, int], int] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = _open(url)

    def close(self) -> None:
        """Give back all connections."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, arm: str) -> Suggestion:
        """Choose and write the arm's next trial."""
        assert self._search is not None, "to ask, Arms needs a search"
        trials = self._all(arm)
        number = len(trials)
        random = self._search.config.is_random(number)
        space = self._search.spaces[arm]
        params = self._draw(space, number) if random else self._sample(space, number, trials)
        seed = seeds.training_seed(self._search.seed, arm, number)
        self._create(arm, number, _running(space, params, {"random": random, "seed": seed}))
        return Suggestion(number, params, seed)

    def _draw(self, space: Space, number: int) -> Params:
        assert self._search is not None
        seed = self._search.seed
        return space.draw(lambda path: seeds.uniform(seed, number, path))

    def _sample(self, space: Space, number: int, trials: list[FrozenTrial]) -> Params:
        """TPE over a copy of the arm."""
        assert self._search is not None
        seed = seeds.derive(self._search.seed, space.arm.name, number, "sampler") & 0xFFFFFFFF
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, self._search.config.first))
        copy = optuna.create_study(direction="maximize", sampler=sampler)
        copy.add_trials(trial for trial in trials if trial.state != optuna.trial.TrialState.FAIL)
        return dict(copy.ask(distributions(space)).params)

    @_stored
    def _create(self, arm: str, number: int, trial: FrozenTrial) -> None:
        """Write a trial under its number; a second try after a lost answer, here or in Optuna, is taken back."""
        study = self._optuna(arm)
        if len(study.get_trials(deepcopy=False)) <= number:
            study.add_trial(trial)
        for twin in study.get_trials(deepcopy=False)[number + 1 :]:
            self._discard(arm, twin.number)

    # -- telling ---------------------------------------------------------------------------------

    @_stored
    def report(self, arm: str, number: int, epoch: int, mrr: float) -> bool:
        """Note a validation; False when the trial has ended already, which keeps its curve as it was."""
        try:
            self._storage.set_trial_intermediate_value(self._id(arm, number), epoch, mrr)
        except UpdateFinishedTrialError:
            return False
        return True

    @_stored
    def tell(self, arm: str, number: int, outcome: Outcome, best: tuple[float, int] | None) -> None:
        """End a trial with its best validation (MRR and epoch); to tell the same again changes nothing."""
        assert outcome.state.is_final, outcome
        now = self._trial(arm, number).state
        if now.is_finished():
            assert now == _STATE[outcome.state], f"{arm}/{number} is {now.name}, told {outcome.state}"
            return
        mrr, epoch = best or (None, None)
        failure = outcome.failure.value if outcome.failure else None
        attributes = {"best_mrr": mrr, "best_epoch": epoch, "failure": failure, "reason": outcome.reason}
        values = None if mrr is None or outcome.state is TrialState.FAIL else [mrr]
        self._end(arm, number, outcome.state, attributes, values)

    @_stored
    def reconcile(self, arm: str) -> tuple[Suggestion, ...]:
        """What was running when the last driver ended and is to be issued again, the oldest first.

        A RUNNING trial that `ask` did not write whole (by another program, say) is failed and counts for nothing.
        """
        for trial in self._all(arm):
            if trial.state == optuna.trial.TrialState.RUNNING and "seed" not in trial.user_attrs:
                self._discard(arm, trial.number)
        return self.running(arm)

    def _discard(self, arm: str, number: int) -> None:
        if not self._trial(arm, number).state.is_finished():
            self._end(arm, number, TrialState.FAIL, {_UNCHARGED: True}, None)

    def _end(
        self, arm: str, number: int, state: TrialState, attributes: Mapping[str, Value], values: list[float] | None
    ) -> None:
        """Attributes first: a trial that is cut short here is still RUNNING and will be told again."""
        trial_id = self._id(arm, number)
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, name, value)
        self._storage.set_trial_state_values(trial_id, _STATE[state], values)

    # -- reading ---------------------------------------------------------------------------------

    def running(self, arm: str) -> tuple[Suggestion, ...]:
        """The trials that have not ended."""
        return tuple(
            Suggestion(trial.number, trial.params, trial.user_attrs["seed"])
            for trial in self._charged(arm)
            if trial.state == optuna.trial.TrialState.RUNNING
        )

    def trials(self, arm: str) -> tuple[TrialRecord, ...]:
        """Every trial that counts, without costs, attempts and curve: those are in the store."""
        return tuple(_record(arm, trial) for trial in self._charged(arm))

    def curves(self, arm: str) -> dict[int, dict[int, float]]:
        """Validation MRR by trial and epoch."""
        return {trial.number: dict(trial.intermediate_values) for trial in self._charged(arm)}

    def _charged(self, arm: str) -> list[FrozenTrial]:
        return [trial for trial in self._all(arm) if "seed" in trial.user_attrs and _UNCHARGED not in trial.user_attrs]

    @_stored
    def _all(self, arm: str) -> list[FrozenTrial]:
        return self._optuna(arm).get_trials(deepcopy=False)

    def _trial(self, arm: str, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(arm, number))

    def _id(self, arm: str, number: int) -> int:
        if (arm, number) not in self._ids:
            study = self._storage.get_study_id_from_name(self._optuna(arm).study_name)
            self._ids[arm, number] = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        return self._ids[arm, number]

    def _optuna(self, arm: str) -> optuna.Study:
        if arm not in self._studies:
            self._studies[arm] = optuna.create_study(
                study_name=f"{self._study_name}/{arm}",
                storage=self._storage,
                direction="maximize",
                load_if_exists=True,
            )
        return self._studies[arm]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The tuned dimensions as Optuna knows them."""
    return {each.path: _distribution(each) for each in space.tuned}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "categorical":
        return CategoricalDistribution(dimension.choices)
    assert dimension.low is not None and dimension.high is not None
    if dimension.kind == "int":
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _running(space: Space, params: Params, attributes: Mapping[str, Value]) -> FrozenTrial:
    return create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=dict(params),
        distributions=distributions(space),
        user_attrs=dict(attributes),
    )


def _record(arm: str, trial: FrozenTrial) -> TrialRecord:
    told: dict[str, Any] = trial.user_attrs
    ended = trial.datetime_complete
    return TrialRecord(
        arm=arm,
        number=trial.number,
        state=next(ours for ours, theirs in _STATE.items() if theirs == trial.state),
        params=tuple(sorted(trial.params.items())),
        seed=told["seed"],
        random=told["random"],
        best_mrr=told.get("best_mrr"),
        best_epoch=told.get("best_epoch"),
        attempts=0,
        failure=FailureClass(told["failure"]) if told.get("failure") else None,
        reason=told.get("reason", ""),
        cost=Cost(trials=1),
        curve=(),
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        ended=ended.timestamp() if ended else None,
    )


@_stored
def _open(url: str) -> optuna.storages.RDBStorage:
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    prepare(storage.engine)
    storage.engine.dispose()  # the connection of the set-up does not have the pragmas
    return storage
