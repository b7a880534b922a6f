"""One study through the front door whose workers meet faults: a model that raises, and too little memory.

The faults are patched into kge in every process, workers of Ray included, by a `sitecustomize` on PYTHONPATH.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from study.database import sqlite_url
from study.history import study_record
from study.records import Cost, FailureClass, StudyRecord, TrialState
from tests.study.sitecustomize_text import FINDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a driver starts Ray, and a machine may be busy

ROWS = 128  # of a step that fit into memory; the batches have 512 triples, asked from both sides
FILE = """\
name: faults
dataset: synthetic
seed: 3
arms: {models: [complex, transe], losses: [sce]}
budget: {epochs: 7}
search: {random_trials: 2}
replicates: 1
fixed: {training.max_epochs: 2, model.dim: 16, training.batch_size: 512, early_stopping.patience: null}
"""
SITECUSTOMIZE = f"""\
import importlib.abc, importlib.machinery, sys

def break_model(module):
    real = module.TransE.tail_query
    def tail_query(self, head, relation):
        if len(self.entities) == 2:  # its memory is predicted
            return real(self, head, relation)
        raise ValueError(f"no query of {{len(head)}} rows")
    module.TransE.tail_query = tail_query

def shrink_memory(module):
    real = module.slices
    def slices(length, size):
        if (size or length) > {ROWS}:
            raise MemoryError(f"{{size or length}} rows")
        return real(length, size)
    module.slices = slices

FAULTS = {{"kge.models.transe": break_model, "kge.batches.block": shrink_memory}}
"""


@dataclass
class Run:
    """The study at its end, and what was said."""

    record: StudyRecord
    closed: StudyRecord  # before it was said that the budgets are unequal
    said: str
    status: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("faults")
    (home / "sitecustomize.py").write_text(SITECUSTOMIZE + FINDER)
    (home / "faults.yaml").write_text(FILE)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{home}{os.pathsep}{root}"}

    def study(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "study.cli", *arguments, "--home", str(home)]
        done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    said = study("run", "faults.yaml", "--plain", code=1)
    closed = study_record(sqlite_url(home / "faults" / "study.db"), "faults")
    study("resume", "faults", "--plain", "--unequal")
    record = study_record(sqlite_url(home / "faults" / "study.db"), "faults")
    return Run(record, closed, said, study("status", "faults"))


def test_the_arm_of_the_broken_model_stops_and_the_other_uses_its_budget_up(run: Run) -> None:
    broken = [trial for trial in run.record.trials if trial.arm == "transe.sce"]
    assert len(broken) >= 3, "what ran when the arm was stopped went on"
    assert {(trial.state, trial.failure) for trial in broken} == {(TrialState.FAIL, FailureClass.BUG)}
    assert all(trial.cost.epochs == 1 and trial.cost.device_seconds > 0 for trial in broken)
    [stop] = run.record.stops
    assert (stop.arm, stop.errors) == ("transe.sce", len(broken))
    assert stop.reason == "ValueError: no query of 512 rows (sitecustomize.py:8)"
    assert f"no more trials: 3 broke by the same bug, {stop.reason}" in run.said
    assert f"  stopped     {len(broken)} trials broke by {stop.reason}" in run.status


def test_what_memory_does_not_hold_is_halved_and_the_epochs_end_exactly(run: Run) -> None:
    whole = [trial for trial in run.record.trials if trial.arm == "complex.sce"]
    assert [trial.cost.epochs for trial in whole] == [2, 2, 2, 1]
    assert {trial.state for trial in whole} == {TrialState.COMPLETE}
    assert whole[-1].reason == "budget: ended after 1 of 2 epochs"
    assert [trial.attempts for trial in whole] == [4] * 4, "all 1,024 rows, 512, 256, 128"
    assert "  budget      7 spent, 0 reserved of 7 epochs" in run.status
    [replicate] = run.record.replicate_records
    assert (run.closed.openings, [each.arm for each in run.record.openings]) == ((), ["complex.sce"])
    assert (replicate.arm, replicate.state) == ("complex.sce", TrialState.COMPLETE)
    assert replicate.test_metrics
    assert run.record.budget == Cost(epochs=7)
