"""Folders of triples: what is read, and one sentence for what cannot be."""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from kge.data import SPLITS, Dataset, Side, from_names, passport
from kge.errors import DataError
from kge.folders import read_folder, write_folder
from tests.kge import graphs

NAMES = {
    "train": [("b", "likes", "a"), ("a", "likes", "ü"), ("c c", "is 'x'", "b"), ("a", "likes", "ü")],
    "valid": [("a", "likes", "b")],
    "test": [("ü", "is 'x'", "d"), ("b", "likes", "c c")],
}


def _text(split: str, end: str = "\n") -> str:
    return "".join("\t".join(triple) + end for triple in NAMES[split])


def _folder(folder: Path, train: bytes, *, suffix: str = ".tsv") -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("valid", "test"):
        (folder / f"{split}.tsv").write_text(_text(split))
    (folder / f"train{suffix}").write_bytes(train)
    return folder


def _refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def _same(one: Dataset, other: Dataset) -> bool:
    tensors = zip(
        (one.train, one.valid, one.split("test")), (other.train, other.valid, other.split("test")), strict=True
    )
    same_names = (one.entities, one.relations, one.fingerprint) == (other.entities, other.relations, other.fingerprint)
    return same_names and all(torch.equal(a, b) for a, b in tensors)


def test_ids_are_positions_in_sorted_vocabularies() -> None:
    graph = from_names("x", NAMES)
    assert graph.entities == ("a", "b", "c c", "d", "ü")
    assert graph.relations == ("is 'x'", "likes")
    assert graph.train.tolist() == [[1, 1, 0], [0, 1, 4], [2, 0, 1], [0, 1, 4]]
    assert graph.split("test").tolist() == [[4, 0, 3], [1, 1, 2]]
    assert graph.train.dtype is torch.int64


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".tsv.gz", ".txt.gz"])
@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(lambda text: text.encode(), id="plain"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode(), id="crlf"),
        pytest.param(lambda text: text.encode("utf-8-sig"), id="bom"),
        pytest.param(lambda text: text.removesuffix("\n").encode(), id="no-last-newline"),
    ],
)
def test_every_form_of_a_file_is_the_same_graph(suffix: str, encode: Callable[[str], bytes], tmp_path: Path) -> None:
    content = encode(_text("train"))
    folder = _folder(tmp_path / "x", gzip.compress(content) if suffix.endswith(".gz") else content, suffix=suffix)
    graph = read_folder(folder)
    assert _same(graph, from_names("x", NAMES))
    assert graph.name == "x"


def test_a_folder_is_named_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_folder(tmp_path / "mine", _text("train").encode()))
    assert read_folder(Path()).name == "mine"


def test_the_fingerprint_ignores_order_and_nothing_else() -> None:
    same = _fingerprint({split: triples[::-1] for split, triples in NAMES.items()})
    assert same == _fingerprint(NAMES)
    changes = [
        NAMES | {"train": NAMES["train"][:-1]},  # a duplicate less
        NAMES | {"valid": NAMES["test"], "test": NAMES["valid"]},
        NAMES | {"valid": [("b", "likes", "a")]},
        NAMES | {"valid": [*NAMES["valid"], NAMES["train"][0]]},
    ]
    assert len({_fingerprint(each) for each in (NAMES, *changes)}) == 5


def _fingerprint(named: Mapping[str, list[tuple[str, str, str]]]) -> str:
    return from_names("", named).fingerprint


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"a\tb\tc\na\tb\n", ":2", "must be head<TAB>relation<TAB>tail, got 2 field(s): 'a\\tb'"),
        (b"a\tb\tc\td\n", ":1", "must be head<TAB>relation<TAB>tail, got 4 field(s): 'a\\tb\\tc\\td'"),
        (b"a\tb\tc\n\na\tb\tc\n", ":2", "must be head<TAB>relation<TAB>tail, got 1 field(s): ''"),
        (b"a\t\tc\n", ":1", "must be head<TAB>relation<TAB>tail, got 3 field(s): 'a\\t\\tc'"),
        (b"a b c\n", ":1", "must be head<TAB>relation<TAB>tail, got 1 field(s): 'a b c'"),
        (
            b"a\tb\tc\n" * 3000 + b"a\tb\t\xff\n" + b"a\tb\tc\n" * 3000,
            ":3001",
            "must be UTF-8 text, got invalid start byte",
        ),
        ("a\tb\tc\n".encode("utf-16"), ":1", "must be UTF-8 text, got invalid start byte"),
        (b"", "", "must hold at least one triple, got an empty file"),
        ("".encode("utf-8-sig"), "", "must hold at least one triple, got an empty file"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(content: bytes, where: str, what: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "x", content)
    assert _refused(folder) == f"{folder / 'train.tsv'}{where}: {what}"
    (folder / "train.tsv").unlink()
    (folder / "train.tsv.gz").write_bytes(gzip.compress(content))
    assert _refused(folder) == f"{folder / 'train.tsv.gz'}{where}: {what}"


def test_a_long_line_is_cut_in_the_error(tmp_path: Path) -> None:
    assert len(_refused(_folder(tmp_path / "x", b"a" * 5000))) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "flip", "plain"])
