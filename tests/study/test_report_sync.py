"""`study report` replaces the report on the study's MLflow run, where there is an MLflow."""

from pathlib import Path

import pytest

from study.database import sqlite_url
from tests.study import records_factory as factory
from tests.study.mlflow_store import Tracking, new_tracking
from tests.study.saved_study import save
from tests.study.test_plan_cli import Captured, study


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "home" / "small").mkdir(parents=True)
    record = factory.finished(name="small", models=("complex",), trials=2, replicates=0)
    save(record, sqlite_url(tmp_path / "home" / "small" / "study.db"))
    return tmp_path / "home"


def artifacts(tracking: Tracking) -> dict[str, bytes]:
    """The files of the report on the study's run."""
    run = tracking.search("small", "tags.stage = 'study'")[0]
    folder = Path(tracking.client.download_artifacts(run.info.run_id, "report"))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_file_of_the_report_is_an_artifact(
    home: Path, made_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    tracking = new_tracking(made_database, home, "mlflow.db")
    assert study(monkeypatch, "report", "small", "--home", str(home)) == 0
    written = {file.name: file.read_bytes() for file in (home / "small" / "report").iterdir()}
    assert {"index.html", "tables.tex", "methods.txt", "record.json"} <= written.keys()
    assert artifacts(tracking) == written
    assert study(monkeypatch, "report", "small", "--home", str(home), "--out", str(home / "elsewhere")) == 0
    assert artifacts(tracking) == written


def test_without_an_mlflow_there_is_none_afterwards(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study(monkeypatch, "report", "small", "--home", str(home)) == 0
    assert not (home / "mlflow.db").exists()


def test_a_server_that_is_away_does_not_take_the_report_away(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert study(monkeypatch, "report", "small", "--home", str(home)) == 0
    said = capsys.readouterr()
    assert str(home / "small" / "report" / "index.html") in said.out
    assert said.err.startswith("MLflow has no copy of this report, `study sync small` sends it: tracking at http://127")
