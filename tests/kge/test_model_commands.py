"""`kge predict`, `kge export` and `kge import` from their arguments to the files that they leave."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from kge import checkpoint, exchange
from kge.fitting import BEST, LAST, fit, load_model, read_curve
from tests.kge import graphs
from tests.kge.command_line import Kge

ROOT = Path(__file__).parents[2]
FOLDER = Path("runs/small")


@pytest.fixture
def trained(kge: Kge) -> str:
    """A checkpoint on the graph of the folder that the command runs in."""
    assert kge("train", "small.yaml", "--device", "cpu").code == 0
    return str(FOLDER / BEST)


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_file_of_queries_is_answered_as_a_table(kge: Kge, trained: str) -> None:
    Path("ask.tsv").write_text("a\tlikes\t?\n?\tis 'x'\tb\r\nü\tlikes\t?\n")
    ran = kge("predict", trained, "--batch", "ask.tsv", "--top", "2")
    assert (ran.code, ran.err) == (0, "")
    rows = _rows(ran.out)
    assert list(rows[0]) == ["head", "relation", "tail", "rank", "entity", "label", "score", "known"]
    asked = [(row["head"], row["relation"], row["tail"], row["rank"]) for row in rows]
    queries = [("a", "likes", "?"), ("?", "is 'x'", "b"), ("ü", "likes", "?")]
    assert asked == [(*query, rank) for query in queries for rank in ("1", "2")]
    alone = kge("predict", trained, "--tail", "b", "--relation", "is 'x'", "--top", "2", "--json")
    for row, line in zip(rows[2:4], alone.out.splitlines(), strict=True):
        record = json.loads(line)
        assert (row["entity"], row["known"] == "yes") == (record["entity"], record["known"])
        assert float(row["score"]) == pytest.approx(record["score"], rel=1e-6)


def test_what_training_has_not_met_is_said(kge: Kge, trained: str) -> None:
    ran = kge("predict", trained, "--head", "d", "--relation", "likes")
    met = "whose entity or relation training has not met, so their answers are near chance"
    assert (ran.code, ran.err) == (0, f"1 of 1 queries {met}, as (d, likes)\n")
    Path("ask.tsv").write_text("a\tlikes\t?\nd\tlikes\t?\n")
    assert kge("predict", trained, "--batch", "ask.tsv").err == f"1 of 2 queries {met}, as (d, likes)\n"


def test_answers_go_to_a_file_whole_or_not_at_all(kge: Kge, trained: str, tmp_path: Path) -> None:
    Path("ask.tsv").write_text("a\tlikes\t?\n?\tis 'x'\tb\n")
    printed = kge("predict", trained, "--batch", "ask.tsv", "--json", "--new-only")
    ran = kge("predict", trained, "--batch", "ask.tsv", "--json", "--new-only", "--out", "answers.jsonl")
    assert (ran.code, ran.out) == (0, "")
    assert Path("answers.jsonl").read_text() == printed.out
    records = [json.loads(line) for line in printed.out.splitlines()]
    assert records
    assert not any(record["known"] for record in records)
    text = kge("predict", trained, "--head", "a", "--relation", "likes")
    kge("predict", trained, "--head", "a", "--relation", "likes", "--out", "answers.txt")
    assert Path("answers.txt").read_text() == text.out
    assert kge("predict", trained, "--head", "a", "--relation", "likes", "--out", "new/folder/answers.txt").code == 0
    assert Path("new/folder/answers.txt").read_text() == text.out
    Path("ask.tsv").write_text("a\tlikes\t?\nnobody\tlikes\t?\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert kge("predict", trained, "--batch", "ask.tsv", "--out", "answers.jsonl").code == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_scores_of_a_table_are_exact_in_32_bits(kge: Kge, trained: str) -> None:
    Path("ask.tsv").write_text("a\tlikes\t?\n")
    rows = _rows(kge("predict", trained, "--batch", "ask.tsv").out)
    records = [json.loads(line) for line in kge("predict", trained, "--batch", "ask.tsv", "--json").out.splitlines()]
    written = torch.tensor([float(row["score"]) for row in rows])
    assert torch.equal(written, torch.tensor([record["score"] for record in records]))


def test_labels_beside_the_triples_are_another_way_to_ask(kge: Kge, trained: str) -> None:
    Path("graph/entities.tsv").write_text("a\tAlice\nb\tBob\nd\tBob\n")
    Path("graph/relations.tsv").write_text("likes\tis fond of\n")
    by_id = kge("predict", trained, "--head", "a", "--relation", "likes")
    by_label = kge("predict", trained, "--head", "Alice", "--relation", "is fond of")
    assert by_id.out == by_label.out
    assert sorted(line.split()[-1] for line in by_id.out.splitlines()) == ["Alice", "Bob", "Bob", "c", "ü"]
    Path("ask.tsv").write_text("Alice\tis fond of\t?\n")
    rows = _rows(kge("predict", trained, "--batch", "ask.tsv").out)
    assert {(row["head"], row["relation"]) for row in rows} == {("a", "likes")}
    assert {row["entity"]: row["label"] for row in rows} == {"a": "Alice", "b": "Bob", "d": "Bob", "c c": "", "ü": ""}
    twice = kge("predict", trained, "--tail", "Bob", "--relation", "likes")
    assert (twice.code, twice.err) == (2, "error: entity 'Bob': must be an id, because 2 have this label: b, d\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\tlikes\t?\na\tlikes\tb\n", "ask.tsv:2: {must}, got 'a\\tlikes\\tb'"),
        ("?\tlikes\t?\n", "ask.tsv:1: {must}, got '?\\tlikes\\t?'"),
        ("a\tlikes\n", "ask.tsv:1: {must}, got 'a\\tlikes'"),
        ("a\tlikes\t?\n\n", "ask.tsv:2: {must}, got ''"),
        ("a\tlikes\t?\ncc\tlikes\t?\n", "ask.tsv:2: unknown entity 'cc' (5 known; did you mean 'c c'?)"),
        ("?\tlike\ta\n", "ask.tsv:1: unknown relation 'like' (2 known; did you mean 'likes'?)"),
        ("", "ask.tsv: must hold at least one query, got an empty file"),
    ],
)
def test_a_malformed_query_is_named_with_its_line(text: str, sentence: str, kge: Kge, trained: str) -> None:
    Path("ask.tsv").write_text(text)
    ran = kge("predict", trained, "--batch", "ask.tsv")
    said = sentence.format(must="must be head<TAB>relation<TAB>? or ?<TAB>relation<TAB>tail")
    assert (ran.code, ran.out, ran.err) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch", "x", "--head", "a"], "give either --batch or a question of --head or --tail and --relation"),
        (["--batch", "x", "--relation", "r"], "give either --batch or a question of --head or --tail and --relation"),
        (["--head", "a"], "give --relation"),
        ([], "give exactly one of --head and --tail"),
    ],
)
def test_one_question_at_a_time(arguments: list[str], sentence: str, kge: Kge) -> None:
    ran = kge("predict", "gone.pt", *arguments)
    assert (ran.code, ran.err) == (2, f"error: {sentence}\n")


def test_a_missing_file_of_queries_is_named(kge: Kge, trained: str) -> None:
    ran = kge("predict", trained, "--batch", "gone.tsv")
    assert (ran.code, ran.err) == (2, "error: gone.tsv: must be a text file, but it does not exist\n")


# Exchange


def test_a_model_comes_back_with_the_same_scores(kge: Kge, trained: str) -> None:
    exported = kge("export", trained, "out/model")
    assert (exported.code, exported.out, exported.err) == (0, "out/model\n", "")
    imported = kge("import", "out/model", "again/model.pt")
    assert (imported.code, imported.out, imported.err) == (0, "again/model.pt\n", "")
    assert {path.name for path in Path("out").iterdir()} == {"model"}
    for arguments in (
        ["evaluate", "--split", "test", "--json"],
        ["predict", "--head", "a", "--relation", "likes", "--json"],
    ):
        command, *options = arguments
        once, again = kge(command, trained, *options), kge(command, "again/model.pt", *options)
        assert once.code == 0
        assert once == again
    assert read_curve(Path("again/model.pt")) == read_curve(Path(trained))[-1:]


def test_others_can_read_what_is_exported(kge: Kge, trained: str) -> None:
    kge("export", trained, "out")
    assert {path.name for path in Path("out").iterdir()} == {
        "model.safetensors",
        "model.json",
        "entities.txt",
        "relations.txt",
    }
    assert Path("out/entities.txt").read_text().splitlines() == ["a", "b", "c c", "d", "ü"]
    assert Path("out/relations.txt").read_text().splitlines() == ["is 'x'", "likes"]
    description = json.loads(Path("out/model.json").read_text())
    content = checkpoint.load(Path(trained))
    assert description["configuration"] == json.loads(content["config"])
    assert (description["model"], description["dataset"], description["fingerprint"]) == (
        "complex",
        "graph",
        content["fingerprint"],
    )
    assert (description["num_entities"], description["num_relations"]) == (5, 2)
    assert description["validation"]["mrr"] == content["curve"][-1]["mrr"]
    tensors = safetensors.torch.load_file("out/model.safetensors")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in content["model"].items()
    }
    for name in ("model.safetensors", "entities.txt", "relations.txt"):
        assert hashlib.sha256((Path("out") / name).read_bytes()).hexdigest() == description["sha256"][name]


MODELS: list[tuple[str, dict[str, object]]] = [
    ("rescal", {}),
    ("tucker", {}),
    ("simple", {}),
    ("conve", {"model.dim": 16, "model.reciprocal": True}),  # the statistics of its normalization are state too
    ("transe", {"model.norm": 1}),
    ("rotate", {"model.reciprocal": True}),
]


@pytest.mark.parametrize(("model", "paths"), MODELS, ids=[name for name, _ in MODELS])
def test_every_kind_of_model_comes_back_to_the_last_bit(model: str, paths: dict[str, object], tmp_path: Path) -> None:
    graph = graphs.ring()
    config = graphs.config({"training.max_epochs": 2, **paths}, model=model)
    list(fit(config, graph, directory=tmp_path))
    exchange.export_model(tmp_path / LAST, graph, tmp_path / "out")
    exchange.import_model(tmp_path / "out", tmp_path / "again.pt")
    before, config_before = load_model(tmp_path / LAST, graph)
    after, config_after = load_model(tmp_path / "again.pt", graph)
    assert config_after == config_before
    h, r = graph.train[:, 0], graph.train[:, 1]
    assert torch.equal(before.score_tails(h, r), after.score_tails(h, r))
    assert torch.equal(before.score_heads(r, h), after.score_heads(r, h))


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            description = description[parent]
        description[last] = value

    return change


def _rewrite(change: Callable[[dict[str, Any]], None], *, whole: bool) -> None:
    """Change the description; with its own checksum made right again, as someone else's program would write it."""
    path = Path("out/model.json")
    description = json.loads(path.read_text())
    change(description)
    if whole:
        description["sha256"]["model.json"] = exchange._own_sha256(description)
    path.write_text(json.dumps(description))


