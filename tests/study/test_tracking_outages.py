"""A study does not wait for its tracking server: not for one that takes its time, and not for one that fails."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from study.errors import WorldError
from study.records import TrialState
from study.tracking.mirror import sync
from study.tracking.projection import project
from tests.study import records_factory as factory
from tests.study.door import Door, door
from tests.study.front_door import PATIENCE, Home, wait_until
from tests.study.mlflow_store import NOTHING, Served, Tracking

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

EPOCHS, TRIALS = 3, 2
FILE = f"""\
name: patient
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{trials: {TRIALS}}}
search: {{random_trials: {TRIALS}}}
replicates: 1
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 16, validation.every: 1, early_stopping.patience: null}}
"""


@pytest.fixture
def entrance(serve: Served) -> Iterator[Door]:
    """A real server behind a door."""
    serve.start()
    with door(serve.uri) as made:
        yield made


def test_an_error_of_the_server_is_one_sentence(tmp_path: Path) -> None:
    with door("nowhere") as entrance:
        entrance.broken = True
        with pytest.raises(WorldError, match=r"^tracking at http://127.0.0.1:\d+: must answer, got: .* 500") as caught:
            sync(factory.finished(trials=1), uri=entrance.uri, artifacts=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_a_server_takes_after_it_was_given_up_is_there_once(
    serve: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its database is locked it answers questions and keeps everything else waiting."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    serve.start()
    tracking = Tracking(serve.uri, tmp_path)
    record = factory.finished(trials=1, models=("complex",), replicates=0)
    tracking.sync(replace(record, created=record.created - 1000))
    with closing(sqlite3.connect(tmp_path / "server.db", isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(WorldError, match=r"runs/create failed .* timed out"):
                tracking.sync(record)
    wanted = {run.key for run in project(record).runs}
    while len(tracking.search(record.name, "tags.stage = 'study'")) < 3:
        time.sleep(0.1)
    assert tracking.sync(record).removed == 1
    assert wanted <= tracking.held(record.name).keys()
    assert tracking.sync(record) == NOTHING


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["takes its time", "fails"])
def test_all_trials_run_before_the_server_has_given_one_good_answer(
    trouble: str, entrance: Door, tmp_path: Path
) -> None:
    """What it did not take is in the database, and there once it answers again."""
    home = Home(tmp_path / "home", "patient", {"MLFLOW_TRACKING_URI": entrance.uri})
    home.variables["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "300"  # so that to wait for an answer is no failure
    home.folder.mkdir()
    (file := home.folder / "patient.yaml").write_text(FILE)
    entrance.broken = trouble == "fails"
    if not entrance.broken:
        entrance.hold()
    driver = home.start("run", str(file))
    try:
        wait_until(lambda: entrance.asked, driver)
        wait_until(lambda: home.charged() == 2 * TRIALS * EPOCHS, driver)
        assert Tracking(entrance.server, tmp_path).client.get_experiment_by_name("patient") is None
        entrance.open()
        assert driver.wait(PATIENCE) == 0, driver.said()
    finally:
        driver.kill_all()
    assert "study sync" not in driver.said()
    record = home.record()
    assert [trial.state for trial in record.trials] == [TrialState.COMPLETE] * 2 * TRIALS
    tracking = Tracking(entrance.server, tmp_path)
    assert len(tracking.held("patient")) == 1 + 2 * (1 + TRIALS + 1)
    assert tracking.sync(record) == NOTHING
