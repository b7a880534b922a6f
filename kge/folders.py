"""Folders of triples: train, valid and test as text, one triple a line, perhaps compressed."""

import codecs
import gzip
import io
import shlex
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from kge import columns
from kge.data import SPLITS, Dataset, Named, from_names
from kge.errors import DataError

_SUFFIXES = (".tsv", ".txt", ".tsv.gz", ".txt.gz")
_LEVEL = 6  # of compression: the default of gzip, not that of Python
_WRITTEN = 2**16  # triples written at once


def read_folder(folder: Path) -> Dataset:
    """Read `train`, `valid` and `test` (.tsv, .txt, or either with .gz) of a folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder with train, valid and test files, but it does not exist")
    order = columns.declared(folder)
    named = {split: read_triples(find_split(folder, split), order or columns.STANDARD) for split in SPLITS}
    dataset = from_names(folder.resolve().name, named)
    if order is None:
        _check_order(dataset, folder)
    return dataset


def write_folder(dataset: Dataset, folder: Path) -> None:
    """Write a graph so that `read_folder` reads it again; the folder must not exist yet."""
    names, relations = dataset.entities, dataset.relations
    end = "\r\n" if any(name.endswith("\r") for name in names) else "\n"  # of a line's end, one of these is its name's
    folder.mkdir()
    columns.declare(folder, columns.STANDARD)
    for split in SPLITS:
        with gzip.open(folder / f"{split}.tsv.gz", "wt", compresslevel=_LEVEL, encoding="utf-8", newline="") as file:
            for part in dataset.split(split).split(_WRITTEN):
                rows = ((names[h], relations[r], names[t]) for h, r, t in part.tolist())
                file.write("".join("\t".join(row) + end for row in rows))


def _check_order(dataset: Dataset, folder: Path) -> None:
    """DataError when the files look as if their columns stood in another order than they are read in."""
    ids = torch.cat([dataset.split(split) for split in SPLITS]).T
    vocabularies = (dataset.entities, dataset.relations, dataset.entities)
    found = columns.suspect(
        [{names[i] for i in torch.unique(column).tolist()} for names, column in zip(vocabularies, ids, strict=True)]
    )
    if found is not None:
        looks = f"column {found.position + 1} looks like the relation ({found.reason})"
        command = f"kge data columns {shlex.quote(str(folder))}"
        say = f"say which it is: {command} {' '.join(found.order)}, or {' '.join(columns.STANDARD)}"
        raise DataError(f"{find_split(folder, 'train')}: must be head<TAB>relation<TAB>tail, but {looks}; {say}")


def find_split(folder: Path, split: str) -> Path:
    """The one file of a split; DataError when it is missing or ambiguous."""
    found = [path for suffix in _SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
    if len(found) != 1:
        names = ", ".join(f"{split}{suffix}" for suffix in _SUFFIXES)
        came = "none" if not found else " and ".join(path.name for path in found)
        raise DataError(f"{folder}: must hold exactly one of {names}, got {came}")
    return found[0]


def read_triples(path: Path, order: Sequence[str] = columns.STANDARD) -> Iterator[Named]:
    """Yield the triples of a file, a line each with the columns in this order; DataError names file:line."""
    head, relation, tail = (order.index(column) for column in columns.STANDARD)
    number = 0
    for number, fields in read_fields(path):
        if len(fields) != 3 or not all(fields):
            must, came = "<TAB>".join(order), "\t".join(fields)
            raise DataError(f"{path}:{number}: must be {must}, got {len(fields)} field(s): {came!r:.80}")
        triple = fields[head], fields[relation], fields[tail]
        if number == 1 and columns.is_header(triple):
            raise DataError(f"{path}:1: must be a triple, got a header: {chr(9).join(fields)!r:.80}; take the line out")
        yield triple
    if not number:
        raise DataError(f"{path}: must hold at least one triple, got an empty file")


def read_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the tab-separated fields of each line of a file; DataError names file:line."""
    for number, line in enumerate(io.BytesIO(read_bytes(path).removeprefix(codecs.BOM_UTF8)), start=1):
        try:
            yield number, line.removesuffix(b"\n").decode().removesuffix("\r").split("\t")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: must be UTF-8 text, got {error.reason}") from None


def read_bytes(path: Path) -> bytes:
    """Uncompressed content of a file; DataError when it is missing or not a whole gzip file."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"{path}: must be a text file, but it does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path}: must be a text file, got a folder") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: must be a whole gzip file, got {error}") from None
