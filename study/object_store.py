"""Checkpoints at a URL, for nodes that share no folder: whatever fsspec reaches, such as s3://bucket/prefix.

    URL/trials/ARM/3/0/last.pt       below a trial's folder, each attempt has a folder of its own
    URL/trials/ARM/3/1/best.pt       the latest attempt that has a file is the one that counts
    URL/ranks/ARM-0.parquet

An attempt begins by taking over what the attempts before it have sent, and then writes to its own folder alone: a
predecessor whose node was only cut off may go on sending, and disturbs nobody. An object is there whole or not at
all; other file systems are written beside and renamed.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec

from kge.fitting import BEST, LAST
from study.errors import UserError, WorldError, named

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"  # the name of the URL in what is recorded of a study's surroundings
PATIENCE = 120.0  # seconds that a store may be away before an attempt is given up, to be made again
_PAUSE = 2.0  # seconds between two tries
_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"}  # protocols whose objects appear whole
_FINAL = (FileNotFoundError, PermissionError, ImportError, ValueError)  # nothing that time heals

T = TypeVar("T")


@dataclass(frozen=True)
class ObjectStore:
    """What a study keeps below a URL. Paths are relative to its folder there, as below its folder here."""

    url: str

    def check(self, *, new: bool) -> None:
        """UserError when nothing can be written there, or when a new study would find the files of another one."""
        try:
            files, root = self._reached()
            if new and _names(files, root):
                raise UserError(f"{self._where}: must be empty when a study begins, or it would go on with other files")
            _check_replacing(files, f"{root}/.written-{uuid4().hex}", self._where)
        except UserError:
            raise
        except ImportError as error:
            package = "kge-study[s3]" if urlsplit(self.url).scheme in {"s3", "s3a"} else "the package of such URLs"
            raise UserError(f"{self._where}: must have {package} installed, got {named(error)}") from None
        except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
            raise UserError(f"{self._where}: must be a place to write to, got {named(error)}") from None

    def take_over(self, folder: Path, *, attempt: int, to: Path) -> None:
        """Fetch the checkpoints that an attempt goes on from: the last ones of the attempts before it."""

        def take() -> None:
            before = {number: names for number, names in self._attempts(folder).items() if number < attempt}
            latest = _latest(before, LAST)
            if latest is None:
                return
            for name in (LAST, BEST):  # in this order, one that is still written is no older than the training
                if name in before[latest]:
                    self._get(folder / str(latest) / name, to / name)

        self._patiently(take)

    def fetch_best(self, folder: Path, to: Path) -> None:
        """Fetch the best checkpoint of a training; WorldError when there is none."""

        def fetch() -> None:
            latest = _latest(self._attempts(folder), BEST)
            if latest is None:
                raise FileNotFoundError(f"no {BEST} in {folder}")
            self._get(folder / str(latest) / BEST, to)

        self._patiently(fetch)

    def fetch(self, path: Path, to: Path) -> None:
        """Fetch a file."""
        self._patiently(lambda: self._get(path, to))

    def send(self, file: Path, path: Path) -> None:
        """Send a file; when this returns, it is there whole."""
        self._patiently(lambda: self._put(file, path))

    def forget(self, folder: Path) -> None:
        """Delete all that is there of a training that has ended, but for its best checkpoint."""
        attempts = self._attempts(folder)
        latest = _latest(attempts, BEST)
        files, root = self._reached()
        for number, names in attempts.items():
            for name in names - ({BEST} if number == latest else set()):
                files.rm_file(f"{root}/{(folder / str(number) / name).as_posix()}")

    @property
    def _where(self) -> str:
        return f"checkpoints at {self.url}"

    def _attempts(self, folder: Path) -> dict[int, set[str]]:
        """The names of files by attempt."""
        files, root = self._reached()
        found: dict[int, set[str]] = {}
        for name in _names(files, f"{root}/{folder.as_posix()}"):
            path = PurePosixPath(name)
            if path.parent.name.isdigit():
                found.setdefault(int(path.parent.name), set()).add(path.name)
        return found

    def _get(self, path: Path, to: Path) -> None:
        files, root = self._reached()
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = to.with_name(f".{to.name}.{uuid4().hex}")
        try:
            files.get_file(f"{root}/{path.as_posix()}", str(beside))
            beside.replace(to)
        finally:
            beside.unlink(missing_ok=True)

    def _put(self, file: Path, path: Path) -> None:
        files, root = self._reached()
        _write(files, f"{root}/{path.as_posix()}", lambda to: files.put_file(str(file), to))

    def _reached(self) -> tuple[Any, str]:
        """The file system, which fsspec keeps for the next call, and the root in it; nothing listed is remembered."""
        files, root = fsspec.core.url_to_fs(self.url)
        files.invalidate_cache()
        return files, str(root).rstrip("/")

    def _patiently(self, act: Callable[[], T]) -> T:
        """Try until it is done; WorldError when the store has been away for too long."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
                if time.monotonic() > deadline or isinstance(error, _FINAL):
                    raise WorldError(f"{self._where}: must be there, got {named(error)}") from None
                log.warning("%s: %s", self._where, named(error))
            time.sleep(_PAUSE)


