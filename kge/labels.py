"""Readable names of entities and relations, from files beside the triples.

    entities.tsv   or entity2text.txt      id<TAB>label
    relations.tsv  or relation2text.txt    id<TAB>label

Further fields of a line are left alone, so Wikidata5m's lists of aliases serve as they are. Ids stay what
triples and checkpoints hold; a label is another way to ask, and is shown beside the id.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kge.errors import DataError
from kge.files import write_atomically
from kge.folders import read_fields

_FILES = {"entity": ("entities.tsv", "entity2text.txt"), "relation": ("relations.tsv", "relation2text.txt")}
_SHOWN = 5  # ids of an ambiguous label in an error
_COMPARED = 20_000  # names that an unknown one is compared with


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels by id."""

    entities: Mapping[str, str]
    relations: Mapping[str, str]


NO_LABELS = Labels(entities={}, relations={})


def read_labels(folder: Path) -> Labels:
    """The labels that a folder holds; DataError when a file is malformed or one kind has two files."""
    return Labels(entities=_read(folder, "entity"), relations=_read(folder, "relation"))


def write_labels(labels: Labels, folder: Path) -> None:
    """Write labels so that `read_labels` reads them again; no file where there are none."""
    for what, each in (("entity", labels.entities), ("relation", labels.relations)):
        if each:
            lines = (f"{name}\t{label}\n" for name, label in each.items())
            write_atomically(folder / _FILES[what][0], "".join(lines).encode())


def _read(folder: Path, what: str) -> Mapping[str, str]:
    found = [path for name in _FILES[what] if (path := folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: must hold one file of {what} labels, got {' and '.join(_FILES[what])}")
    labels: dict[str, str] = {}
    for path in found:
        for number, fields in read_fields(path):
            if len(fields) < 2 or not fields[0]:
                came = "\t".join(fields)
                raise DataError(f"{path}:{number}: must be id<TAB>label, got {came!r:.80}")
            if labels.setdefault(fields[0], fields[1]) != fields[1]:
                raise DataError(f"{path}:{number}: must label {fields[0]!r} once, got {fields[1]!r:.80} too")
    return labels


class Vocabulary:
    """The entities or relations of a graph, found by id or label. Where an id is another's label, the id is meant."""

    def __init__(self, what: str, ids: Sequence[str], labels: Mapping[str, str]) -> None:
        self._what = what
        self._ids = ids
        self._labels = labels
        self._positions = {each: position for position, each in enumerate(ids)}
        self._labelled: dict[str, list[str]] = {}
        for each in ids if labels else ():
            if label := labels.get(each):
                self._labelled.setdefault(label, []).append(each)

    def position(self, name: str) -> int:
        """Position of an id, or of the one id with this label; DataError when there is none or several."""
        if name in self._positions:
            return self._positions[name]
        meant = self._labelled.get(name, [])
        if len(meant) > 1:
            shown = ", ".join([*meant[:_SHOWN], *(["..."] if len(meant) > _SHOWN else [])])
            raise DataError(f"{self._what} {name!r}: must be an id, because {len(meant)} have this label: {shown}")
        if not meant:
            raise DataError(f"unknown {self._what} {name!r} ({len(self._ids)} known{self._guess(name)})")
        return self._positions[meant[0]]

    def label(self, position: int) -> str | None:
        """What stands for the id at a position."""
        return self._labels.get(self._ids[position]) or None

    def _guess(self, name: str) -> str:
        near = difflib.get_close_matches(name, list(_candidates(name, (*self._labelled, *self._ids))), n=1, cutoff=0)
        return f"; did you mean {near[0]!r}?" if near else ""


def _candidates(name: str, known: Sequence[str]) -> Iterator[str]:
    """All names when they are few; of very many the first that start alike and are about as long."""
    if len(known) <= _COMPARED:
        return iter(known)
    alike: Iterable[str] = (each for each in known if each[:2] == name[:2] and abs(len(each) - len(name)) < 3)
    return islice(alike, _COMPARED)
