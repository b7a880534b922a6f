"""A Ray cluster on this machine: a head that takes no trials, and raylets that come and go as machines would.

Every node is a `ray start --block` with ports and a temporary folder of its own, because nodes that share a
folder delete each other's files of jobs. What is killed with a node is what a machine would take with it; the
file system is shared, as the checkpoints of a study must be.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.ports import free_port
from tests.study.front_door import below

PATIENCE = 900.0  # seconds; a machine may be busy
BIN = Path(sys.executable).parent


class Nodes:
    """The nodes of one cluster, by the process that started each."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        # A job finds its python and a driver the cluster's address where `ray start` ran.
        self._environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_TMPDIR": str(folder)} | variables
        self._processes: list[subprocess.Popen[bytes]] = []
        self._gcs, dashboard = free_port(), free_port()
        self.jobs = f"http://127.0.0.1:{dashboard}"
        self._start("--head", f"--port={self._gcs}", f"--dashboard-port={dashboard}", "--num-cpus=0")
        self._wait_for(f"{self.jobs}/api/gcs_healthz")

    def add(self, *options: str) -> "subprocess.Popen[bytes]":
        """Let a node join that takes one trial at a time."""
        return self._start(f"--address=127.0.0.1:{self._gcs}", "--num-cpus=1", *options)

    def joined(self) -> int:
        """How many nodes have ever joined, the head among them."""
        assert all(node.poll() is None for node in self._processes), self.log()
        return self.log().count("Ray runtime started")

    def kill(self, node: "subprocess.Popen[bytes]") -> None:
        """Take a node away with everything that runs on it, at once."""
        for pid in (node.pid, *below(node.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()
        self._processes.remove(node)

    def kill_all(self) -> None:
        """End the cluster."""
        for node in list(reversed(self._processes)):
            self.kill(node)

    def files(self) -> list[Path]:
        """All that the nodes have written, the logs of jobs among it."""
        return [file for file in self._folder.rglob("*") if file.is_file()]

    def log(self) -> str:
        """What the nodes have said."""
        return "\n".join(file.read_text() for file in sorted(self._folder.glob("*.log")))

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        name = f"n{len(list(self._folder.glob('*.log')))}"
        command = [BIN / "ray", "start", "--block", "--disable-usage-stats", "--object-store-memory=100000000"]
        ports = [f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={self._folder / name}", *options]
        with (self._folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [*command, *ports], stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        self._processes.append(process)
        return process

    def _wait_for(self, address: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)


@contextmanager
def cluster(**variables: str) -> Iterator[Nodes]:
    """A cluster with nothing but its head; `variables` are of the environment of every node."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kn-", dir="/tmp", ignore_cleanup_errors=True))
        nodes = Nodes(Path(folder), variables)
        stack.callback(nodes.kill_all)
        yield nodes


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5):
            return True
    except (URLError, OSError):
        return False
