"""One study through the front door: interrupted, robbed of a worker, killed, refused to a second driver, finished.

The study lives four lives, each ended at a moment that its database shows:

    run      Ctrl-C in the middle of a trial
    resume   a worker is killed; then SIGKILL of the driver and all its processes, in the middle of a trial
    resume   to the end, while a second driver is refused
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet
import pytest

from kge.catalog import load
from study.records import StudyRecord, TrialState
from tests.study.front_door import PATIENCE, Home, is_lost, wait_until, workers

pytestmark = pytest.mark.timeout(900)  # three drivers start Ray, and a machine may be busy

EPOCHS = 6
FILE = f"""\
name: lives
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{trials: 2}}
search: {{random_trials: 2}}
replicates: 1
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 128, training.batch_size: 128, validation.every: 1,
        early_stopping.patience: null}}
"""
ARMS = ("complex.sce", "distmult.sce")


@dataclass
class Story:
    """The study at its end, and what was seen on the way."""

    home: Home
    record: StudyRecord
    interrupted: tuple[int, str]
    killed: StudyRecord
    second_driver: tuple[int, str]
    finished: tuple[int, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = Home(tmp_path_factory.mktemp("home"), "lives")
    file = home.folder / "lives.yaml"
    file.write_text(FILE)
    drivers = []
    try:
        drivers.append(driver := home.start("run", str(file)))
        wait_until(lambda: home.charged() >= 3, driver)
        os.killpg(driver.pid, signal.SIGINT)
        interrupted = driver.wait(PATIENCE), driver.said()

        drivers.append(driver := home.start("resume", "lives"))
        before = home.charged()
        wait_until(lambda: home.charged() >= before + 2, driver)
        os.kill(workers(driver.pid)[0], signal.SIGKILL)
        wait_until(lambda: any(is_lost(each) for each in home.attempts()), driver)
        before = home.charged()
        wait_until(lambda: home.charged() > before, driver)
        driver.kill_all()
        killed = home.record()

        drivers.append(driver := home.start("resume", "lives"))
        wait_until(lambda: home.charged() > sum(each.cost.epochs for each in killed.trials), driver)
        second_driver = home.finish("resume", "lives")
        finished = driver.wait(PATIENCE), driver.said()
        yield Story(home, home.record(), interrupted, killed, second_driver, finished)
    finally:
        for driver in drivers:
            driver.kill_all()


def test_an_interrupted_driver_says_how_to_go_on(story: Story) -> None:
    again = f"study resume lives --home {story.home.folder}"
    assert story.interrupted == (130, f"interrupted: `{again}` continues it\n")


def test_a_second_driver_is_refused(story: Story) -> None:
    code, said = story.second_driver
    assert code == 2
    assert said.startswith("error: study 'lives': must have one driver, process")


def test_the_study_was_killed_in_the_middle(story: Story) -> None:
    running = [trial for trial in story.killed.trials if trial.state is TrialState.RUNNING]
    assert running
    assert any(0 < trial.cost.epochs < EPOCHS for trial in running)


def test_it_ends_with_exactly_the_budgeted_trials_and_every_epoch_charged_once(story: Story) -> None:
    code, said = story.finished
    assert code == 0, said
    trials = story.record.trials
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, 2)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, EPOCHS + 1))


def test_an_ended_trial_keeps_its_best_checkpoint_and_not_its_last(story: Story) -> None:
    for trial in story.record.trials:
        folder = story.home.folder / "lives" / "trials" / trial.arm / str(trial.number)
        assert sorted(file.name for file in folder.iterdir()) == ["best.pt", "lock"]


def test_trials_go_on_from_their_checkpoints(story: Story) -> None:
    before = {(trial.arm, trial.number): trial.curve for trial in story.killed.trials}
    after = {(trial.arm, trial.number): trial for trial in story.record.trials}
    for key, curve in before.items():
        assert after[key].curve[: len(curve)] == curve
    assert max(trial.attempts for trial in after.values()) >= 3
    lost = [each for each in story.home.attempts() if is_lost(each)]
    assert len(lost) == 1, lost
    assert lost[0].outcome is not None
    assert "died" in lost[0].outcome.reason


def test_selections_are_frozen_before_replicates_and_test_is_opened_once_after_them(story: Story) -> None:
    record = story.record
    assert [each.arm for each in record.selections] == sorted(ARMS)
    assert [each.arm for each in record.openings] == sorted(ARMS)
    for selection, opening in zip(record.selections, record.openings, strict=True):
        assert opening.selection_sha256 == selection.sha256
        assert opening.time > selection.time
    assert (story.home.folder / "lives" / "selection.json").is_file()


def test_replicates_are_tested_and_their_ranks_kept(story: Story) -> None:
    replicates = story.record.replicate_records
    assert [(each.arm, each.index) for each in replicates] == [(arm, 0) for arm in sorted(ARMS)]
    test = load("synthetic").test
    assert test is not None
    for each in replicates:
        assert each.state is TrialState.COMPLETE
        assert each.cost.epochs == EPOCHS
        assert each.ranks_file is not None
        ranks = pyarrow.parquet.read_table(story.home.folder / "lives" / each.ranks_file).to_pandas()
        assert len(ranks) == 2 * len(test)
        assert Counter(ranks["side"]) == {"head": len(test), "tail": len(test)}
        assert (1 / ranks["realistic"]).mean() == pytest.approx(dict(each.test_metrics)["mrr"])


def test_mlflow_has_every_run_and_the_model_of_every_arm_once(story: Story) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{story.home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lives")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    stages = Counter(run.data.tags["stage"] for run in runs)
    assert stages == {"study": 1, "arm": 2, "search": 4, "replicate": 2}
    assert {run.info.status for run in runs} == {"FINISHED"}
    best = [client.get_model_version_by_alias(f"lives.{arm}", "best") for arm in ARMS]
    assert [(int(each.version), each.tags["source"]) for each in best] == [(1, "replicate 0")] * 2


def test_the_report_is_written_and_status_tells_the_end(story: Story) -> None:
    report = story.home.folder / "lives" / "report"
    assert {"index.html", "arms.csv", "trials.csv", "replicates.csv"} <= {file.name for file in report.iterdir()}
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "complex.sce: 1 seed tested; how far seeds differ is known from two on." in page
    assert page.count(" is better than ") == 0
    assert "Test MRR by category of relations" in page
    code, said = story.home.finish("status", "lives")
    assert code == 0
    assert "no driver is running\n" in said
    assert said.count("2 spent, 0 reserved of 2 trials") == 2
    assert said.count("1 COMPLETE, 1 tested of 1") == 2


def test_a_finished_study_is_not_begun_again(story: Story) -> None:
    code, said = story.home.finish("run", str(story.home.folder / "lives.yaml"))
    assert (code, said) == (2, "error: study 'lives' exists; `study resume lives` continues it\n")


def test_unknown_studies_are_refused_by_every_command(story: Story) -> None:
    code, said = story.home.finish("status", "live")
    assert code == 2
    assert said.startswith("error: study 'live' is unknown in")
    assert "(known: lives; did you mean 'lives'?)" in said
