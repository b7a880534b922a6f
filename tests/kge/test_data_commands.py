"""`kge data` from its arguments to what it prints and keeps."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from kge import catalog, sources
from kge.data import SPLITS
from kge.sources import Source
from tests.kge import graphs
from tests.kge.command_line import Kge
from tests.kge.test_data import NAMES, _text


def test_list_shows_sizes_and_what_is_known(kge: Kge) -> None:
    lines = kge("data", "list", "--long").out.splitlines()
    assert lines[0].split() == ["name", "entities", "relations", "train", "valid", "test", "sha256"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert list(rows) == list(sources.SOURCES)
    assert rows["nations"] == ["14", "55", "1592", "199", "201", "known"]
    assert rows["wikidata5m"] == ["4594485", "822", "20614279", "5163", "5133", "not", "known"]


def test_get_says_which_checksums_are_not_known(kge: Kge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = graphs.write_folder(tmp_path / "upstream", NAMES, suffix=".txt")
    sha256 = {split: hashlib.sha256(_text(split).encode()).hexdigest() for split in SPLITS}
    known = Source(
        files={split: f"{upstream.as_uri()}/{split}.txt" for split in SPLITS},
        sha256=sha256,
        entities=5,
        relations=2,
        triples={split: len(triples) for split, triples in NAMES.items()},
    )
    catalog_of_two = {"known": known, "tiny": dataclasses.replace(known, sha256={})}
    monkeypatch.setattr(catalog, "SOURCES", catalog_of_two)
    monkeypatch.setattr(sources, "SOURCES", catalog_of_two)
    monkeypatch.setenv("KGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("KGE_DATA_DIR", raising=False)
    came = ", ".join(f"{split} {sha256[split]}" for split in SPLITS)
    said = f"tiny: the right checksums are not known; these came, kept in SHA256SUMS: {came}\n"
    fetched = "".join(f"downloading {known.files[split]}, 0.00 MB\n" for split in SPLITS)
    for first in (fetched, ""):
        ran = kge("data", "get", "tiny")
        assert (ran.code, ran.out, ran.err) == (0, f"{tmp_path / 'cache' / 'tiny'}\n", first + said)
    quiet = kge("data", "get", "known")
    assert (quiet.code, quiet.err) == (0, fetched)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a data set that is not here and cannot be fetched."""
    gone = {split: (tmp_path / "gone" / split).as_uri() for split in SPLITS}
    source = Source(files=gone, entities=5, relations=2, triples=dict.fromkeys(SPLITS, 1))
    monkeypatch.setattr(catalog, "SOURCES", {"tiny": source})
    monkeypatch.setattr(sources, "SOURCES", {"tiny": source})
    monkeypatch.delenv("KGE_DATA_DIR", raising=False)
    return "tiny"


def test_a_host_that_cannot_be_reached_is_a_failure_of_the_world(
    kge: Kge, nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGE_CACHE_DIR", str(tmp_path / "cache"))
    for command in ("get", "passport"):
        ran = kge("data", command, nowhere)
        assert (ran.code, ran.out) == (1, "")
        assert re.fullmatch(r"error: file:.*/gone/train: cannot be downloaded \(.*\); put the files .*\n", ran.err)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_is_no_folder_is_named_by_its_variable(
    kge: Kge, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGE_CACHE_DIR", "small.yaml/cache")
    ran = kge("data", "get", nowhere)
    said = "error: KGE_CACHE_DIR: must be a folder that can be written, got small.yaml/cache\n"
    assert (ran.code, ran.out, ran.err) == (2, "", said)


def test_columns_are_stated_once_and_then_obeyed(kge: Kge, tmp_path: Path) -> None:
    moved = {split: [(r, h, t) for h, r, t in triples] for split, triples in NAMES.items()}
    folder = graphs.write_folder(tmp_path / "moved", moved)
    refused = kge("data", "passport", "moved")
    assert (refused.code, refused.out) == (2, "")
    assert re.fullmatch(r"error: moved/train\.tsv: must be .* column 1 looks like the relation .*\n", refused.err)
    assert kge("data", "columns", "moved").out == "head relation tail (not stated)\n"
    command = re.search(r"kge (data columns moved relation head tail)", refused.err)
    assert command is not None
    assert kge(*command[1].split()).out == "relation head tail\n"
    assert (folder / "columns.txt").read_text() == "relation head tail\n"
    passports = [json.loads(kge("data", "passport", name).out) for name in ("moved", "graph")]
    assert passports[0] == passports[1] | {"name": "moved"}
    assert kge("data", "columns", "moved").out == "relation head tail\n"


REFUSED = [
    (
        ["data", "columns", "graph", "head", "tail"],
        "columns: must name head, relation, tail once each, got 'head tail'",
    ),
    (
        ["data", "columns", "gone", "head", "relation", "tail"],
        "gone: must be a folder of triples, but it does not exist",
    ),
    (["data", "columns", "small.yaml"], "Invalid value for 'FOLDER': Directory 'small.yaml' is a file."),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=[" ".join(each) for each, _ in REFUSED])
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], sentence: str, kge: Kge, tmp_path: Path
) -> None:
    before = set(tmp_path.rglob("*"))
    ran = kge(*arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", f"error: {sentence}\n")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("first", ["head\trelation\ttail", "Subject\tPredicate\tObject ", "h\tr\tt"])
def test_a_header_is_no_triple(kge: Kge, tmp_path: Path, first: str) -> None:
    file = tmp_path / "graph" / "valid.tsv"
    file.write_text(f"{first}\n{file.read_text()}")
    ran = kge("data", "passport", "graph")
    said = f"error: graph/valid.tsv:1: must be a triple, got a header: {first!r}; take the line out\n"
    assert (ran.code, ran.out, ran.err) == (2, "", said)


def test_names_of_columns_are_names_elsewhere(kge: Kge, tmp_path: Path) -> None:
    file = tmp_path / "graph" / "train.tsv"
    file.write_text(f"{file.read_text()}head\trelation\ttail\n")
    assert kge("data", "passport", "graph").code == 0


def test_a_training_says_what_its_data_set_is_warned_of(kge: Kge, tmp_path: Path) -> None:
    file = tmp_path / "graph" / "train.tsv"
    file.write_text(f"{file.read_text()} a\tlikes\tb\n")
    blank = "1 of 6 entities have a blank before or after their name, as in ' a'"
    assert blank in json.loads(kge("data", "passport", "graph").out)["warnings"]
    assert f"graph: {blank}\n" in kge("train", "small.yaml", "--directory", "x").err
    assert blank not in kge("train", "small.yaml", "--directory", "x").err, "said where it began"
