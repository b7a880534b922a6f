"""The order of columns: checked where nothing is said, obeyed where it is."""

import itertools
from pathlib import Path

import pytest

from kge.columns import FILE, STANDARD, declare, declared, suspect
from kge.data import SPLITS, from_names
from kge.errors import DataError
from kge.folders import read_folder
from tests.kge import graphs
from tests.kge.test_data import NAMES

# Users, shops and ratings: no name is in two columns.
BIPARTITE = {
    "train": [(f"u{i % 7}", ("likes", "knows")[i % 2], f"s{i % 5}") for i in range(30)],
    "valid": [("u1", "likes", "s3")],
    "test": [("u2", "knows", "s4")],
}
# Entities and relations are numbers, so every name of a relation is an entity's too.
NUMBERS = {
    "train": [(str(i), str(i % 3), str((7 * i + 1) % 20)) for i in range(20)],
    "valid": [("3", "1", "4")],
    "test": [("5", "2", "6")],
}
GRAPHS = {"names": NAMES, "bipartite": BIPARTITE, "numbers": NUMBERS}
ORDERS = [order for order in itertools.permutations(STANDARD) if order.index("head") < order.index("tail")]


def _write(folder: Path, name: str, order: tuple[str, ...]) -> Path:
    moved = {
        split: [tuple(triple[STANDARD.index(column)] for column in order) for triple in GRAPHS[name][split]]
        for split in SPLITS
    }
    return graphs.write_folder(folder, moved)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_standard_order_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", name, STANDARD)
    assert read_folder(folder).fingerprint == from_names("x", GRAPHS[name]).fingerprint


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("order", [order for order in ORDERS if order != STANDARD], ids=" ".join)
def test_another_order_is_refused_until_it_is_stated(order: tuple[str, ...], name: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", name, order)
    position = order.index("relation") + 1
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    sentence = str(caught.value)
    start = (
        f"{folder / 'train.tsv'}: must be head<TAB>relation<TAB>tail, but column {position} looks like the relation ("
    )
    assert sentence.startswith(start)
    assert sentence.endswith(f"; say which it is: kge data columns {folder} {' '.join(order)}, or head relation tail")
    declare(folder, order)
    assert declared(folder) == order
    assert read_folder(folder).fingerprint == from_names("x", GRAPHS[name]).fingerprint


def test_what_is_stated_is_believed(tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", "names", ("head", "tail", "relation"))
    declare(folder, STANDARD)
    assert set(read_folder(folder).relations) == {"a", "b", "ü", "c c", "d"}


def test_a_malformed_line_is_described_in_the_stated_order(tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", "names", ("relation", "head", "tail"))
    declare(folder, ("relation", "head", "tail"))
    (folder / "valid.tsv").write_text("likes\ta\n")
    with pytest.raises(DataError, match=r"valid\.tsv:1: must be relation<TAB>head<TAB>tail, got 2 field"):
        read_folder(folder)


@pytest.mark.parametrize("text", ["head tail", "head relation relation", "subject predicate object", ""])
def test_what_is_no_order_is_refused(text: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "x", "names", STANDARD)
    must = "must name head, relation, tail once each, got"
    with pytest.raises(DataError, match=f"^columns: {must} "):
        declare(folder, text.split())
    assert not (folder / FILE).exists()
    (folder / FILE).write_text(text)
    with pytest.raises(DataError, match=rf"{FILE}: {must} '{text}'$"):
        read_folder(folder)


def test_a_folder_that_is_not_there_cannot_be_described(tmp_path: Path) -> None:
    for describe in (declared, lambda folder: declare(folder, STANDARD)):
        with pytest.raises(DataError, match=r"gone: must be a folder of triples, but it does not exist$"):
            describe(tmp_path / "gone")


def test_numbers_of_the_reason() -> None:
    found = suspect([{"a", "b", "c"}, {"b", "c", "d"}, {"r"}])
    assert found is not None
    assert (found.position, found.order) == (2, ("head", "tail", "relation"))
    assert found.reason == "columns 1 and 2 share 2 names, columns 1 and 3 share 0"
    found = suspect([{"r"}, {"a", "b", "c"}, {"x", "y"}])
    assert found is not None
    assert found.order == ("relation", "head", "tail")
    assert found.reason == "no two columns share a name, and it has 1 different ones, column 2 has 3"
    assert suspect([{"a", "b"}, {"r", "s", "t"}, {"b", "c"}]) is None  # more relations than entities
    assert suspect([{"a"}, {"r"}, {"b"}]) is None
