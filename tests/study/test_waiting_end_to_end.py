"""What waits for a node takes no device: three trials that hold the whole machine each, through the front door.

The first trains. The second, of another arm, breaks before its training begins; the worker of the third dies. Both were
begun before the first and waited for it, and neither measures anything.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from study.records import FailureClass, StudyRecord
from study.store import AttemptRecord
from tests.crash.servers import tracking_tables
from tests.study.front_door import Home
from tests.study.sitecustomize_text import FINDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a driver starts Ray, and a machine may be busy

FILE = """\
name: waiting
dataset: synthetic
seed: 3
arms: {{models: [complex, transe, distmult], losses: [sce]}}
budget: {{trials: 1}}
search: {{random_trials: 1}}
replicates: 1
fixed: {{training.max_epochs: 4, validation.every: 1, model.dim: 16, early_stopping.patience: null}}
resources: {{cpus_per_trial: {cpus}, max_concurrent: 3}}
"""
FIRST, BROKEN, KILLED = "complex.sce", "transe.sce", "distmult.sce"
# Imported by every Python process before anything else.
SITECUSTOMIZE = """\
import importlib.abc, importlib.machinery, os, sys

def forgive_nobody(module):
    module.MAX_LOSSES = 1

def break_two(module):
    real = module._check_start
    def check_start(config, desk):
        if config.model.name == "transe":
            raise ValueError("no start")
        if config.model.name == "distmult":
            os._exit(1)
        return real(config, desk)
    module._check_start = check_start

FAULTS = {"study.attempts": forgive_nobody, "study.trial": break_two}
"""


@dataclass
class Run:
    """The study at its end, and after it was resumed."""

    record: StudyRecord
    resumed: StudyRecord
    attempts: dict[str, AttemptRecord]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("waiting")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE + FINDER)
    (folder / "mlflow.db").write_bytes(tracking_tables())
    (folder / "waiting.yaml").write_text(FILE.format(cpus=os.cpu_count()))
    home = Home(folder, "waiting", {"PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).resolve().parents[2]}"})
    finish(home, "run", str(folder / "waiting.yaml"), "--plain")
    record, attempts = home.record(), {attempt.arm: attempt for attempt in home.attempts()}
    finish(home, "resume", "waiting", "--plain")
    return Run(record, home.record(), attempts)


def finish(home: Home, *command: str) -> None:
    driver = home.start(*command)
    try:
        assert driver.wait() == 0, driver.said()
    finally:
        driver.kill_all()


@pytest.mark.parametrize(("arm", "failure"), [(BROKEN, FailureClass.BUG), (KILLED, FailureClass.INFRASTRUCTURE)])
def test_a_trial_that_waits_for_a_node_is_not_charged_for_that(run: Run, arm: str, failure: FailureClass) -> None:
    first, attempt = run.attempts[FIRST], run.attempts[arm]
    [trial] = [trial for trial in run.record.trials if trial.arm == arm]
    assert first.ended is not None
    assert attempt.ended is not None
    assert (trial.failure, trial.attempts, trial.curve) == (failure, 1, ())
    assert attempt.started < first.ended < attempt.ended, "it waited for the first"
    assert trial.cost.epochs == 1
    assert 0 < trial.cost.device_seconds < attempt.ended - first.ended


def test_what_is_charged_stays_when_the_study_is_resumed(run: Run) -> None:
    assert run.resumed.trials == run.record.trials
