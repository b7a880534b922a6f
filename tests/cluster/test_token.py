"""A Ray cluster with token authentication: without the token nothing is read or started."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.cluster.nodes import PATIENCE, Nodes, cluster
from tests.study.front_door import Driver, below, title

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

TOKEN = "cb5d1f0a1f9b4a0c" * 4
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secret") / "token"
    file.write_text(TOKEN)
    return file


@pytest.fixture(scope="module")
def nodes(secret: Path) -> Iterator[Nodes]:
    with cluster(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(secret), PYTHONPATH=str(ROOT)) as found:
        yield found


def said(nodes: Nodes, folder: Path, *arguments: str, token: Path | None) -> tuple[int, str]:
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
    command = [sys.executable, "-m", "study.cli", *arguments, "--address", nodes.jobs, "--home", str(folder)]
    driver = Driver(command, os.environ | variables, folder / "said")
    return driver.wait(PATIENCE), driver.said()


@pytest.mark.parametrize("command", ["submit", "status", "resume"])
def test_without_the_token_nothing_is_read_or_submitted(nodes: Nodes, tmp_path: Path, command: str) -> None:
    code, answer = said(nodes, tmp_path, command, "demo", token=None)
    assert code == 2
    assert answer.startswith(f"error: job server {nodes.jobs}: must be shown its token, by RAY_AUTH_MODE=token")
    assert answer.count("\n") == 1


def test_another_token_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another" * 8)
    code, answer = said(nodes, tmp_path, "submit", "demo", token=tmp_path / "token")
    assert code == 2
    assert "Invalid authentication token" in answer


def test_the_job_server_itself_refuses(nodes: Nodes) -> None:
    request = Request(f"{nodes.jobs}/api/jobs/", data=b'{"entrypoint": "true"}', method="POST")
    with pytest.raises(HTTPError, match="401") as refused:
        urlopen(request, timeout=PATIENCE)
    refused.value.close()


def test_with_the_token_a_job_runs_and_no_log_or_process_list_shows_it(
    nodes: Nodes, tmp_path: Path, secret: Path
) -> None:
    code, answer = said(nodes, tmp_path, "status", "nowhere", token=secret)
    assert (code, answer) == (2, f"error: study 'nowhere' is unknown in {tmp_path} (known: none)\n")
    assert not [file for file in nodes.files() if TOKEN.encode() in file.read_bytes()]
    assert not [pid for pid in below(1) if TOKEN in title(pid)]
