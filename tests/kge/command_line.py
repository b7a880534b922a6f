"""What the tests of the `kge` command share; the fixture is in conftest."""

import os
import pty
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import FileIO
from typing import NamedTuple

import pytest

CONFIG = """
dataset: {dataset}
model: {{name: complex, dim: 8}}
loss: {{name: sce}}
training: {{batch_size: 16, max_epochs: 3}}
validation: {{every: 1}}
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Kge = Callable[..., Ran]


ERASED = "\r\x1b[K"  # what stands before a line that replaces another


def shown_on_terminal(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> str:
    """What is written to stderr where that is a terminal."""
    screen, end = pty.openpty()
    with os.fdopen(screen, "rb", buffering=0) as shown:
        with os.fdopen(end, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            act()
        return b"".join(_until_closed(shown)).decode()


def _until_closed(screen: FileIO) -> Iterator[bytes]:
    """What was written to a terminal that nobody holds open any more; to read behind it fails."""
    with suppress(OSError):
        while piece := screen.read(10_000):
            yield piece
