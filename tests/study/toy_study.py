"""A study in a real folder and database whose attempts take no time: what is decided, without Ray and training.

A training's validation MRR rises to a quality that is a hash of its seed. One attempt runs after the other.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study import drive
from study.arms import Arms, Search
from study.config import load_study, parse_study
from study.database import sqlite_url
from study.history import ledger_over, study_record, trial_records
from study.opening import open_test
from study.records import Assignment, FailureClass, Measurement, Outcome, Selection, StudyRecord, TrialState
from study.replicate import ReplicateWork
from study.revision import Revision, revised, written
from study.search import SearchWork
from study.selection import freeze
from study.space import Space
from study.store import Registration, Store
from study.work import ArmProgress, Work

FILE = """\
name: toy
dataset: synthetic
seed: 7
arms: {models: [complex], losses: [sce, ns]}
budget: {trials: 2}
search: {sampler: random}
replicates: 2
fixed: {training.max_epochs: 3, model.dim: 32, model.reciprocal: false, validation.every: 1,
        early_stopping.patience: null}
"""
SCE, NS = "complex.sce", "complex.ns"
BROKEN = Outcome(state=TrialState.FAIL, failure=FailureClass.DIVERGENCE, reason="the loss is nan")


class Ended(Exception):  # noqa: N818
    """The driver's life is over."""


@dataclass
class Toy:
    """The study, its file and its database."""

    home: Path
    said: list[str] = field(default_factory=list)
    clock: float = 0.0
    issued: list[Assignment] = field(default_factory=list)
    breaks: Callable[[Assignment], bool] = lambda _: False

    @property
    def file(self) -> Path:
        return self.home / "toy.yaml"

    @property
    def folder(self) -> Path:
        return self.home / "toy"

    @property
    def database(self) -> str:
        return sqlite_url(self.folder / "study.db")

    def write(self, *changes: tuple[str, str]) -> None:
        """The study file, with pieces replaced."""
        text = FILE
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.file.write_text(text, encoding="utf-8")

    def launch(self, *changes: tuple[str, str]) -> None:
        """Register the study as `study run FILE` does."""
        self.write(*changes)
        self.folder.mkdir()
        config = load_study(self.file)
        with closing(Store(self.database)) as store:
            store.register_study(drive.declare(config, config.name), file=str(self.file))

    def go_on(self, *, amend: bool = False, reopen: bool = False, until: int = 10**9, tests: int = 10**9) -> None:
        """One driver's life: to the end, or to so many measurements and tests."""
        with closing(Store(self.database)) as store:
            plan = revised(store, "toy", Revision(amend=amend, reopen=reopen))
            study = written(store, plan, say=self.said.append)
            with arms_of(study, self.database) as arms:
                try:
                    self._drive(store, study, arms, until, tests)
                except Ended:
                    return

    def record(self) -> StudyRecord:
        return study_record(self.database, "toy")

    def _drive(self, store: Store, study: Registration, arms: Arms, until: int, tests: int) -> None:
        left = self._execute(search_of(store, study, arms, self.folder), until)
        selections = self._freeze(store, study, arms)
        work = ReplicateWork(
            study="toy",
            seed=study.seed,
            folder=self.folder,
            store=store,
            selections=selections,
            replicates=study.replicates,
            sources={arm.name: arm.source for arm in study.arms if arm.source is not None},
            listen=ignore,
        )
        self._execute(work, left)
        jobs, _ = open_test(store, record=self.record(), folder=self.folder)
        for number, job in enumerate(jobs):
            if number == tests:
                raise Ended
            ranked = replace(job.replicate, test_metrics=(("mrr", 0.9 * (job.replicate.valid_mrr or 0)),))
            store.record_replicate("toy", ranked)

    def _freeze(self, store: Store, study: Registration, arms: Arms) -> list[Selection]:
        trials = trial_records(store, arms, study)
        return freeze(store, study="toy", folder=self.folder, spaces=spaces_of(study), trials=trials)

    def _execute(self, work: Work, until: int) -> int:
        while (assignment := work.next()) is not None:
            self.issued.append(assignment)
            if self.breaks(assignment):
                work.ended(assignment, BROKEN)
                continue
            goes_on = True
            for measurement in self._training(assignment):
                if until == 0:
                    raise Ended
                until -= 1
                goes_on = work.measured(assignment, measurement)
                if not goes_on:
                    break
            if goes_on:
                reason = "stop_epoch" if training_of(assignment)["stop_epoch"] else "max_epochs"
                work.ended(assignment, Outcome(state=TrialState.COMPLETE, reason=reason))
        return until

    def _training(self, assignment: Assignment) -> Iterator[Measurement]:
        training = training_of(assignment)
        reached = quality(assignment.config["seed"])
        for epoch in range(1, (training["stop_epoch"] or training["max_epochs"]) + 1):
            self.clock += 1
            yield Measurement(
                arm=assignment.arm,
                trial=assignment.trial,
                epoch=epoch,
                mrr=reached * epoch / training["max_epochs"],
                metrics=(),
                loss=1.0,
                epochs=1,
                device_seconds=0.5,
                time=self.clock,
            )


def quality(seed: object) -> float:
    """The MRR that a training comes to, by its seed."""
    return random.Random(str(seed)).random()


def training_of(chosen: Assignment | Selection) -> dict[str, Any]:
    """The `training` section of a configuration."""
    training = chosen.config["training"]
    assert isinstance(training, dict)
    return training


def ignore(_: ArmProgress) -> None:
    """Nobody looks."""


def spaces_of(study: Registration) -> dict[str, Space]:
    return {arm.name: Space.of(arm, card) for arm, card in zip(study.arms, study.spaces, strict=True)}


@contextmanager
def arms_of(study: Registration, database: str) -> Iterator[Arms]:
    search = Search(seed=study.seed, config=parse_study(study.spec, "toy").search, spaces=spaces_of(study))
    with closing(Arms(database, study.name, search)) as arms:
        yield arms


def search_of(store: Store, study: Registration, arms: Arms, folder: Path) -> SearchWork:
    return SearchWork(
        study=study.name,
        folder=folder,
        store=store,
        arms=arms,
        spaces=spaces_of(study),
        ledger=ledger_over(study),
        config=parse_study(study.spec, "toy"),
        listen=ignore,
    )
