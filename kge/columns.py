"""Which column of a folder's files is the head, which the relation, which the tail.

Files hold head<TAB>relation<TAB>tail, unless `columns.txt` beside them says otherwise in one line such as
`head tail relation`. Where nothing is said, an order that looks wrong is refused and never guessed: heads and
tails are names of the same entities, so the two columns that share most are theirs. If no two columns share a
name, the relation should be the column with the fewest. A swap of head and tail cannot be seen.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from kge.errors import DataError
from kge.files import write_atomically

FILE = "columns.txt"
STANDARD = ("head", "relation", "tail")
_HEADERS = tuple(  # what a head, a relation and a tail are called above columns
    frozenset(names.split())
    for names in (
        "h s head subject subj source src from e1 entity1 head_entity head_id head_name subject_id source_id",
        "r p relation relationship predicate pred rel edge property relation_id relation_name predicate_id",
        "t o tail object obj target tgt dst to e2 entity2 tail_entity tail_id tail_name object_id target_id",
    )
)


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A column that looks more like the relation than the second one does."""

    position: int
    reason: str

    @property
    def order(self) -> tuple[str, ...]:
        """The order that would explain it; heads are taken to stand before tails."""
        rest = iter(("head", "tail"))
        return tuple("relation" if position == self.position else next(rest) for position in range(3))


def declared(folder: Path) -> tuple[str, ...] | None:
    """The order that the folder states; None when it states none, DataError when it is no order or no folder."""
    _check_folder(folder)
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return checked(path.read_text(encoding="utf-8-sig").split(), where=str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: must be UTF-8 text, got {error.reason}") from None


def is_header(triple: Sequence[str]) -> bool:
    """Whether head, relation and tail are names of columns and no triple."""
    return all(name.strip("#\"' \r").casefold() in names for name, names in zip(triple, _HEADERS, strict=True))


def declare(folder: Path, order: Sequence[str]) -> None:
    """State the order of a folder's files, for every reader from now on."""
    _check_folder(folder)
    write_atomically(folder / FILE, (" ".join(checked(order, where="columns")) + "\n").encode())


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder of triples, but it does not exist")


def checked(order: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The order itself; DataError unless it names each column once."""
    if sorted(order) != sorted(STANDARD):
        raise DataError(f"{where}: must name {', '.join(STANDARD)} once each, got {' '.join(order)!r:.80}")
    return tuple(order)


def suspect(names: Sequence[Set[str]]) -> Suspicion | None:
    """What is wrong with head, relation, tail as the order of columns with these distinct names; mostly nothing."""
    shared = [len(one & other) for one, other in _others(names)]
    alike = [count / len(one | other) for count, (one, other) in zip(shared, _others(names), strict=True)]
    sizes = [len(each) for each in names]
    if any(shared):
        position = alike.index(max(alike))
        pair, rightly = ((2, 3), (1, 3), (1, 2))[position], shared[1]
        reason = f"columns {pair[0]} and {pair[1]} share {shared[position]} names, columns 1 and 3 share {rightly}"
        fine = alike[1] == alike[position]
    else:
        position = sizes.index(min(sizes))
        reason = f"no two columns share a name, and it has {sizes[position]} different ones, column 2 has {sizes[1]}"
        fine = sizes[1] == sizes[position]
    return None if fine else Suspicion(position=position, reason=reason)


def _others(names: Sequence[Set[str]]) -> list[tuple[Set[str], Set[str]]]:
    """For each column the other two: the entities, if it is the relation."""
    first, second, third = names
    return [(second, third), (first, third), (first, second)]
