"""Files taken out of an archive, one by one and under names of our own.

Nothing is unpacked: a member's path is compared and never written to, so `../` and links lead nowhere.
"""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from kge.errors import DataError
from kge.files import replacing

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


def extract(archive: Path, wanted: Mapping[str, Path], *, where: str) -> None:
    """Write each file that `wanted` names to its path; DataError unless the archive holds it exactly once."""
    found: set[str] = set()
    try:
        for name, content in _regular_files(archive):
            if name in found:
                raise DataError(f"{where}: must hold one file named {name}, got two")
            if name in wanted:
                with content() as source, replacing(wanted[name]) as target:
                    shutil.copyfileobj(source, target)
                found.add(name)
    except _DAMAGED as error:
        raise DataError(f"{where}: must be a whole .tar.gz or .zip, got {str(error).splitlines()[0]}") from None
    missing = sorted(wanted.keys() - found)
    if missing:
        raise DataError(f"{where}: must hold {', '.join(wanted)}, got none named {missing[0]}")


def _regular_files(archive: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Last part of the name of every plain file, and how to read it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                if not member.is_dir():
                    yield PurePosixPath(member.filename).name, partial(zipped.open, member)
        return
    with tarfile.open(archive) as tape:
        for entry in tape:
            if entry.isfile():
                yield PurePosixPath(entry.name).name, partial(tape.extractfile, entry)
