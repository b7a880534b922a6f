"""The benchmark of the orchestration runs, and its databases are what a search would have left."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.finished_trials import Case, archive, finished, stock_copy
from benchmarks.stock import stock_searcher

ROOT = Path(__file__).resolve().parents[2]


def test_the_search_and_optuna_find_the_finished_trials(tmp_path: Path) -> None:
    case = Case.of(epochs=3)
    trials = finished(case.space, 8)
    archive(tmp_path / "study.db", trials)
    with case.work(tmp_path / "study.db", trials=9) as work:
        assignment = work.next()
        assert assignment is not None
        assert assignment.trial == 8
        assert work.next() is None
    searcher = stock_searcher(case, database=stock_copy(tmp_path / "study.db", tmp_path / "stock.db"))
    assert searcher._ot_study is not None
    *found, running = searcher._ot_study.trials
    assert [trial.params for trial in found] == [trial.params for trial in trials]
    assert [trial.value for trial in found] == pytest.approx([trial.mrr for trial in trials])
    assert [trial.state.name for trial in found] == ["PRUNED" if trial.pruned else "COMPLETE" for trial in trials]
    assert running.user_attrs["seed"] == assignment.config["seed"]


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.orchestration", "--quick", "--json", str(tmp_path / "found.json")]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    measures = {row["measure"] for row in rows}
    assert measures == {"start", "suggestion", "result", "end", "gap", "overhead"}
    assert all(row["low"] <= row["median"] <= row["high"] for row in rows)
    assert all(measure in said for measure in measures)