def _refused(kge: Kge) -> str:
    ran = kge("import", "out", "again.pt")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert not Path("again.pt").exists()
    return ran.err.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize("name", ["model.safetensors", "entities.txt", "relations.txt"])
def test_a_damaged_or_missing_file_is_refused(name: str, kge: Kge, trained: str) -> None:
    kge("export", trained, "out")
    content = (Path("out") / name).read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), content + b"\0", b""):
        (Path("out") / name).write_bytes(damaged)
        assert _refused(kge).startswith(f"out/{name}: sha256 must be {hashlib.sha256(content).hexdigest()}, got ")
    (Path("out") / name).unlink()
    assert _refused(kge) == f"out/{name}: must be the file that was exported, but it does not exist"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_set("format", "other"), "must be of format 'kge model', version 1, got something else"),
        (_set("version", 2), "must be of format 'kge model', version 1, got something else"),
        (_set("fingerprint", None), "fingerprint: must be given, got None"),
        (_set("sha256", {}), "must hold a validation and the sha256 of model.safetensors, entities.txt, relations.txt"),
        (_set("num_entities", 6), "out/entities.txt: must have 6 lines, as model.json says, got 5"),
        (_set("configuration.model.size", 3), "configuration: must be of this version or an older one, got "),
        (_set("configuration.model", "complex"), "configuration: must be of this version or an older one, got "),
        (
            _set("configuration.model.name", "complexx"),
            "configuration: must be of this version or an older one, got 'complexx'",
        ),
        (
            _set("configuration.model.dim", 7),
            "configuration: must be of this version or an older one, got model.dim: must be even",
        ),
        (
            _set("configuration.model.dim", 16),
            "out/model.safetensors: entities: must be float32 (5, 16), got float32 (5, 8)",
        ),
        (_set("configuration.model.name", "rescal"), "relations: must be float32 (2, 64), got float32 (2, 8)"),
    ],
)
def test_a_foreign_description_is_refused(
    change: Callable[[dict[str, Any]], None], sentence: str, kge: Kge, trained: str
) -> None:
    kge("export", trained, "out")
    _rewrite(change, whole="sha256" not in sentence)
    assert sentence in _refused(kge)


