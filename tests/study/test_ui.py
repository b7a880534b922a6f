"""`study ui`: MLflow's pages on the study's tracking database, or where they are already."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.study.mlflow_store import kill, new_tracking, wait_until_healthy
from tests.study.test_plan_cli import Captured, study


def test_the_pages_are_served(home_of_small: Path, made_database: Path) -> None:
    new_tracking(made_database, home_of_small, "mlflow.db")
    uri = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "study.cli", "ui", "small", "--home", str(home_of_small), "--port", str(port)]
    with (home_of_small / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=home_of_small, env=os.environ, start_new_session=True
        )
    try:
        wait_until_healthy(uri, process)
        with urllib.request.urlopen(uri, timeout=60) as answer:
            assert b"<title>MLflow</title>" in answer.read()
    finally:
        kill(process)
    assert (home_of_small / "ui.log").read_text().startswith(f'{uri}: under "Model training", experiment small\n')


def test_a_server_is_named(home_of_small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert study(monkeypatch, "ui", "small", "--home", str(home_of_small)) == 0
    assert capsys.readouterr().out == 'http://tracking:5000: under "Model training", experiment small\n'


def test_a_port_that_is_in_use_is_refused_before_an_address_is_said(
    home_of_small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (home_of_small / "mlflow.db").touch()
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("MLflow is started"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert study(monkeypatch, "ui", "small", "--home", str(home_of_small), "--port", str(port)) == 2
    assert capsys.readouterr() == ("", f"error: --port: must be free, got {port}, which is in use\n")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("small", "study 'small': must be in MLflow to be looked at there, `study sync small` sends it"),
        ("smal", "study 'smal' is unknown"),
    ],
)
def test_where_there_is_nothing_to_look_at_it_is_said(
    home_of_small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, name: str, sentence: str
) -> None:
    assert study(monkeypatch, "ui", name, "--home", str(home_of_small)) == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert not (home_of_small / "mlflow.db").exists()
