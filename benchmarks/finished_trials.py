"""A study with any number of finished trials of one arm, in seconds rather than hours.

The first trial is played through the search itself, which writes whatever a trial leaves in the database. Its
rows are then written again for every further trial, with a number, params, values and a state of their own.
"""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from study.arms import Arms, Search, distributions
from study.budget import Ledger
from study.config import StudyConfig, parse_study
from study.database import sqlite_url
from study.records import Assignment, Cost, Measurement, Outcome, Params, TrialState
from study.search import SearchWork
from study.space import Space, compose
from study.store import Store

STUDY = "orchestration"
CURVE = (0.2, 0.6, 1.0)  # of a trial's best value, by epoch
# Eight tuned dimensions; the training itself is as small as it gets.
TEXT = f"""\
name: {STUDY}
dataset: synthetic
seed: 0
arms: {{models: [complex], losses: [sce]}}
budget: {{trials: 100000}}
search: {{sampler: tpe, random_trials: 5}}
pruning: {{min_epochs: 1, reduction_factor: 3}}
replicates: 1
fixed:
  model.dim: 8
  model.init.name: normal
  model.reciprocal: false
  regularizer.p: 2
  regularizer.weighted: false
  schedule.patience: 3
  training.max_epochs: EPOCHS
  validation.every: 1
spaces:
  optimizer.lr: {{float: [1.0e-3, 0.1], log: true}}
"""


_COUNTERS = {"param_id", "trial_value_id", "trial_user_attribute_id", "trial_intermediate_value_id"}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished trial, as far as a searcher is told."""

    params: Params
    mrr: float
    pruned: bool

    @property
    def curve(self) -> list[float]:
        """Validations."""
        return [self.mrr * share for share in CURVE]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A study of one arm, its trials of `epochs` epochs."""

    config: StudyConfig
    space: Space

    @classmethod
    def of(cls, *, epochs: int) -> "Case":
        """The case whose trials train so long."""
        config = parse_study(TEXT.replace("EPOCHS", str(epochs)), "the benchmark's study")
        return cls(config=config, space=compose(config, config.arms[0]))

    @property
    def arm(self) -> str:
        """The name of the arm."""
        return self.space.arm.name

    @contextmanager
    def work(self, database: Path, *, trials: int) -> Iterator[SearchWork]:
        """The search of the study, with this many trials as its budget."""
        search = Search(seed=0, config=self.config.search, spaces={self.arm: self.space})
        url = sqlite_url(database)
        with closing(Store(url)) as store, closing(Arms(url, STUDY, search)) as arms:
            yield SearchWork(
                study=STUDY,
                folder=database.parent,
                store=store,
                arms=arms,
                spaces={self.arm: self.space},
                ledger=Ledger.over(
                    cards=[self.space.card()], budget=Cost(trials=trials), unit="trials", generations={}
                ),
                config=self.config,
                listen=lambda _: None,
            )


def measurement(assignment: Assignment, epoch: int, mrr: float) -> Measurement:
    """What a worker would send."""
    fixed: dict[str, Any] = {"metrics": (), "loss": 1.0, "epochs": 1, "device_seconds": 0.1, "time": 0.0}
    return Measurement(arm=assignment.arm, trial=assignment.trial, epoch=epoch, mrr=mrr, **fixed)


def finished(space: Space, size: int) -> list[Finished]:
    """Trials as a random search would have left them, every fourth of them pruned."""
    rng = random.Random(0)
    return [
        Finished(params=space.draw(lambda _: rng.random()), mrr=rng.random(), pruned=number % 4 == 3)
        for number in range(size)
    ]


def archive(file: Path, trials: list[Finished]) -> None:
    """Write a database that holds these trials, all of them finished."""
    case = Case.of(epochs=len(CURVE))
    with case.work(file, trials=1) as work:
        assignment = work.next()
        assert assignment is not None
        for epoch, mrr in enumerate(CURVE, start=1):
            work.measured(assignment, measurement(assignment, epoch, mrr))
        work.ended(assignment, Outcome(state=TrialState.COMPLETE, reason="max_epochs"))
    _multiply(file, case.space, trials)
    with case.work(file, trials=len(trials)) as work:
        assert work.is_done, "a trial was not written whole"


def stock_copy(file: Path, copy: Path) -> str:
    """The URL of a copy as Optuna would have made it: it does not know of write-ahead logs."""
    shutil.copy(file, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return sqlite_url(copy)


def _multiply(file: Path, space: Space, trials: list[Finished]) -> None:
    engine = sa.create_engine(sqlite_url(file))
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if not {"trial", "trial_id"}.isdisjoint(table.columns.keys()):
                template = connection.execute(sa.select(table)).mappings().all()
                connection.execute(table.delete())
                rows = [dict(_own(row, space, *each)) for each in enumerate(trials) for row in template]
                if rows:
                    connection.execute(table.insert(), rows)
    engine.dispose()


def _own(row: sa.RowMapping, space: Space, number: int, trial: Finished) -> Iterator[tuple[str, Any]]:
    """A row of the first trial as another trial's; what the database counts by itself is left to it."""
    changes: dict[str, Any] = {"trial": number, "trial_id": number + 1, "number": number}
    if trial.pruned:
        changes["state"] = "PRUNED"
    if "param_name" in row:
        path = row["param_name"]
        changes["param_value"] = distributions(space)[path].to_internal_repr(trial.params[path])
    for name, value in row.items():
        if name in ("mrr", "value", "intermediate_value"):
            yield name, value * trial.mrr
        elif name not in _COUNTERS:
            yield name, changes.get(name, value)