def test_a_changed_description_is_noticed(kge: Kge, trained: str) -> None:
    kge("export", trained, "out")
    _rewrite(_set("configuration.optimizer.lr", 0.2), whole=False)
    assert _refused(kge).startswith("out/model.json: sha256 must be ")
    Path("out/model.json").write_text("{")
    assert _refused(kge).startswith("out/model.json: must be JSON, got ")
    Path("out/model.json").write_text("[]")
    assert _refused(kge).startswith("out/model.json: must be of format 'kge model'")


def test_tensors_of_another_make_are_refused(kge: Kge, trained: str) -> None:
    kge("export", trained, "out")
    tensors = Path("out/model.safetensors")
    state = safetensors.torch.load_file(tensors)
    half = {name: each.half() for name, each in state.items()}
    for content, sentence in (
        (safetensors.torch.save(half), "entities: must be float32 (5, 8), got float16 (5, 8)"),
        (safetensors.torch.save(state | {"bias": torch.zeros(2)}), "bias: must be nothing, got float32 (2,)"),
        (safetensors.torch.save({"entities": state["entities"]}), "relations: must be float32 (2, 8), got nothing"),
        (b"\x80\x04 no safetensors", "must be a safetensors file, got "),
    ):
        tensors.write_bytes(content)
        sums = {tensors.name: hashlib.sha256(content).hexdigest()}
        _rewrite(lambda found, sums=sums: found["sha256"].update(sums), whole=True)
        assert sentence in _refused(kge)


