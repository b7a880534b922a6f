"""One study through the front door on a folder of the user's own, named from where it was launched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kge import synthetic
from study.database import sqlite_url
from study.history import study_record
from study.records import StudyRecord, TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a driver starts Ray, and a machine may be busy

FILE = """\
name: mine
dataset: graphs/mine
arms: {models: [distmult], losses: [sce]}
budget: {trials: 2}
search: {random_trials: 2}
replicates: 1
fixed: {training.max_epochs: 1, model.dim: 16}
"""
ROOT = Path(__file__).resolve().parents[2]


def study(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "study.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the study was launched; its home is `runs` in there."""
    home = tmp_path_factory.mktemp("own")
    (home / "graphs" / "mine").mkdir(parents=True)
    for split, triples in synthetic.triples().items():
        (home / "graphs" / "mine" / f"{split}.txt").write_text("".join("\t".join(each) + "\n" for each in triples))
    (home / "mine.yaml").write_text(FILE)
    done = study("run", "mine.yaml", "--plain", folder=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def record(home: Path) -> StudyRecord:
    return study_record(sqlite_url(home / "runs" / "mine" / "study.db"), "mine")


def test_its_workers_find_the_folder(home: Path) -> None:
    assert record(home).dataset == str(home / "graphs" / "mine")
    assert [trial.state for trial in record(home).trials] == [TrialState.COMPLETE] * 2
    assert all(replicate.test_metrics for replicate in record(home).replicate_records)


def test_it_goes_on_from_any_folder(home: Path, tmp_path: Path) -> None:
    done = study("resume", "mine", "--home", str(home / "runs"), "--plain", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "study mine is finished" in done.stdout


def test_another_graph_in_the_folder_is_refused(home: Path, tmp_path: Path) -> None:
    train = home / "graphs" / "mine" / "train.txt"
    before = train.read_text()
    train.write_text(before.split("\n", 1)[1])
    try:
        done = study("resume", "mine", "--home", str(home / "runs"), "--plain", folder=tmp_path)
    finally:
        train.write_text(before)
    assert done.returncode == 2
    assert "must be the one that the study began with" in done.stderr
