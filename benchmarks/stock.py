"""Stock: Ray Tune with OptunaSearch, as their documentation shows them, around the training of our attempts."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.finished_trials import STUDY, Case, Finished
from study.arms import distributions
from study.nodes import Slots
from study.records import Assignment, Measurement
from study.space import Space
from study.trial import run_attempt


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A trial of one validation."""

    measured: float  # when, unix time
    training: float  # seconds, of the epoch and the validation


def stock_searcher(case: Case, *, trials: Iterable[Finished] = (), database: str | None = None) -> OptunaSearch:
    """Stock with its defaults, over a database or over finished trials in memory."""
    searcher = OptunaSearch(
        space=distributions(case.space),
        metric="mrr",
        mode="max",
        seed=0,
        study_name=f"{STUDY}/{case.arm}",
        storage=optuna.storages.RDBStorage(database) if database else None,
    )
    for trial in trials:
        searcher.add_evaluated_point(
            dict(trial.params), trial.mrr, pruned=trial.pruned, intermediate_values=trial.curve
        )
    return searcher


class StockDriver:
    """OptunaSearch as Tune calls it."""

    def __init__(self, searcher: OptunaSearch) -> None:
        self._searcher = searcher
        self._number = 0

    def suggestion(self) -> None:
        self._number += 1
        self._searcher.suggest(f"trial-{self._number}")

    def result(self, mrr: float) -> None:
        self._searcher.on_trial_result(f"trial-{self._number}", {"mrr": mrr, "training_iteration": 1})

    def end(self, mrr: float) -> None:
        self._searcher.on_trial_complete(f"trial-{self._number}", {"mrr": mrr})


class StockTrial(tune.Trainable):
    """The training of one of our attempts under stock Tune."""

    def setup(self, config: dict[str, Any], *, space: Space, folder: str, threads: int) -> None:  # type: ignore[override]
        torch.set_num_threads(threads)
        assignment = Assignment(
            study=STUDY,
            arm=space.arm.name,
            stage="search",
            trial=0,
            attempt=0,
            config=space.config(config, seed=0),
            folder=folder,
            directory=f"{folder}/{self.trial_id}",
        )
        self._events = run_attempt(assignment)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)  # type: ignore[call-arg]  # tune.with_parameters gives the others
        return True

    def step(self) -> dict[str, Any]:
        event = next(self._events)
        assert isinstance(event, Measurement), event
        return {"mrr": event.mrr, "measured": event.time, "training": event.device_seconds, "done": True}

    def cleanup(self) -> None:
        self._events.close()


def stock_run(
    searcher: OptunaSearch, space: Space, folder: Path, *, slots: Slots, trials: int, reuse: bool
) -> list[Ran]:
    """The same with stock Tune."""
    parameters = {"space": space, "folder": str(folder), "threads": slots.threads}
    trainable = tune.with_resources(tune.with_parameters(StockTrial, **parameters), {"cpu": slots.cpus})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=trials, reuse_actors=reuse),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(folder),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the training keeps its own
            verbose=0,
        ),
    )
    with stock_environment(), redirect_stdout(io.StringIO()):
        results = tuner.fit()
    ran = [results[number].metrics or {} for number in range(len(results))]
    return [Ran(measured=each["measured"], training=each["training"]) for each in ran]


@contextmanager
def stock_environment() -> Iterator[None]:
    """Without what our runner sets for Tune."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("TUNE_", "RAY_AIR_"))}
    for name in ours:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(ours)
