"""One study whose checkpoints are in a bucket: killed, its node's disk wiped, resumed, reported, replayed."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from study.records import StudyRecord, TrialState
from study.store import AttemptRecord
from tests.study.buckets import BUCKET, SECRET, Buckets, buckets
from tests.study.front_door import PATIENCE, Home, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # two drivers start Ray, and a machine may be busy

EPOCHS, TRIALS = 5, 2
ARMS = ("complex.sce", "complex.sans-pre")
FILE = f"""\
name: afar
dataset: synthetic
seed: 3
arms: {{models: [complex], losses: [sce, {{name: sans, label: sans-pre, pretrain: sce}}]}}
budget: {{trials: 3}}
search: {{random_trials: 2}}
replicates: 1
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 64, training.batch_size: 128, validation.every: 1,
        model.reciprocal: false, early_stopping.patience: null}}
"""
URL = f"s3://{BUCKET}/kept"


@dataclass
class Story:
    home: Home
    bucket: Buckets
    killed: StudyRecord
    record: StudyRecord
    attempts: list[AttemptRecord]
    said: tuple[int, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder, node = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("node")
    (folder / "afar.yaml").write_text(FILE)
    drivers = []
    with buckets(folder) as bucket:
        home = Home(folder, "afar", bucket.variables | {"TMPDIR": str(node)})
        try:
            drivers.append(driver := home.start("run", str(folder / "afar.yaml"), "--checkpoints", URL))
            wait_until(lambda: home.charged() % EPOCHS > 1, driver)
            driver.kill_all()
            killed = home.record()
            for left in node.iterdir():
                shutil.rmtree(left)
            drivers.append(driver := home.start("resume", "afar"))
            said = driver.wait(2 * PATIENCE), driver.said()
            yield Story(home, bucket, killed, home.record(), home.attempts(), said)
        finally:
            for driver in drivers:
                driver.kill_all()


def test_it_ends_with_exactly_the_budgeted_trials_and_every_epoch_charged_once(story: Story) -> None:
    assert story.said[0] == 0, story.said[1]
    trials = story.record.trials
    assert Counter(trial.arm for trial in trials) == {
        "complex.sce": 3,
        "complex.sans-pre": 2,
    }  # and what it starts from
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, EPOCHS + 1))


def test_a_trial_goes_on_from_the_bucket_when_its_nodes_disk_is_gone(story: Story) -> None:
    cut = [trial for trial in story.killed.trials if 0 < trial.cost.epochs < EPOCHS]
    assert cut
    after = {(trial.arm, trial.number): trial for trial in story.record.trials}
    for trial in cut:
        assert after[trial.arm, trial.number].curve[: len(trial.curve)] == trial.curve
    assert max(trial.attempts for trial in after.values()) == 2
    wasted = sum(epochs for (epochs,) in story.home.rows("SELECT epochs FROM kge_waste"))
    assert wasted <= len(cut)  # what was sent last, told again


def test_the_bucket_holds_the_best_checkpoint_of_every_training_and_its_ranks(story: Story) -> None:
    trials = [(f"trials/{each.arm}/{each.number}", each.attempts - 1) for each in story.record.trials]
    trials += [(f"replicates/{arm}/0", 0) for arm in ARMS]
    best = [f"kept/afar/{folder}/{attempt}/best.pt" for folder, attempt in trials]
    assert story.bucket.keys("kept/afar") == sorted([*best, *(f"kept/afar/ranks/{arm}-0.parquet" for arm in ARMS)])


def test_the_report_fetches_the_ranks_that_are_not_here(story: Story) -> None:
    folder = story.home.folder / "afar"
    shutil.rmtree(folder / "ranks")
    shutil.rmtree(folder / "report")
    assert story.home.finish("report", "afar")[0] == 0
    assert sorted(file.name for file in (folder / "ranks").iterdir()) == sorted(f"{arm}-0.parquet" for arm in ARMS)
    page = (folder / "report" / "index.html").read_text()
    assert "Test MRR by category of relations" in page
    assert f"{URL}/afar" in page


def test_a_trial_that_starts_from_another_one_is_replayed_from_the_bucket(story: Story) -> None:
    code, said = story.home.finish("replay", "afar", "complex.sans-pre/0")
    assert code == 0, said
    assert f"holds exactly: {EPOCHS} validations" in said
    assert "checkpoints" not in said


def test_mlflow_has_the_models(story: Story) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{story.home.folder / 'mlflow.db'}")
    for arm in ARMS:
        assert client.get_model_version_by_alias(f"afar.{arm}", "best").tags["source"] == "replicate 0"


def test_every_attempt_that_measured_has_a_place(story: Story) -> None:
    measured = {(each.arm, each.trial) for trial in story.record.trials for each in trial.curve}
    placed = {(each.arm, each.trial) for each in story.record.places if each.stage == "search"}
    assert placed == measured
    assert {each.arm for each in story.record.places if each.stage == "replicate"} == set(ARMS)
    assert all(each.node and each.host for each in story.record.places)
    assert {each.device for each in story.record.places} == {device_name("cpu", "float32")}
    again = [each for each in story.attempts if each.attempt == 1]
    assert again
    assert {(each.arm, each.trial, 1) for each in again} <= {
        (each.arm, each.trial, each.attempt) for each in story.record.places
    }
    code, said = story.home.finish("status", "afar")
    assert code == 0
    assert "\ntrained: 7 trainings on " in said


def test_no_file_of_the_study_holds_a_credential(story: Story) -> None:
    files = [file for file in Path(story.home.folder).rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
