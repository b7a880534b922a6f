"""`study report` replaces the report on the study's MLflow run, where there is an MLflow."""

from pathlib import Path

import pytest

from tests.study.mlflow_store import Tracking, new_tracking
from tests.study.test_plan_cli import Captured, study


def artifacts(tracking: Tracking) -> dict[str, bytes]:
    """The files of the report on the study's run."""
    run = tracking.search("small", "tags.stage = 'study'")[0]
    folder = Path(tracking.client.download_artifacts(run.info.run_id, "report"))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_file_of_the_report_is_an_artifact(
    home_of_small: Path, made_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    tracking = new_tracking(made_database, home_of_small, "mlflow.db")
    assert study(monkeypatch, "report", "small", "--home", str(home_of_small)) == 0
    written = {file.name: file.read_bytes() for file in (home_of_small / "small" / "report").iterdir()}
    assert {"index.html", "tables.tex", "methods.txt", "record.json"} <= written.keys()
    assert artifacts(tracking) == written
    assert (
        study(monkeypatch, "report", "small", "--home", str(home_of_small), "--out", str(home_of_small / "elsewhere"))
        == 0
    )
    assert artifacts(tracking) == written


def test_without_an_mlflow_there_is_none_afterwards(home_of_small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study(monkeypatch, "report", "small", "--home", str(home_of_small)) == 0
    assert not (home_of_small / "mlflow.db").exists()


def test_a_server_that_is_away_does_not_take_the_report_away(
    home_of_small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert study(monkeypatch, "report", "small", "--home", str(home_of_small)) == 0
    said = capsys.readouterr()
    assert str(home_of_small / "small" / "report" / "index.html") in said.out
    assert said.err.startswith("MLflow has no copy of this report, `study sync small` sends it: tracking at http://127")