def test_nothing_is_overwritten(kge: Kge, trained: str) -> None:
    kge("export", trained, "out")
    again = kge("export", trained, "out")
    assert (again.code, again.err) == (2, "error: out: must be a new or empty folder, but it holds something\n")
    onto = kge("import", "out", trained)
    assert (onto.code, onto.err) == (2, f"error: {trained}: must not exist yet, but it does\n")
    nowhere = kge("import", "graph", "again.pt")
    assert nowhere.err == "error: graph: must be a folder that kge export wrote, but it has no model.json\n"
    Path("empty").mkdir()
    assert kge("export", trained, "empty").code == 0


def test_a_model_of_another_graph_is_not_exported(kge: Kge, trained: str) -> None:
    Path("graph/valid.tsv").write_text("b\tlikes\tb\n")
    ran = kge("export", trained, "out")
    assert (ran.code, "must be of data set" in ran.err) == (2, True)
    assert not Path("out").exists()


_WITHOUT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "safetensors":
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from kge.cli import main
sys.argv = ["kge", "export", *sys.argv[1:]]
main()
"""


def test_a_model_that_is_not_known_here_is_not_exported(kge: Kge, trained: str) -> None:
    content = torch.load(trained)
    torch.save({**content, "config": content["config"].replace('"complex"', '"complexx"')}, "later.pt")
    ran = kge("export", "later.pt", "folder")
    assert (ran.code, ran.err) == (2, "error: later.pt: must be of this version or an older one, got 'complexx'\n")
    assert not Path("folder").exists()


def test_a_machine_without_safetensors_says_so(kge: Kge, trained: str) -> None:
    command = [sys.executable, "-c", _WITHOUT, trained, "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = "error: safetensors: must be installed to export and import: pip install safetensors\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert not Path("out").exists()