class Sender:
    """Sends the checkpoints of one attempt whenever they have changed."""

    def __init__(self, store: ObjectStore, folder: Path, *, attempt: int, directory: Path) -> None:
        self._store = store
        self._folder = folder / str(attempt)
        self._directory = directory
        self._sent: dict[str, tuple[int, int]] = {}

    def send(self) -> None:
        """The best last, as it was saved: after a death in between the next attempt makes it of the other."""
        for name in (LAST, BEST):
            file = self._directory / name
            if not file.is_file():
                continue
            state = file.stat()
            version = (state.st_ino, state.st_mtime_ns)
            if self._sent.get(name) != version:
                self._store.send(file, self._folder / name)
                self._sent[name] = version


@contextmanager
def forgetting(store: ObjectStore, folder: Path) -> Iterator[Callable[[Path], object]]:
    """A way to forget trainings below a study's folder that waits for nothing; what fails, the next driver does."""

    def forget(directory: Path) -> None:
        try:
            store.forget(directory.relative_to(folder))
        except Exception as error:  # noqa: BLE001 (it is tidying up, whatever went wrong)
            log.warning("checkpoints of %s stay: %s", directory, named(error))

    pool = ThreadPoolExecutor(4, thread_name_prefix="forget")
    try:
        yield lambda directory: pool.submit(forget, directory)
    finally:
        pool.shutdown(cancel_futures=True)


def remote_of(environment: Mapping[str, str]) -> ObjectStore | None:
    """Where a study keeps its checkpoints by what is recorded of its surroundings; None: in its folder."""
    url = environment.get(CHECKPOINTS)
    return ObjectStore(url) if url else None


def study_url(url: str, study: str) -> str:
    """Where a study keeps its checkpoints below a URL for studies; UserError where this can be no such place."""
    parts = urlsplit(url)
    if parts.password is not None or parts.query:
        raise UserError(
            "--checkpoints: must hold neither a password nor a query, because it is written down with the study;"
            " credentials are found as the file system's own tools find them"
        )
    if not parts.scheme or parts.scheme not in fsspec.available_protocols():
        known = "such as s3://bucket/prefix or file:///shared/folder"
        raise UserError(f"--checkpoints: must be a URL {known}, got {url!r}")
    if parts.scheme in {"file", "local"} and (parts.netloc or not parts.path.startswith("/")):
        raise UserError(f"--checkpoints: must be an absolute path such as file:///shared/folder, got {url!r}")
    if parts.scheme == "memory":
        raise UserError("--checkpoints: must be a place that all nodes reach, every process has a memory:// of its own")
    return f"{url.rstrip('/')}/{study}"


def _names(files: Any, root: str) -> list[str]:
    try:
        return list(files.find(root))
    except FileNotFoundError:
        return []


def _latest(attempts: Mapping[int, Iterable[str]], name: str) -> int | None:
    return max((number for number, names in attempts.items() if name in names), default=None)


def _is_whole(files: Any) -> bool:
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    return not protocols.isdisjoint(_WHOLE)


def _make(files: Any, folder: str) -> None:
    """A folder; where there are none but in names, to ask for one might make a bucket."""
    if not _is_whole(files):
        files.makedirs(folder, exist_ok=True)


def _write(files: Any, target: str, write: Callable[[str], object]) -> None:
    """A file that is there whole or not at all, in the place of one that was there."""
    folder, _, name = target.rpartition("/")
    beside = target if _is_whole(files) else f"{folder}/.{name}.{uuid4().hex}"
    _make(files, folder)
    write(beside)
    if beside != target:
        files.mv(beside, target)


def _check_replacing(files: Any, folder: str, where: str) -> None:
    """UserError where a file stays although another was written in its place: a training would go back to it."""
    file = f"{folder}/file"
    _write(files, file, lambda to: files.pipe_file(to, b"first"))
    _write(files, file, lambda to: files.pipe_file(to, b"second"))
    found = files.cat_file(file)
    files.rm(folder, recursive=True)
    if found != b"second":
        raise UserError(f"{where}: must let a file replace the one before it, got {found.decode()!r} after 'second'")