def test_a_damaged_gzip_file_is_refused(damage: str, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d\tr\t%d\n" % (i, 7 * i % 1000) for i in range(1000)))
    middle = len(whole) // 2
    content = {
        "cut": whole[:middle],
        "flip": whole[:middle] + b"\x00\xff\x00" + whole[middle + 3 :],
        "plain": b"a\tb\tc\n",
    }
    folder = _folder(tmp_path / "x", content[damage], suffix=".tsv.gz")
    assert _refused(folder).startswith(f"{folder / 'train.tsv.gz'}: must be a whole gzip file, got ")


def test_missing_and_ambiguous_files_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "x", _text("train").encode())
    names = "train.tsv, train.txt, train.tsv.gz, train.txt.gz"
    (folder / "train.txt").write_text(_text("train"))
    assert _refused(folder) == f"{folder}: must hold exactly one of {names}, got train.tsv and train.txt"
    (folder / "train.txt").unlink()
    (folder / "train.tsv").unlink()
    assert _refused(folder) == f"{folder}: must hold exactly one of {names}, got none"
    gone = tmp_path / "gone"
    assert _refused(gone) == f"{gone}: must be a folder with train, valid and test files, but it does not exist"


def test_sealing_takes_test_away_and_nothing_else() -> None:
    graph = from_names("x", NAMES)
    sealed = graph.sealed()
    assert sealed.test is None
    assert (sealed.entities, sealed.fingerprint) == (graph.entities, graph.fingerprint)
    assert torch.equal(sealed.split("train"), graph.train)
    with pytest.raises(DataError, match=r"^x: the test split is sealed$"):
        sealed.split("test")
    with pytest.raises(DataError, match=r"^split: must be one of train, valid, test, got 'dev'$"):
        graph.split("dev")
    assert sealed.sealed().test is None


def test_sides_name_the_slots() -> None:
    triples = torch.tensor([[1, 2, 3]])
    assert (Side.TAIL.anchors(triples).item(), Side.TAIL.answers(triples).item()) == (1, 3)
    assert (Side.HEAD.anchors(triples).item(), Side.HEAD.answers(triples).item()) == (3, 1)


def test_a_passport_counts_what_flatters_or_spoils_results() -> None:
    graph = from_names("x", NAMES)
    assert passport(graph) == {
        "name": "x",
        "entities": 5,
        "relations": 2,
        "entities_in_train": 4,
        "fingerprint": graph.fingerprint,
        "train_triples": 4,
        "train_duplicates": 1,
        "valid_triples": 1,
        "valid_duplicates": 0,
        "valid_with_unseen_entity": 0,
        "valid_with_unseen_relation": 0,
        "valid_also_in_train": 0,
        "valid_with_reversed_pair_in_train": 1,
        "valid_with_symmetric_triple_in_train": 1,
        "valid_with_inverse_triple_in_train": 0,
        "test_triples": 2,
        "test_duplicates": 0,
        "test_with_unseen_entity": 1,
        "test_with_unseen_relation": 0,
        "test_also_in_train": 0,
        "test_with_reversed_pair_in_train": 1,
        "test_with_symmetric_triple_in_train": 0,
        "test_with_inverse_triple_in_train": 1,
        "warnings": [
            "1 of 4 train triples (25 %) repeat another one of that split",
            "1 of 1 valid triples (100 %) have their pair the other way round in train, so a rule may answer them",
            "1 of 2 test triples (50 %) have an entity that training never meets, so their ranks are near chance",
            "1 of 2 test triples (50 %) have their pair the other way round in train, so a rule may answer them",
        ],
    }
    sealed = passport(graph.sealed())
    assert not [key for key in sealed if key.startswith("test")]
    assert sealed["warnings"] == [sentence for sentence in passport(graph)["warnings"] if "test" not in sentence]


