"""A graph as id triples per split, with its vocabularies.

Shapes  N triples; a triple is a row (head, relation, tail) of int64 ids.
Ids are positions in the sorted vocabularies of all splits, so they do not depend on the order of lines
or files. Entities that training never saw stay: leaving them out flatters results (WN18RR: 3 points of MRR).
"""

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from kge.errors import DataError

Triples = Int[Tensor, "N 3"]
Named = tuple[str, str, str]

SPLITS = ("train", "valid", "test")
_SUFFIXES = (".tsv", ".txt", ".tsv.gz", ".txt.gz")


class Side(StrEnum):
    """Which slot of a triple is asked for."""

    HEAD = "head"
    TAIL = "tail"

    def anchors(self, triples: Triples) -> Int[Tensor, " N"]:
        """Ids of the known entity of each query: the head when the tail is asked for."""
        return triples[:, 0 if self is Side.TAIL else 2]

    def answers(self, triples: Triples) -> Int[Tensor, " N"]:
        """Ids of the entity that is asked for."""
        return triples[:, 2 if self is Side.TAIL else 0]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A graph and its splits; `test` is None when sealed."""

    name: str
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    train: Int[Tensor, "train 3"]
    valid: Int[Tensor, "valid 3"]
    test: Int[Tensor, "test 3"] | None
    fingerprint: str  # sha256 over the sorted triples of each split: independent of line order

    @property
    def num_entities(self) -> int:
        """E, those that only valid or test hold included."""
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        """R, without reciprocal relations."""
        return len(self.relations)

    def sealed(self) -> "Dataset":
        """The same graph without its test triples."""
        return replace(self, test=None)

    def split(self, name: str) -> Triples:
        """Triples of a split by name; DataError when it is sealed or unknown."""
        if name not in SPLITS:
            raise DataError(f"split: must be one of {', '.join(SPLITS)}, got {name!r}")
        triples: Tensor | None = getattr(self, name)
        if triples is None:
            raise DataError(f"{self.name}: the {name} split is sealed")
        return triples


def read_folder(folder: Path) -> Dataset:
    """Read `train`, `valid` and `test` (.tsv, .txt, or either with .gz) of a folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder with train, valid and test files, but it does not exist")
    named = {split: list(read_triples(find_split(folder, split))) for split in SPLITS}
    return from_names(folder.resolve().name, named)


def find_split(folder: Path, split: str) -> Path:
    """The one file of a split; DataError when it is missing or ambiguous."""
    found = [path for suffix in _SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
    names = ", ".join(f"{split}{suffix}" for suffix in _SUFFIXES)
    if len(found) != 1:
        came = "none" if not found else " and ".join(path.name for path in found)
        raise DataError(f"{folder}: must hold exactly one of {names}, got {came}")
    return found[0]


def read_triples(path: Path) -> Iterator[Named]:
    """Yield the triples of a file, `head<TAB>relation<TAB>tail` a line; DataError names file:line."""
    lines = read_bytes(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: must hold at least one triple, got an empty file")
    for number, line in enumerate(lines, start=1):
        try:
            fields = line.decode().removesuffix("\r").split("\t")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: must be UTF-8 text, got {error.reason}") from None
        if len(fields) != 3 or not all(fields):
            came = f"{len(fields)} field(s): {line.decode()!r:.80}"
            raise DataError(f"{path}:{number}: must be head<TAB>relation<TAB>tail, got {came}")
        yield fields[0], fields[1], fields[2]


def read_bytes(path: Path) -> bytes:
    """Uncompressed content of a file; DataError when it is missing or not a whole gzip file."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"{path}: must be a file of triples, but it does not exist") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: must be a whole gzip file, got {error}") from None


def from_names(name: str, named: Mapping[str, list[Named]]) -> Dataset:
    """Build a data set from triples of names per split (`train`, `valid`, `test`)."""
    every = [triple for split in SPLITS for triple in named[split]]
    entities = sorted({entity for head, _, tail in every for entity in (head, tail)})
    relations = sorted({relation for _, relation, _ in every})
    entity_id = {entity: position for position, entity in enumerate(entities)}
    relation_id = {relation: position for position, relation in enumerate(relations)}

    def ids(split: str) -> Tensor:
        rows = [(entity_id[h], relation_id[r], entity_id[t]) for h, r, t in named[split]]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)

    return Dataset(
        name=name,
        entities=tuple(entities),
        relations=tuple(relations),
        train=ids("train"),
        valid=ids("valid"),
        test=ids("test"),
        fingerprint=fingerprint(named),
    )


def fingerprint(named: Mapping[str, list[Named]]) -> str:
    """sha256 of all splits that does not depend on the order of lines."""
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(f"[{split}]\n".encode())
        for triple in sorted(named[split]):
            digest.update("\t".join(triple).encode() + b"\n")
    return digest.hexdigest()


def passport(dataset: Dataset) -> dict[str, object]:
    """Counts that a reader of results should know: sizes, duplicates, unseen entities, inverse leakage."""
    seen = torch.zeros(dataset.num_entities, dtype=torch.bool)
    seen[dataset.train[:, 0]] = True
    seen[dataset.train[:, 2]] = True
    facts: dict[str, object] = {
        "name": dataset.name,
        "entities": dataset.num_entities,
        "relations": dataset.num_relations,
        "entities_in_train": int(seen.sum()),
        "fingerprint": dataset.fingerprint,
    }
    train_pairs = _pair_keys(dataset.train, dataset.num_entities)
    for split in SPLITS:
        triples: Tensor | None = getattr(dataset, split)
        if triples is None:
            continue
        unseen = ~(seen[triples[:, 0]] & seen[triples[:, 2]])
        facts[f"{split}_triples"] = len(triples)
        facts[f"{split}_duplicates"] = len(triples) - len(torch.unique(triples, dim=0))
        if split != "train":
            reversed_keys = _pair_keys(triples.flip(1), dataset.num_entities)
            facts[f"{split}_with_unseen_entity"] = int(unseen.sum())
            facts[f"{split}_with_reversed_pair_in_train"] = int(np.isin(reversed_keys, train_pairs).sum())
    return facts


def _pair_keys(triples: Tensor, num_entities: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    keys: np.ndarray[tuple[int], np.dtype[np.int64]] = (triples[:, 0] * num_entities + triples[:, 2]).numpy()
    return keys
