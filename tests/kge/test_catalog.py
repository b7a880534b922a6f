"""Named data sets: offline folder, checksums, cache, archives, names that are not known; and the built-in graph."""

import dataclasses
import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kge import catalog, synthetic
from kge.data import SPLITS, Dataset, from_names
from kge.errors import DataError, DownloadError
from kge.fitting import fit
from kge.folders import read_folder
from kge.sources import SOURCES, Source
from tests.kge import graphs
from tests.kge.test_archives import BOTH, Pack
from tests.kge.test_data import NAMES, _text

SHA256 = {split: hashlib.sha256(_text(split).encode()).hexdigest() for split in NAMES}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of one data set `tiny`, whose files lie in an offline folder; downloads would fail."""
    source = Source(
        files={split: f"{(tmp_path / 'nowhere').as_uri()}/{split}.txt" for split in SPLITS},
        sha256=SHA256,
        entities=5,
        relations=2,
        triples={split: len(triples) for split, triples in NAMES.items()},
    )
    monkeypatch.setattr(catalog, "SOURCES", {"tiny": source})
    monkeypatch.setenv("KGE_DATA_DIR", str(tmp_path / "offline"))
    monkeypatch.setenv("KGE_CACHE_DIR", str(tmp_path / "cache"))
    return graphs.write_folder(tmp_path / "offline" / "tiny", NAMES, suffix=".txt")


@pytest.fixture
def upstream(offline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same files where `tiny` is downloaded from, with no checksum known; nothing is offline."""
    unknown = dataclasses.replace(catalog.SOURCES["tiny"], sha256={})
    monkeypatch.setattr(catalog, "SOURCES", {"tiny": unknown})
    return offline.rename(offline.parents[1] / "nowhere")


def _cached(folder: Path) -> Path:
    return folder.parent / "cache" / "tiny"


def test_the_offline_folder_serves_a_verified_copy(offline: Path) -> None:
    graph = catalog.load("tiny")
    assert graph.name == "tiny"
    assert graph.fingerprint == from_names("x", NAMES).fingerprint
    train = offline / "train.txt"
    (offline / "train.txt.gz").write_bytes(gzip.compress(train.read_bytes()))
    train.unlink()
    assert catalog.load("tiny").fingerprint == graph.fingerprint
    assert not (offline.parents[1] / "cache").exists()


@pytest.mark.parametrize("split", NAMES)
def test_a_changed_file_is_refused(split: str, offline: Path) -> None:
    path = offline / f"{split}.txt"
    path.write_text(path.read_text() + "a\tlikes\ta\n")
    with pytest.raises(DataError, match=rf"{split}\.txt: sha256 of the uncompressed file must be \w+, got \w+$"):
        catalog.load("tiny")


def test_a_damaged_or_missing_offline_file_is_refused(offline: Path) -> None:
    (offline / "valid.txt").unlink()
    with pytest.raises(DataError, match=r"must hold exactly one of valid\.tsv, .* got none$"):
        catalog.load("tiny")
    (offline / "valid.txt.gz").write_bytes(gzip.compress(_text("valid").encode())[:-9])
    with pytest.raises(DataError, match=r"valid\.txt\.gz: must be a whole gzip file, got"):
        catalog.load("tiny")


