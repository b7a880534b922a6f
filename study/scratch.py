"""Folders for what need not outlive its process, also when that process is killed.

Such a folder holds a lock for as long as its process lives. Whoever makes the next one on that machine removes
those that nobody holds any more.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GRACE = 600.0  # seconds before the folder of a process that is gone is removed


@contextmanager
def scratch_folder(prefix: str, *, root: Path | None = None) -> Iterator[Path]:
    """A folder below `root`, the machine's folder for temporary files where none is given."""
    root = root or Path(tempfile.gettempdir())
    for old in root.glob(f"{prefix}*"):
        with suppress(OSError):
            if _is_left(old):
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    """Whether nobody has held a folder for long; one without a lock was filled again by who ended after its holder."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            since = (folder / "lock").stat().st_mtime
    except FileNotFoundError:
        since = folder.stat().st_mtime
    return time.time() - since > _GRACE
