"""Files of ranks of a study, as its report says what is wrong with them."""

from pathlib import Path

import pytest

from study.database import sqlite_url
from tests.study import records_factory as factory
from tests.study.saved_study import save
from tests.study.test_plan_cli import Captured, study


def test_ranks_that_are_gone_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record = factory.finished(name="small", models=("complex",), losses=("sans", "sce"), trials=2, replicates=2)
    (tmp_path / "small").mkdir()
    save(record, sqlite_url(tmp_path / "small" / "study.db"))
    assert study(monkeypatch, "report", "small", "--home", str(tmp_path)) == 0
    first = next(each for each in record.replicate_records if each.arm == "complex.sce")
    file = tmp_path / "small" / str(first.ranks_file)
    said = f"no decisions on complex.sce: {file}: must be a file of ranks, but it does not exist"
    assert said in capsys.readouterr().err.splitlines()