def test_a_download_is_verified_and_kept(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream, cache = offline.parents[1] / "nowhere", offline.parents[1] / "cache" / "tiny"
    offline.rename(upstream)
    assert catalog.fetch("tiny") == cache
    assert sorted(path.name for path in cache.iterdir()) == ["SHA256SUMS", "test.txt", "train.txt", "valid.txt"]
    shutil.rmtree(upstream)
    assert catalog.load("tiny").fingerprint == from_names("x", NAMES).fingerprint
    monkeypatch.delenv("KGE_DATA_DIR")
    assert catalog.fetch("tiny") == cache


def test_a_wrong_download_leaves_nothing_behind(offline: Path) -> None:
    upstream = offline.parents[1] / "nowhere"
    offline.rename(upstream)
    (upstream / "test.txt").write_text("a\tlikes\ta\n")
    with pytest.raises(DataError, match=r"nowhere/test\.txt: sha256 of the uncompressed file must be \w+, got \w+$"):
        catalog.load("tiny")
    assert list((offline.parents[1] / "cache").iterdir()) == []


def test_a_download_that_fails_says_what_to_do(offline: Path) -> None:
    shutil.rmtree(offline)
    with pytest.raises(
        DownloadError, match=r"train\.txt: cannot be downloaded \(.*\); put the files into a folder and name"
    ):
        catalog.load("tiny")


def test_an_interrupted_cache_is_fetched_again(offline: Path) -> None:
    offline.rename(offline.parents[1] / "nowhere")
    cache = offline.parents[1] / "cache" / "tiny"
    cache.mkdir(parents=True)
    (cache / "train.txt").write_text("half")
    assert catalog.load("tiny").fingerprint == from_names("x", NAMES).fingerprint


def test_a_file_without_a_known_checksum_is_believed_once(upstream: Path) -> None:
    assert catalog.load("tiny").fingerprint == from_names("x", NAMES).fingerprint
    cache = _cached(upstream)
    assert catalog.recorded(cache) == {f"{split}.txt": sha256 for split, sha256 in SHA256.items()}
    shutil.rmtree(upstream)
    assert catalog.fetch("tiny") == cache
    changed = (cache / "valid.txt").read_text().replace("a", "b")
    (cache / "valid.txt").write_text(changed)
    with pytest.raises(DataError, match=r"valid\.txt: must be as it was fetched, sha256 \w+ \(SHA256SUMS .*, got \w+$"):
        catalog.fetch("tiny")


def test_a_file_without_a_known_checksum_must_have_the_published_lines(upstream: Path) -> None:
    (upstream / "test.txt").write_text("<html>moved</html>\n")
    with pytest.raises(DataError, match=r"nowhere/test\.txt: must have 2 lines, as published, got 1$"):
        catalog.fetch("tiny")
    assert list(_cached(upstream).parent.iterdir()) == []
    (upstream / "test.txt").write_text(_text("test").removesuffix("\n"))
    assert catalog.fetch("tiny") == _cached(upstream)


def test_recorded_checksums_are_of_the_files_as_they_lie(upstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = upstream.parent / "packed" / "tiny"
    packed.mkdir(parents=True)
    for split in SPLITS:
        (packed / f"{split}.txt.gz").write_bytes(gzip.compress(_text(split).encode()))
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in packed.iterdir()}
    (packed / "SHA256SUMS").write_text("".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()))
    monkeypatch.setenv("KGE_DATA_DIR", str(packed.parent))
    assert catalog.fetch("tiny") == packed
    assert catalog.checksums(packed) == SHA256
    (packed / "SHA256SUMS").write_text(f"{'0' * 64} *test.txt.gz\n")  # as of a binary file
    with pytest.raises(
        DataError, match=rf"test\.txt\.gz: must be as it was fetched, sha256 0{{64}} .*, got {sums['test.txt.gz']}$"
    ):
        catalog.fetch("tiny")
    (packed / "SHA256SUMS").write_bytes(f"{sums['test.txt.gz']}  test.txt.gz\n".encode() + b"\xff, or so\n")
    with pytest.raises(DataError, match=r"SHA256SUMS:2: must be a line of sha256sum, .*, got '.*, or so'$"):
        catalog.fetch("tiny")