def test_a_passport_counts_test_triples_that_training_sees() -> None:
    fact, other, last = ("a", "r", "b"), ("a", "q", "b"), ("b", "r", "c")
    found = passport(from_names("x", {"train": [fact, last], "valid": [last], "test": [fact, other, fact]}))
    assert (found["valid_also_in_train"], found["test_also_in_train"], found["test_duplicates"]) == (1, 2, 1)
    assert "2 of 3 test triples (67 %) are in train as well, so their answers were seen" in found["warnings"]


def test_a_passport_tells_symmetric_from_inverse_triples() -> None:
    train = [("a", "r", "b"), ("a", "q", "b"), ("c", "r", "d"), ("c", "r", "d"), ("d", "q", "e")]
    valid = [("b", "r", "a"), ("d", "r", "c"), ("d", "q", "c"), ("a", "r", "c")]  # both, symmetric, inverse, neither
    found = passport(from_names("x", {"train": train, "valid": valid, "test": [("e", "r", "d")]}))
    kinds = ("reversed_pair", "symmetric_triple", "inverse_triple")
    assert [found[f"valid_with_{kind}_in_train"] for kind in kinds] == [3, 2, 2]
    assert [found[f"test_with_{kind}_in_train"] for kind in kinds] == [1, 0, 1]


def test_a_passport_counts_relations_that_training_never_meets() -> None:
    train, new = [("a", "r", "b"), ("b", "r", "c")], [("a", "new", "c"), ("c", "r", "a")]
    found = passport(from_names("x", {"train": train, "valid": new, "test": train}))
    assert (found["valid_with_unseen_relation"], found["test_with_unseen_relation"]) == (1, 0)
    sentence = "have a relation that training never meets, so their ranks are near chance"
    assert f"1 of 2 valid triples (50 %) {sentence}" in found["warnings"]


def test_a_clean_graph_has_no_warnings() -> None:
    train = [("a", "r", "b"), ("b", "r", "c"), ("c", "r", "a"), ("a", "q", "d"), ("d", "q", "c")]
    assert (
        passport(from_names("x", {"train": train, "valid": [("d", "r", "b")], "test": [("b", "q", "d")]}))["warnings"]
        == []
    )


PASSPORTS = {
    "fb15k-237": {
        "entities": 14_541,
        "relations": 237,
        "train_triples": 272_115,
        "valid_triples": 17_535,
        "test_triples": 20_466,
        "entities_in_train": 14_505,
        "valid_with_unseen_entity": 9,
        "test_with_unseen_entity": 28,
    },
    "wn18rr": {
        "entities": 40_943,
        "relations": 11,
        "train_triples": 86_835,
        "valid_triples": 3_034,
        "test_triples": 3_134,
        "entities_in_train": 40_559,
        "valid_with_unseen_entity": 210,
        "test_with_unseen_entity": 210,
    },
}


@pytest.mark.parametrize("name", PASSPORTS)
def test_the_published_graphs_have_their_published_counts(name: str, published: Callable[[str], Dataset]) -> None:
    graph = published(name)
    found = passport(graph)
    assert {key: found[key] for key in PASSPORTS[name]} == PASSPORTS[name]
    assert all(found[f"{split}_duplicates"] == 0 for split in SPLITS)
    assert graph.name == name


def test_a_written_folder_is_read_back(tmp_path: Path) -> None:
    assert _same(read_folder(graphs.write_folder(tmp_path / "x", NAMES)), from_names("x", NAMES))


@pytest.mark.parametrize("last", ["a", "a\r"])
def test_a_graph_that_is_written_is_the_same_with_whatever_its_names_end(last: str, tmp_path: Path) -> None:
    names = {split: [(head, relation, last) for head, relation, _ in triples] for split, triples in NAMES.items()}
    graph = from_names("x", names)
    write_folder(graph, tmp_path / "x")
    assert read_folder(tmp_path / "x").fingerprint == graph.fingerprint
