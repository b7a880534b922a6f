"""One study on real Ray through the front door: stopped from another process, finished, amended, reopened.

run                      `study stop` in the middle of a trial
resume                   to the end
resume                   the report alone
resume --amend --reopen  a larger budget and another arm, to the end
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from study.database import sqlite_url
from study.history import study_record
from study.records import StudyRecord, TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # three drivers start Ray, and a machine may be busy

FILE = """\
name: grown
dataset: synthetic
seed: 3
arms: {models: [complex], losses: [sce]}
budget: {trials: 2}
search: {sampler: random}
replicates: 1
fixed: {training.max_epochs: 40, model.dim: 128, training.batch_size: 128, validation.every: 1,
        early_stopping.patience: null}
"""  # trainings of ten seconds and more: the stop must find them running
PATIENCE = 300.0  # seconds


@dataclass
class Home:
    """Where the study lives, and its front door."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "grown.yaml"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "study.cli", *arguments, "--home", str(self.folder)]
        return subprocess.Popen(command, stdout=-1, stderr=subprocess.STDOUT, start_new_session=True, text=True)

    def finish(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return process.returncode, said

    def record(self) -> StudyRecord:
        return study_record(sqlite_url(self.folder / "grown" / "study.db"), "grown")

    def charged(self) -> int:
        """Epochs that the database has charged; looked at without touching a database that is just being made."""
        database = self.folder / "grown" / "study.db"
        if not database.exists():
            return 0
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            try:
                return int(connection.execute("SELECT COUNT(*) FROM kge_charges").fetchone()[0])
            except sqlite3.OperationalError:
                return 0


@dataclass
class Story:
    """What was seen on the way."""

    home: Home
    stop: tuple[int, str]
    stopped: tuple[int, str]
    interrupted: StudyRecord
    finished: tuple[int, str]
    before: StudyRecord
    again: tuple[int, str]
    amended: tuple[int, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    home = Home(tmp_path_factory.mktemp("home"))
    home.file.write_text(FILE)
    driver = home.start("run", str(home.file), "--plain")
    try:
        deadline = time.monotonic() + PATIENCE
        while home.charged() < 2:
            assert driver.poll() is None, driver.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        stop = home.finish("stop", "grown")
        said, _ = driver.communicate(timeout=PATIENCE)
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.communicate()
    stopped, interrupted = (driver.returncode, said), home.record()
    finished, before = home.finish("resume", "grown", "--plain"), home.record()
    again = home.finish("resume", "grown", "--plain")
    home.file.write_text(FILE.replace("trials: 2", "trials: 4").replace("[complex]", "[complex, distmult]"))
    amended = home.finish("resume", str(home.file), "--amend", "--reopen", "--plain")
    return Story(home, stop, stopped, interrupted, finished, before, again, amended)


def test_a_driver_is_stopped_from_another_process_and_says_how_to_go_on(story: Story) -> None:
    code, said = story.stop
    assert code == 0
    assert said.splitlines()[-1].endswith("has ended")
    code, said = story.stopped
    assert code == 130
    assert said.endswith(f"interrupted: `study resume grown --home {story.home.folder}` continues it\n")
    record = story.interrupted
    assert TrialState.RUNNING in {each.state for each in (*record.trials, *record.replicate_records)}
    assert not record.openings


def test_it_goes_on_to_its_end_and_then_nothing_is_left(story: Story) -> None:
    assert story.finished[0] == 0, story.finished[1]
    assert [trial.cost.epochs for trial in story.before.trials] == [40, 40]
    page = story.home.folder / "grown" / "report" / "index.html"
    assert story.again == (0, f"study grown is finished, nothing is left to train or to rank\nreport: {page}\n")


def test_an_amendment_adds_and_changes_nothing_that_was_there(story: Story) -> None:
    assert story.amended[0] == 0, story.amended[1]
    changes = "budget.trials: 2 -> 4; arms: distmult.sce added"
    assert f"amendment 1: {changes}; test may be opened again\n" in story.amended[1]
    before, after = story.before, story.home.record()
    assert Counter(trial.arm for trial in after.trials) == {"complex.sce": 4, "distmult.sce": 4}
    assert after.trials[:2] == before.trials
    assert after.selections[0] == before.selections[0]
    assert after.replicate_records[0] == before.replicate_records[0]
    assert after.openings[0] == before.openings[0]
    assert all(each.test_metrics for each in after.current_replicates("complex.sce"))
    [fresh] = after.current_replicates("distmult.sce")
    assert fresh.test_metrics


def test_mlflow_and_the_report_tell_the_amendment(story: Story) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{story.home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("grown")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id], "tags.stage = 'study'")
    assert run.data.tags["amendment.1"] == "budget.trials: 2 -> 4; arms: distmult.sce added"
    assert run.info.status == "FINISHED"
    page = (story.home.folder / "grown" / "report" / "index.html").read_text()
    assert "1 amendment, 1 of them after the test split of an arm was opened." in page
