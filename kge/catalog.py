"""Data sets by name: looked for here, downloaded once, verified always.

A named data set is looked for in the folder that the environment variable KGE_DATA_DIR names, then in
the cache (KGE_CACHE_DIR, default ~/.cache/kge-study), then downloaded. Every file's uncompressed bytes
must have the recorded sha256, wherever they came from; where none is recorded (kge.sources) the number of
lines must be the published one, and the sha256 that came is kept in SHA256SUMS beside the files. `synthetic`
is made, not stored (kge.synthetic).
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kge import synthetic
from kge.archives import extract
from kge.data import SPLITS, Dataset, from_names
from kge.downloads import download
from kge.errors import DataError
from kge.files import is_writable, write_atomically
from kge.folders import find_split, read_bytes, read_folder
from kge.labels import NO_LABELS, Labels, read_labels
from kge.names import nearest
from kge.sources import SOURCES, Source

NAMES = (*SOURCES, synthetic.NAME)
SUMS = "SHA256SUMS"
_SUM = re.compile(r"(?P<sum>[0-9a-fA-F]{64}) [ *](?P<name>.+)")  # of sha256sum, text or binary


def load(name: str) -> Dataset:
    """Load a data set by catalog name or folder; DataError when there is none or it does not verify.

    DownloadError when it has to be fetched and cannot be.
    """
    if name == synthetic.NAME:
        return from_names(name, synthetic.triples())
    if name in SOURCES:
        return replace(read_folder(fetch(name)), name=name)
    return read_folder(_folder(name))


def labels_of(name: str) -> Labels:
    """The readable names that lie beside a data set, by catalog name or folder; mostly none."""
    if name == synthetic.NAME:
        return NO_LABELS
    return read_labels(fetch(name) if name in SOURCES else _folder(name))


def unknown_dataset(name: str) -> str:
    """The sentence for a name that is neither in the catalog nor a folder."""
    if Path(name).is_file():
        return f"{name}: must be a folder with train, valid and test files, got a file"
    close = nearest(name, NAMES)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"unknown dataset {name!r}: must be a folder or one of {', '.join(NAMES)}{hint}"


def is_here(name: str) -> bool:
    """True when a data set needs no download."""
    return name not in SOURCES or any(folder.is_dir() for folder in _local_folders(name))


def fetch(name: str) -> Path:
    """Folder with the verified files of a named data set, downloaded when it is nowhere here."""
    source = SOURCES[name]
    for folder in _local_folders(name):
        if folder.is_dir():
            sums = recorded(folder)
            for split in SPLITS:
                path = find_split(folder, split)
                _verify(path, source, split, sums.get(path.name), where=str(path))
            return folder
    return _download(source, _cache() / name)


def recorded(folder: Path) -> Mapping[str, str]:
    """sha256 by file name, as SHA256SUMS in the folder has them; none without it, DataError for a line that is none."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        match = _SUM.fullmatch(line)
        if match is None:
            raise DataError(
                f"{path}:{number}: must be a line of sha256sum, 64 digits and a file's name, got {line[:80]!r}"
            )
        sums[match["name"]] = match["sum"].lower()
    return sums


def checksums(folder: Path) -> Mapping[str, str]:
    """sha256 of the uncompressed file of each split."""
    return {split: hashlib.sha256(read_bytes(find_split(folder, split))).hexdigest() for split in SPLITS}


def _folder(name: str) -> Path:
    if not Path(name).is_dir():
        raise DataError(unknown_dataset(name))
    return Path(name)


def _local_folders(name: str) -> list[Path]:
    offline = os.environ.get("KGE_DATA_DIR")
    return ([Path(offline) / name] if offline else []) + ([_cache() / name] if _complete(_cache() / name) else [])


def _complete(folder: Path) -> bool:
    return all((folder / f"{split}.txt").is_file() for split in SPLITS)


def _cache() -> Path:
    return Path(os.environ.get("KGE_CACHE_DIR") or Path.home() / ".cache" / "kge-study")


def _verify(path: Path, source: Source, split: str, kept: str | None, *, where: str) -> str:
    """The sha256 of a file's uncompressed bytes; DataError when it is not the known one, or not the one kept."""
    content = read_bytes(path)
    came = hashlib.sha256(content).hexdigest()
    if split in source.sha256:
        if came != source.sha256[split]:
            raise DataError(f"{where}: sha256 of the uncompressed file must be {source.sha256[split]}, got {came}")
        return came
    if kept is not None and (now := hashlib.sha256(path.read_bytes()).hexdigest()) != kept:
        raise DataError(f"{where}: must be as it was fetched, sha256 {kept} ({SUMS} beside it), got {now}")
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    if lines != source.triples[split]:
        raise DataError(f"{where}: must have {source.triples[split]} lines, as published, got {lines}")
    return came


def _download(source: Source, folder: Path) -> Path:
    """Fetch to a place beside, verify, and only then move the files to where they are looked for."""
    if not is_writable(folder.parent):
        raise DataError(f"KGE_CACHE_DIR: must be a folder that can be written, got {folder.parent}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        files = {split: Path(beside) / f"{split}.txt" for split in SPLITS}
        if source.archive is None:
            for split, path in files.items():
                download(source.files[split], path)
        else:
            archive = Path(beside) / "archive"
            download(source.archive, archive)
            extract(archive, {source.files[split]: path for split, path in files.items()}, where=source.archive)
        where = {split: source.files[split] if source.archive is None else source.archive for split in SPLITS}
        sums = {split: _verify(path, source, split, None, where=where[split]) for split, path in files.items()}
        folder.mkdir(exist_ok=True)
        write_atomically(folder / SUMS, "".join(f"{came}  {split}.txt\n" for split, came in sums.items()).encode())
        for path in files.values():
            path.replace(folder / path.name)
    return folder
