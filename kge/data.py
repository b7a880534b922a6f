"""A graph as id triples per split, with its vocabularies.

Shapes  N triples; a triple is a row (head, relation, tail) of int64 ids.
Ids are positions in the sorted vocabularies of all splits, so they do not depend on the order of lines
or files. Entities that training never saw stay: leaving them out flatters results (WN18RR: 3 points of MRR).
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kge.errors import DataError

Triples = Int[Tensor, "N 3"]
Named = tuple[str, str, str]

SPLITS = ("train", "valid", "test")
_HASHED = 2**16  # lines hashed at once
_WARN = (  # a count of the passport, the share of a split from which it is worth a warning, and what it means
    ("duplicates", 0.0, "repeat another one of that split"),
    ("also_in_train", 0.0, "are in train as well, so their answers were seen"),
    ("with_unseen_entity", 0.01, "have an entity that training never meets, so their ranks are near chance"),
    ("with_unseen_relation", 0.01, "have a relation that training never meets, so their ranks are near chance"),
    ("with_reversed_pair_in_train", 0.1, "have their pair the other way round in train, so a rule may answer them"),
)


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

    def queries(self, triples: Triples, num_relations: int) -> Int[Tensor, " N"]:
        """One number per query: anchor * R + relation."""
        return self.anchors(triples) * num_relations + triples[:, 1]


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


def from_names(name: str, named: Mapping[str, Iterable[Named]]) -> Dataset:
    """Build a data set from triples of names per split (`train`, `valid`, `test`)."""
    met = _Met(entities={}, relations={})
    in_order_met = {split: met.ids(named[split]) for split in SPLITS}
    entities, relations = sorted(met.entities), sorted(met.relations)
    entity_ids, relation_ids = _positions(entities, met.entities), _positions(relations, met.relations)
    splits = {
        split: torch.stack([entity_ids[h], relation_ids[r], entity_ids[t]], dim=1)
        for split, (h, r, t) in in_order_met.items()
    }
    return Dataset(
        name=name,
        entities=tuple(entities),
        relations=tuple(relations),
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        fingerprint=_fingerprint(splits, entities, relations),
    )


@dataclass(frozen=True, kw_only=True)
class _Met:
    """Names, numbered as they are met: a name is held once, however many triples it is in."""

    entities: dict[str, int]
    relations: dict[str, int]

    def ids(self, triples: Iterable[Named]) -> Int[Tensor, "3 N"]:
        entities, relations, flat = self.entities, self.relations, array("q")
        for head, relation, tail in triples:
            flat.append(entities.setdefault(head, len(entities)))
            flat.append(relations.setdefault(relation, len(relations)))
            flat.append(entities.setdefault(tail, len(entities)))
        return torch.from_numpy(np.array(flat, dtype=np.int64)).reshape(-1, 3).T


def _positions(names: list[str], met: Mapping[str, int]) -> Int[Tensor, " names"]:
    """Position in the sorted names of the name that was met as the i-th."""
    positions = torch.empty(len(names), dtype=torch.int64)
    positions[torch.tensor([met[name] for name in names], dtype=torch.int64)] = torch.arange(len(names))
    return positions


def _fingerprint(splits: Mapping[str, Triples], entities: Sequence[str], relations: Sequence[str]) -> str:
    """Over the lines of each split in the order of their names, which is that of the ids."""
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(f"[{split}]\n".encode())
        ids = splits[split].numpy()
        order = np.lexsort(ids.T[::-1])
        for first in range(0, len(order), _HASHED):
            rows = ids[order[first : first + _HASHED]].tolist()
            lines = [f"{entities[h]}\t{relations[r]}\t{entities[t]}\n" for h, r, t in rows]
            digest.update("".join(lines).encode())
    return digest.hexdigest()


def passport(dataset: Dataset) -> dict[str, object]:
    """Counts that a reader of results should know, and warnings of what flatters or spoils them."""
    facts: dict[str, object] = {
        "name": dataset.name,
        "entities": dataset.num_entities,
        "relations": dataset.num_relations,
        "entities_in_train": int(_seen(dataset).sum()),
        "fingerprint": dataset.fingerprint,
    }
    counts = _counts(dataset)
    return facts | counts | {"warnings": _warnings(counts, dataset)}


def warnings_of(dataset: Dataset) -> list[str]:
    """Those of its passport."""
    return _warnings(_counts(dataset), dataset)


def _counts(dataset: Dataset) -> dict[str, int]:
    seen, counts = _seen(dataset), dict[str, int]()
    known = torch.unique(dataset.train[:, 1])
    train = torch.unique(_keys(dataset, dataset.train))
    train_pairs, facts = torch.unique(train // dataset.num_relations, return_counts=True)
    for split in SPLITS:
        triples: Tensor | None = getattr(dataset, split)
        if triples is None:
            continue
        keys = _keys(dataset, triples)
        counts[f"{split}_triples"] = len(triples)
        distinct = train if split == "train" else torch.unique(keys)
        counts[f"{split}_duplicates"] = len(triples) - len(distinct)
        if split != "train":
            unseen = ~(seen[triples[:, 0]] & seen[triples[:, 2]])
            counts[f"{split}_with_unseen_entity"] = int(unseen.sum())
            counts[f"{split}_with_unseen_relation"] = int((~torch.isin(triples[:, 1], known)).sum())
            counts[f"{split}_also_in_train"] = int(torch.isin(keys, train).sum())
            turned = triples.flip(1)
            symmetric = torch.isin(_keys(dataset, turned), train)
            reversed_facts = _looked_up(_pair_keys(dataset, turned), train_pairs, facts)
            counts[f"{split}_with_reversed_pair_in_train"] = int((reversed_facts > 0).sum())
            counts[f"{split}_with_symmetric_triple_in_train"] = int(symmetric.sum())
            counts[f"{split}_with_inverse_triple_in_train"] = int((reversed_facts > symmetric).sum())
    return counts


def _looked_up(keys: Int[Tensor, " N"], known: Int[Tensor, " K"], values: Int[Tensor, " K"]) -> Int[Tensor, " N"]:
    """The value of each key that is known (in ascending order), and 0 of others."""
    places = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
    return torch.where(known[places] == keys, values[places], 0)


def _warnings(counts: Mapping[str, int], dataset: Dataset) -> list[str]:
    return [*_suspicious(counts), *_blanks(dataset)]


def _suspicious(counts: Mapping[str, int]) -> Iterator[str]:
    for split in SPLITS:
        size = counts.get(f"{split}_triples", 0)
        for fact, least, sentence in _WARN:
            count = counts.get(f"{split}_{fact}", 0)
            if count and count >= least * size:
                yield f"{count} of {size} {split} triples ({100 * count / size:.0f} %) {sentence}"


def _seen(dataset: Dataset) -> Bool[Tensor, " E"]:
    """Which entities training meets."""
    seen = torch.zeros(dataset.num_entities, dtype=torch.bool)
    seen[dataset.train[:, 0]] = True
    seen[dataset.train[:, 2]] = True
    return seen


def _keys(dataset: Dataset, triples: Triples) -> Int[Tensor, " N"]:
    """One number for each different triple."""
    return _pair_keys(dataset, triples) * dataset.num_relations + triples[:, 1]


def _pair_keys(dataset: Dataset, triples: Triples) -> Int[Tensor, " N"]:
    """One number for each different pair of head and tail."""
    return triples[:, 0] * dataset.num_entities + triples[:, 2]


def _blanks(dataset: Dataset) -> Iterator[str]:
    """Names are taken to the byte, so `a` and `a ` are two."""
    for kind, names in (("entities", dataset.entities), ("relations", dataset.relations)):
        found = [name for name in names if name != name.strip()]
        if found:
            yield f"{len(found)} of {len(names)} {kind} have a blank before or after their name, as in {found[0]!r:.60}"
