"""Labels: files beside the triples, another way to ask."""

from pathlib import Path

import pytest

from kge import catalog
from kge.errors import DataError
from kge.labels import NO_LABELS, Vocabulary, read_labels
from tests.kge import graphs
from tests.kge.test_data import NAMES

IDS = ("Q1", "Q2", "Q3", "Q64")
LABELS = {"Q1": "Paris", "Q2": "Paris", "Q3": "Q64", "Q64": "Berlin", "Q999": "Berlin", "Q5": ""}
CITIES = Vocabulary("entity", IDS, LABELS)


def test_an_id_and_a_label_of_one_id_are_found() -> None:
    assert [CITIES.position(name) for name in ("Q1", "Q64", "Berlin")] == [0, 3, 3]  # Q999 is not of this graph
    assert [CITIES.label(position) for position in range(4)] == ["Paris", "Paris", "Q64", "Berlin"]
    assert Vocabulary("entity", ("Q5", "Q6"), LABELS).label(0) is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Paris", "entity 'Paris': must be an id, because 2 have this label: Q1, Q2"),
        ("Berlni", "unknown entity 'Berlni' (4 known; did you mean 'Berlin'?)"),
        ("Q46", "unknown entity 'Q46' (4 known; did you mean 'Q64'?)"),
    ],
)
def test_what_is_not_one_entity_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        CITIES.position(name)
    assert str(caught.value) == sentence


def test_many_meanings_are_not_all_listed() -> None:
    ids = [f"Q{number}" for number in range(9)]
    with pytest.raises(DataError, match=r"because 9 have this label: Q0, Q1, Q2, Q3, Q4, \.\.\.$"):
        Vocabulary("entity", ids, dict.fromkeys(ids, "same")).position("same")


def test_very_many_names_are_compared_with_those_alike() -> None:
    many = Vocabulary("entity", [f"entity{number:06}" for number in range(50_000)], {})
    with pytest.raises(DataError, match=r"\(50000 known; did you mean 'entity\d+'\?\)$"):
        many.position("entity012345x")
    with pytest.raises(DataError, match=r"^unknown entity 'nothing like it' \(50000 known\)$"):
        many.position("nothing like it")


@pytest.mark.parametrize("files", [("entities.tsv", "relations.tsv"), ("entity2text.txt", "relation2text.txt")])
def test_files_of_both_customs_are_read(files: tuple[str, str], tmp_path: Path) -> None:
    folder = graphs.write_folder(tmp_path / "x", NAMES)
    (folder / files[0]).write_text("a\tAlice\nü\tÜmit\tand\taliases\r\n")
    (folder / files[1]).write_bytes(b"likes\tis fond of")
    found = catalog.labels_of(str(folder))
    assert (found.entities, found.relations) == ({"a": "Alice", "ü": "Ümit"}, {"likes": "is fond of"})


def test_most_folders_have_none(tmp_path: Path) -> None:
    assert read_labels(graphs.write_folder(tmp_path / "x", NAMES)) == NO_LABELS
    assert catalog.labels_of("synthetic") is NO_LABELS
    with pytest.raises(DataError, match=r"^unknown dataset 'nowhere'"):
        catalog.labels_of("nowhere")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a\tAlice\nb\n", r"entities\.tsv:2: must be id<TAB>label, got 'b'$"),
        (b"a\tAlice\n\tBob\n", r"entities\.tsv:2: must be id<TAB>label, got '\\tBob'$"),
        (b"a\tAlice\na\tAlice\na\tAnna\n", r"entities\.tsv:3: must label 'a' once, got 'Anna' too$"),
        (b"a\t\xff\n", r"entities\.tsv:1: must be UTF-8 text, got invalid start byte$"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "entities.tsv").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_labels(tmp_path)


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    for name in ("entities.tsv", "entity2text.txt"):
        (tmp_path / name).write_text("a\tAlice\n")
    with pytest.raises(
        DataError, match=r"must hold one file of entity labels, got entities\.tsv and entity2text\.txt$"
    ):
        read_labels(tmp_path)
