"""Commands in shells that know a cluster's job server and nothing else."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.nodes import PATIENCE, Nodes
from tests.study.front_door import Driver


def shell(nodes: Nodes, folder: Path, *arguments: str) -> Driver:
    """A command that has the address and nothing else."""
    count = len(list(folder.glob("said-*")))
    command = [sys.executable, "-m", "study.cli", *arguments, "--address", nodes.jobs]
    return Driver(command, os.environ, folder / f"said-{count}")


def finished(command: Driver) -> tuple[int, str]:
    return command.wait(PATIENCE), command.said()


def until(happened: Callable[[], object], nodes: Nodes, folder: Path, *, living: Driver | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        said = "\n".join(file.read_text() for file in sorted(folder.glob("said-*")))
        assert living is None or living.poll() is None, said
        assert time.monotonic() < deadline, said + nodes.log()
        time.sleep(0.1)
