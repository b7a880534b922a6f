"""A file from an address to a place; stderr says what is fetched, and on a terminal how much of it has come."""

import http.client
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kge import terminal
from kge.errors import DownloadError

_BLOCK = 2**16  # bytes that are read at once
_EVERY = 0.25  # seconds between two looks


def download(address: str, path: Path) -> None:
    """Fetch a file; DownloadError says what to do where it cannot be had."""
    try:
        with urllib.request.urlopen(address, timeout=60) as response, path.open("wb") as file:
            size = response.headers["Content-Length"]
            with _progress(address, int(size) if size else None) as progress:
                while block := response.read(_BLOCK):
                    file.write(block)
                    progress.add(len(block))
    except (OSError, http.client.HTTPException) as error:
        hint = "put the files into a folder and name it in KGE_DATA_DIR"
        raise DownloadError(f"{address}: cannot be downloaded ({error}); {hint}") from None


class _Progress:
    """The line on a terminal that says how much has come."""

    def __init__(self, total: int | None) -> None:
        self._of = "" if total is None else f" of {total / 1e6:.2f}"
        self._came = 0
        self._shown = -_EVERY

    def add(self, size: int) -> None:
        """So many bytes more have come."""
        self._came += size
        if time.monotonic() - self._shown >= _EVERY:
            self.show()

    def show(self) -> None:
        """Write the line over the one before."""
        self._shown = time.monotonic()
        terminal.show(f"{self._came / 1e6:.2f}{self._of} MB")


@contextmanager
def _progress(address: str, total: int | None) -> Iterator[_Progress]:
    progress = _Progress(total)
    sys.stderr.write(f"downloading {address}{'' if total is None else f', {total / 1e6:.2f} MB'}\n")
    try:
        yield progress
    finally:
        progress.show()
        if sys.stderr.isatty():
            sys.stderr.write("\n")