@BOTH
def test_a_data_set_comes_out_of_its_archive(pack: Pack, upstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {f"deep/er/tiny_{split}.txt": _text(split) for split in SPLITS} | {"deep/README": "of no use"}
    archive = pack(upstream.parent / "tiny.archive", inside)
    files = {split: f"tiny_{split}.txt" for split in SPLITS}
    source = dataclasses.replace(catalog.SOURCES["tiny"], files=files, archive=archive.as_uri())
    monkeypatch.setattr(catalog, "SOURCES", {"tiny": source})
    assert catalog.load("tiny").fingerprint == from_names("x", NAMES).fingerprint
    cache = _cached(upstream)
    assert sorted(path.name for path in cache.iterdir()) == ["SHA256SUMS", "test.txt", "train.txt", "valid.txt"]
    assert catalog.recorded(cache) == {f"{split}.txt": sha256 for split, sha256 in SHA256.items()}
    assert list(cache.parent.iterdir()) == [cache]


def test_no_checksum_of_the_catalog_is_half_known() -> None:
    for name, source in SOURCES.items():
        assert set(source.files) == set(source.triples) == set(SPLITS), name
        assert source.unknown in ((), SPLITS), name
        assert all(len(sha256) == 64 and set(sha256) <= set("0123456789abcdef") for sha256 in source.sha256.values())
    unknown = [name for name, source in SOURCES.items() if source.unknown]
    assert unknown == ["codex-s", "codex-m", "codex-l", "yago3-10", "wikidata5m"]


@pytest.mark.parametrize("name", ["fb15k-237", "wn18rr", "kinship", "umls", "nations"])
def test_files_that_are_here_have_their_published_sizes(name: str, published: Callable[[str], Dataset]) -> None:
    graph, source = published(name), SOURCES[name]
    assert (graph.num_entities, graph.num_relations) == (source.entities, source.relations)
    assert {split: len(graph.split(split)) for split in SPLITS} == source.triples


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    known = "must be a folder or one of fb15k-237, wn18rr, codex-s, .*, wikidata5m, synthetic"
    with pytest.raises(DataError, match=rf"^unknown dataset 'fb15k237': {known}; did you mean 'fb15k-237'\?$"):
        catalog.load("fb15k237")


def test_a_folder_is_loaded_by_its_path(tmp_path: Path) -> None:
    folder = graphs.write_folder(tmp_path / "mine", NAMES)
    assert catalog.load(str(folder)).fingerprint == read_folder(folder).fingerprint


def test_the_built_in_graph_is_the_same_every_time() -> None:
    assert synthetic.triples() == synthetic.triples()
    assert catalog.load("synthetic").fingerprint == "ff695d15f8d3d201cddc8221cd5e0a04ebaeb5f59375ff99453d5ba63c162cd4"
    assert synthetic.triples(seed=1) != synthetic.triples()


def test_the_built_in_graph_has_the_patterns_that_it_promises() -> None:
    splits = synthetic.triples()
    every = [fact for facts in splits.values() for fact in facts]
    facts = set(every)
    assert len(facts) == len(every)  # no fact is in two splits
    inverse = {"parent_of": "child_of", "grandparent_of": "grandchild_of"}
    inverse |= {name: name for name in ("spouse", "sibling", "cousin")}
    assert all((t, inverse[r], h) in facts for h, r, t in facts if r in inverse)
    parents = {(child, parent) for child, r, parent in facts if r == "child_of"}
    for h, r, t in facts:
        if r == "uncle_or_aunt_of":
            assert any((h, "sibling", parent) in facts for child, parent in parents if child == t)
    seen = {entity for h, _, t in splits["train"] for entity in (h, t)}
    assert all({h, t} <= seen for split in ("valid", "test") for h, _, t in splits[split])


def test_embeddings_learn_the_built_in_graph() -> None:
    paths = {"model.dim": 32, "model.init.std": 0.1, "training": {"batch_size": 128, "max_epochs": 6}}
    paths |= {"optimizer.lr": 0.3, "validation.every": 6, "model.reciprocal": True}
    (validation,) = fit(graphs.config(paths, name="synthetic"), catalog.load("synthetic").sealed(), directory=None)
    assert validation.mrr > 0.8
