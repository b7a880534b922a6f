"""Data sets by name: where they come from, what they must hash to, and where they are kept.

A named data set is looked for in the folder that the environment variable KGE_DATA_DIR names, then in
the cache (KGE_CACHE_DIR, default ~/.cache/kge-study), then downloaded. Every file's uncompressed bytes
must have the recorded sha256, wherever they came from. `synthetic` is made, not stored (kge.synthetic).
"""

import difflib
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kge import synthetic
from kge.data import SPLITS, Dataset, find_split, from_names, read_bytes, read_folder
from kge.errors import DataError
from kge.files import write_atomically

_UPSTREAM = (
    "https://raw.githubusercontent.com/villmow/datasets_knowledge_embedding/9e392453d6804d1f51c13e5650ae58ed48b638d5"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Upstream folder of a data set and the sha256 of each split's uncompressed file."""

    url: str
    sha256: Mapping[str, str]


SOURCES: Mapping[str, Source] = {
    "fb15k-237": Source(
        url=f"{_UPSTREAM}/FB15k-237",
        sha256={
            "train": "61099230e4439f90885ca9767739e31e8e32f54736fa1c35952b27997bc7c08a",
            "valid": "749cbe9d923bac7b9354da5614ecfed2e0220256d442c3e04a6b303db1f273d9",
            "test": "e2e35e8e6113de220140b6f44dc71a5207b0fc6872d575e874aefe13259b655b",
        },
    ),
    "wn18rr": Source(
        url=f"{_UPSTREAM}/WN18RR/original",
        sha256={
            "train": "038612e783c215ee5f3ca9fbfca27b8d0739be1028fe4ee7c174aecf0b83d5df",
            "valid": "453ce7202afa58094a04d2b1560ee2b02660f1c260b32ce6651c8ccedd1028ab",
            "test": "0383bceaaa1096cf3c03ec021ed0048068e2355dbfc0239b292cefdac821cec5",
        },
    ),
}
NAMES = (*SOURCES, synthetic.NAME)


def load(name: str) -> Dataset:
    """Load a data set by catalog name or folder; DataError when it cannot be had or does not verify."""
    if name == synthetic.NAME:
        return from_names(name, synthetic.triples())
    if name in SOURCES:
        return replace(read_folder(fetch(name)), name=name)
    if Path(name).is_dir():
        return read_folder(Path(name))
    raise DataError(unknown_dataset(name))


def unknown_dataset(name: str) -> str:
    """The sentence for a name that is neither in the catalog nor a folder."""
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown dataset {name!r}: must be a folder or one of {', '.join(NAMES)}{hint}"


def fetch(name: str) -> Path:
    """Folder with the verified files of a named data set, downloaded when it is nowhere here."""
    source = SOURCES[name]
    for folder in _local_folders(name):
        if folder.is_dir():
            for split in SPLITS:
                _verify(find_split(folder, split), source.sha256[split])
            return folder
    contents = {split: _download(f"{source.url}/{split}.txt", source.sha256[split]) for split in SPLITS}
    folder = _cache() / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        write_atomically(folder / f"{split}.txt", content)
    return folder


def _local_folders(name: str) -> list[Path]:
    offline = os.environ.get("KGE_DATA_DIR")
    return ([Path(offline) / name] if offline else []) + ([_cache() / name] if _complete(_cache() / name) else [])


def _complete(folder: Path) -> bool:
    return all((folder / f"{split}.txt").is_file() for split in SPLITS)


def _cache() -> Path:
    return Path(os.environ.get("KGE_CACHE_DIR") or Path.home() / ".cache" / "kge-study")


def _verify(path: Path, expected: str) -> None:
    came = hashlib.sha256(read_bytes(path)).hexdigest()
    if came != expected:
        raise DataError(f"{path}: sha256 of the uncompressed file must be {expected}, got {came}")


def _download(url: str, expected: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content: bytes = response.read()
    except (urllib.error.URLError, TimeoutError) as error:
        hint = "put the files into a folder and name it in KGE_DATA_DIR"
        raise DataError(f"{url}: cannot be downloaded ({error}); {hint}") from None
    came = hashlib.sha256(content).hexdigest()
    if came != expected:
        raise DataError(f"{url}: sha256 must be {expected}, got {came}")
    return content
