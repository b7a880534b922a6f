"""Whole files or none: written beside, flushed to disk, renamed. Folders that one process at a time writes to."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well, and leaves no trace otherwise."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Put the names of a folder's files on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_half_written(folder: Path, pattern: str) -> None:
    """Remove what `replacing` was writing in place of such files when its process was killed; nobody may write now."""
    for beside in folder.glob(f".{pattern}.*"):
        beside.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file."""
    with replacing(path) as file:
        file.write(content)


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_writable(folder: Path) -> bool:
    """Can files be written into a folder, which may have to be made? Leaves nothing.

    It is tried with a file that has no name: to root, permissions say yes even of /proc.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if os.access(each, os.F_OK))
    try:
        with TemporaryFile(dir=there):
            return os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return False


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be; BlockingIOError while another process does. Leaves nothing of its own."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(lock.fileno())):
            raise BlockingIOError  # of one that let go of it just now
        try:
            yield
        finally:
            path.unlink()
            with suppress(OSError):  # not empty, as a rule
                for each in made:
                    each.rmdir()
