"""What a command of studies imports. Each in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.database import sqlite_url
from tests.study import records_factory
from tests.study.saved_study import save

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "optuna", "mlflow", "pandas", "sqlalchemy", "pydantic", "numpy", "numba")

_PROGRAM = """
import sys
from study import cli
forbidden, sys.argv = sys.argv[1].split(","), ["study", *sys.argv[2:]]
try:
    cli.main()
finally:
    heavy = set(forbidden) & set(sys.modules)
    assert not heavy, heavy
"""


def imports(*arguments: str, without: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The command, which fails when it has imported one of these."""
    command = [sys.executable, "-c", _PROGRAM, ",".join(without), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["", "plan", "run", "submit", "status", "report"])
def test_help_answers_without_heavy_imports(command: str) -> None:
    done = imports(*command.split(), "--help", without=HEAVY)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: study {command}".rstrip() in done.stdout


def test_where_a_study_stands_is_told_without_what_runs_it(tmp_path: Path) -> None:
    record = records_factory.running()
    database = tmp_path / record.name / "study.db"
    database.parent.mkdir()
    save(record, sqlite_url(database))
    done = imports("status", record.name, "--home", str(tmp_path), without=("ray", "mlflow", "pandas", "numba"))
    assert (done.returncode, done.stderr) == (0, "")
    assert record.arms[0].name in done.stdout


def test_a_plan_is_made_without_what_runs_it() -> None:
    done = imports("plan", "demo", without=("ray", "mlflow", "pandas", "numba"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Memory of the largest training" in done.stdout
