"""Processes that do one case in one library, and are asked for batches. See turns."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 900.0  # seconds for one answer
OURS, BF16, PYKEEN, LIBKGE, TORCH = "ours", "ours, bfloat16", "PyKEEN", "LibKGE", "import torch"
CHECKOUT = "kge/config-default.yaml"  # what only LibKGE has


class FailedError(Exception):
    """A worker ended, or did not answer."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A library and the interpreter that has it."""

    name: str
    python: str
    module: str
    path: tuple[Path, ...] = (ROOT,)  # PYTHONPATH
    version: str = ""

    def start(self, job: Mapping[str, Any], folder: Path) -> "Worker":
        """A worker in a folder of its own."""
        return Worker(self, job, folder)


CEILINGS = System(name="ceilings", python=sys.executable, module="benchmarks.peers.ceilings")


class Worker:
    """A process; its errors are kept in a file beside."""

    def __init__(self, system: System, job: Mapping[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        threads = str(job["threads"])
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
        limits = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
        self._errors = folder / "errors.txt"
        self.started = time.perf_counter()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [system.python, "-m", system.module, json.dumps(job)],
                cwd=folder,  # not the checkout, whose kge would hide LibKGE's
                env={**inherited, **limits, "PYTHONPATH": os.pathsep.join(map(str, system.path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> Any:
        """The next answer."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()  # it would go on beside the others
            raise FailedError(f"no answer within {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            said = self._errors.read_text(errors="replace").splitlines()
            raise FailedError(said[-1] if said else f"ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, **question: object) -> Any:
        """A question and its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are read next
        return self.answer()


def ours() -> System:
    """This checkout."""
    return System(name=OURS, python=sys.executable, module="benchmarks.peers.ours")


def pykeen(named: str | None) -> System | None:
    """PyKEEN of the interpreter that is named, of `make test-peer`, or of this one."""
    known = [_interpreter(named)] if named else [str(ROOT / ".venv-peer/bin/python"), sys.executable]
    for python in known:
        version = _said(python, "import pykeen; print(pykeen.get_version())")
        if version is not None:
            return System(name=PYKEEN, python=python, module="benchmarks.peers.pykeen_side", version=version)
    if named:
        raise click.BadParameter(f"--pykeen: must be a python that has PyKEEN, got {named!r}")
    return None


def libkge(path: Path | None, python: str) -> System | None:
    """The checkout that is named."""
    if path is None:
        return None
    if not (path / CHECKOUT).is_file():
        raise click.BadParameter(f"--libkge: must be a checkout of LibKGE ({CHECKOUT} in it), got {str(path)!r}")
    path = path.absolute()
    return System(name=LIBKGE, python=_interpreter(python), module="benchmarks.peers.libkge_side", path=(path, ROOT))


def _interpreter(name: str) -> str:
    """From any folder; a link stays one, because it is how an environment knows itself."""
    return str(Path(name).absolute()) if os.sep in name else name


def _said(python: str, code: str) -> str | None:
    try:
        ran = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd="/")
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip().splitlines()[-1]


def import_torch(threads: int) -> tuple[float, float]:
    """Wall and CPU seconds of a process that imports torch and ends: no start is shorter."""
    began = time.perf_counter()
    command: Sequence[str] = [sys.executable, "-c", "import time, torch; print(time.process_time())"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", env=environment)
    return time.perf_counter() - began, float(ran.stdout)
