"""Optuna: one study per arm, named "<study>/<arm>", in the same database as everything else.

A trial's params are chosen first and the trial is written with them in one transaction, so a crash
leaves a whole trial or none, and whatever is RUNNING can be issued again. The first trials of an arm are
independent draws with common random numbers (study.seeds); then TPE, a fresh sampler with a seed of its
own for each trial, reads the arm's trials from a copy in memory, so that a failing database cannot
disturb its random numbers. The copy follows the database and asks as one made anew would: what a trial is
given depends on the arm's trials, never on the process. No arm sees another.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, create_trial

from study import seeds
from study.config import SearchSection
from study.database import creation, prepare, retried
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
    """A trial to run: its number in the arm, its params, the seed of its training, the epochs it was given.

    And the trial of another arm that it starts from, where its arm has a source.
    """

    number: int
    params: Params
    seed: int
    epochs: int
    source: int | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the trials of a study are chosen."""

    seed: int  # of the study
    config: SearchSection
    spaces: Mapping[str, Space]  # by arm


def _counts(trial: FrozenTrial) -> bool:
    """Was it written whole, and not taken back?"""
    return "seed" in trial.user_attrs and _UNCHARGED not in trial.user_attrs


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
        self._copies: dict[str, _Copy] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = _open(url)

    def close(self) -> None:
        """Give back all connections."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @property
    def engine(self) -> sa.Engine:
        """What the trials are written by."""
        return self._storage.engine

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, arm: str, *, most: int | None = None, source: int | None = None) -> Suggestion:
        """Choose and write the arm's next trial, with its epochs: its own max_epochs, or the most that may be."""
        assert self._search is not None, "to ask, Arms needs a search"
        trials = self._all(arm)
        number, place = len(trials), sum(map(_counts, trials))  # a twin that was taken back has no place in the draws
        random = self._search.config.is_random(place)
        space = self._search.spaces[arm]
        copy = self._copies.pop(arm, None) or _Copy()  # what fails half-way below is made anew
        params = self._draw(space, place) if random else self._sample(space, trials, copy)
        seed = seeds.training_seed(self._search.seed, arm, number)
        epochs = min(space.epochs(params), most or sys.maxsize)
        attributes: dict[str, Value] = {"random": random, "seed": seed, "epochs": epochs}
        if source is not None:
            attributes["source"] = source
        self._create(arm, number, _running(space, params, attributes))
        self._copies[arm] = copy
        return Suggestion(number, params, seed, epochs, source)

    def _draw(self, space: Space, place: int) -> Params:
        assert self._search is not None
        seed = self._search.seed
        return space.draw(lambda path: seeds.uniform(seed, place, path))

    def _sample(self, space: Space, trials: list[FrozenTrial], copy: "_Copy") -> Params:
        """TPE over a copy of the arm."""
        assert self._search is not None
        seed = seeds.derive(self._search.seed, space.arm.name, len(trials), "sampler") & 0xFFFFFFFF
        tpe = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, self._search.config.first))
        copy.follow(trials)
        return copy.ask(tpe, space)

    def _create(self, arm: str, number: int, trial: FrozenTrial) -> None:
        """Write a trial under its number; a second try after a lost answer, here or in Optuna, is taken back."""
        self._add(arm, trial)
        for twin in self._all(arm)[number + 1 :]:
            self._discard(arm, twin.number)

    @_stored
    def _add(self, arm: str, trial: FrozenTrial) -> None:
        self._optuna(arm).add_trial(trial)

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

    @_stored
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
            _suggestion(trial) for trial in self._charged(arm) if trial.state == optuna.trial.TrialState.RUNNING
        )

    def trials(self, arm: str) -> tuple[TrialRecord, ...]:
        """Every trial that counts, without costs, attempts and curve: those are in the store."""
        return tuple(_record(arm, trial) for trial in self._charged(arm))

    def curves(self, arm: str) -> dict[int, dict[int, float]]:
        """Validation MRR by trial and epoch."""
        return {trial.number: dict(trial.intermediate_values) for trial in self._charged(arm)}

    def _charged(self, arm: str) -> list[FrozenTrial]:
        return [trial for trial in self._all(arm) if _counts(trial)]

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


class _Copy:
    """An arm's trials in memory, under the same numbers; of the database's only what is new or has ended is taken."""

    def __init__(self) -> None:
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(direction="maximize", storage=self._storage)
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._common = IntersectionSearchSpace(include_pruned=True)
        self._running: set[int] = set()

    def follow(self, trials: list[FrozenTrial]) -> None:
        """Catch up with all trials of the arm."""
        for number in [number for number in self._running if trials[number].state.is_finished()]:
            self._end(trials[number])
        for trial in trials[self._storage.get_n_trials(self._id) :]:
            self._storage.create_new_trial(self._id, template_trial=trial)
            if not trial.state.is_finished():
                self._running.add(trial.number)

    def ask(self, tpe: optuna.samplers.TPESampler, space: Space) -> Params:
        """The params of the arm's next trial, which runs here from now on."""
        self._study.sampler = _Spaced(tpe, self._common)
        trial = self._study.ask(distributions(space))
        self._running.add(trial.number)
        return dict(trial.params)

    def _end(self, trial: FrozenTrial) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        for epoch, mrr in trial.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, mrr)
        self._storage.set_trial_state_values(trial_id, trial.state, trial.values)
        self._running.remove(trial.number)


class _Spaced(optuna.samplers.BaseSampler):
    """TPE that is told the space which all trials share; to compare them anew takes longer than to sample."""

    def __init__(self, tpe: optuna.samplers.TPESampler, common: IntersectionSearchSpace) -> None:
        self._tpe = tpe
        self._common = common

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        common = self._common.calculate(study, use_cache=True)
        return {path: distribution for path, distribution in common.items() if not distribution.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


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


def _suggestion(trial: FrozenTrial) -> Suggestion:
    told = trial.user_attrs
    return Suggestion(trial.number, trial.params, told["seed"], told["epochs"], told.get("source"))


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
        epochs=told.get("epochs", 0),
        best_mrr=told.get("best_mrr"),
        best_epoch=told.get("best_epoch"),
        attempts=0,
        failure=FailureClass(told["failure"]) if told.get("failure") else None,
        reason=told.get("reason", ""),
        cost=Cost(trials=1),
        curve=(),
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        ended=ended.timestamp() if ended else None,
        source=told.get("source"),
    )


@_stored
def _open(url: str) -> optuna.storages.RDBStorage:
    with creation(url):
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    prepare(storage.engine)
    storage.engine.dispose()  # the connection of the set-up does not have the pragmas
    return storage
