"""A study on a Ray cluster of several nodes on this machine: one node is lost in the middle, another joins.

The head takes no trials. Each node is a raylet with workers of its own, so what is killed with it is what a
machine would take with it; the file system is shared, as the checkpoints of a study must be.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from study.database import sqlite_url
from study.history import study_record
from study.records import FailureClass, StudyRecord, TrialState
from study.store import AttemptRecord, Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

EPOCHS, TRIALS = 12, 3
ARMS = ("complex.sce", "distmult.sce")
FILE = f"""\
name: nodes
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{trials: {TRIALS}}}
search: {{random_trials: {TRIALS}}}
replicates: 1
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 128, training.batch_size: 128, validation.every: 1,
        early_stopping.patience: null}}
"""
PATIENCE = 240.0  # seconds; a machine may be busy


@dataclass(frozen=True)
class Story:
    """The study at its end, and what its driver said."""

    record: StudyRecord
    attempts: list[AttemptRecord]
    code: int
    said: str


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="kn-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)  # where its address is noted, too: no other program is to find this cluster
        Path(folder, "ray").mkdir()
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture(scope="module")
def story(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = tmp_path_factory.mktemp("home")
    url = sqlite_url(home / "nodes" / "study.db")
    file, output = home / "nodes.yaml", home / "output"
    file.write_text(FILE)
    first = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    command = [sys.executable, "-m", "study.cli", "run", str(file), "--home", str(home), "--address", cluster.address]
    with output.open("w") as stream:
        driver = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        until((home / "nodes" / "study.db").exists, driver, output)
        with closing(Store(url)) as store:
            until(lambda: len(store.measurements("nodes", "search")) >= 4, driver, output)
            cluster.remove_node(first, allow_graceful=False)
            until(lambda: any(map(is_lost, store.attempts("nodes", "search"))), driver, output)
            cluster.add_node(num_cpus=1)
            code = driver.wait(PATIENCE)
            yield Story(study_record(url, "nodes"), store.attempts("nodes", "search"), code, output.read_text())
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()


def until(happened: Callable[[], object], driver: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert driver.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.1)


def is_lost(attempt: AttemptRecord) -> bool:
    return attempt.outcome is not None and attempt.outcome.failure is FailureClass.INFRASTRUCTURE


def test_a_study_outlives_a_node(story: Story) -> None:
    assert story.code == 0, story.said
    assert any(map(is_lost, story.attempts))


def test_it_ends_with_exactly_the_budgeted_trials_and_every_epoch_charged_once(story: Story) -> None:
    trials = story.record.trials
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, TRIALS)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, EPOCHS + 1))


def test_replicates_are_tested(story: Story) -> None:
    assert [(each.arm, each.state) for each in story.record.replicate_records] == [
        (arm, TrialState.COMPLETE) for arm in ARMS
    ]
    assert all(each.test_metrics for each in story.record.replicate_records)
