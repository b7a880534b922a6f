"""`kge evaluate` from a checkpoint to its tables, JSON, parquet and cautions, against rankings made one by one."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet
import pytest
import torch

from kge import checkpoint, cli, scorecard_text
from kge.catalog import load
from kge.data import Dataset, Side
from kge.errors import UserError
from kge.evaluation import rank
from kge.filters import filter_from
from kge.fitting import BEST, fit, load_model
from kge.metrics import metrics
from kge.ranks import Ranks
from kge.sampled import sample_triples
from kge.scorecard import Question, evaluate
from tests.kge import graphs

RANDOM = graphs.random_graph(sizes=(60, 25, 25))
ALL = ("train", "valid", "test")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.out)


Evaluate = Callable[..., Ran]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph as files, and models trained on it."""
    folder = tmp_path_factory.mktemp("evaluate")
    splits = {name: graphs.named([tuple(row) for row in RANDOM.split(name).tolist()]) for name in ALL}
    graph = load(str(graphs.write_folder(folder / "graph", splits)))
    for model, loss in (("complex", "sce"), ("transe", "sans")):
        config = graphs.config(model=model, loss=loss, name=str(folder / "graph"))
        list(fit(config, graph.sealed(), directory=folder / model))
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """`kge evaluate` of a checkpoint of the folder."""

    def run(*arguments: str, model: str = "complex") -> Ran:
        monkeypatch.setattr(sys, "argv", ["kge", "evaluate", str(folder / model / BEST), "--device=cpu", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, captured.out, captured.err)

    return run


def _graph(folder: Path) -> Dataset:
    return load(str(folder / "graph"))


def _ranks(folder: Path, split: str, filters: tuple[str, ...]) -> tuple[Ranks, ...]:
    graph = _graph(folder)
    model, config = load_model(folder / "complex" / BEST, graph)
    return rank(model, graph.split(split), filter_from(graph, filters), block_size=config.validation.block_size)


def _part(record: dict[str, Any], like: dict[str, float]) -> dict[str, Any]:
    return {name: record[name] for name in like}


@pytest.mark.parametrize(("split", "filters"), [("valid", ALL[:2]), ("train", ALL[:2]), ("test", ALL)])
def test_the_headline_is_the_full_ranking(split: str, filters: tuple[str, ...], run: Evaluate, folder: Path) -> None:
    found = metrics(_ranks(folder, split, filters))
    record = run("--split", split, "--json").record
    assert _part(record, found) == found
    assert (record["split"], record["filter"], record["ranks"]) == (split, list(filters), "realistic")
    assert record["triples"] == len(_graph(folder).split(split))
    assert record["cautions"] == {}


def test_filtered_with_test_stands_beside_and_changes_nothing(run: Evaluate, folder: Path) -> None:
    plain, both = run("--json").record, run("--filter-with-test", "--json").record
    legacy = both.pop("filtered_with_test")
    assert both == plain
    assert legacy == metrics(_ranks(folder, "valid", ALL))
    assert legacy["mrr"] > plain["mrr"]
    heading, names, mrr, *_ = run("--filter-with-test").out.splitlines()
    assert heading == "valid, filtered by train + valid, 27 triples, both sides"
    assert names.split() == ["filtered", "filtered_with_test", "drop_unseen"]
    values = (plain["mrr"], legacy["mrr"], plain["drop_unseen"]["mrr"])
    assert mrr.split() == ["mrr", *(f"{value:.4f}" for value in values)]


def test_drop_unseen_leaves_out_what_train_never_saw(run: Evaluate, folder: Path) -> None:
    graph = _graph(folder)
    seen = {entity for h, _, t in graph.train.tolist() for entity in (h, t)}
    kept = torch.tensor([h in seen and t in seen for h, _, t in graph.valid.tolist()])
    assert (~kept).sum() == 2
    expected = metrics([side.at(kept.numpy()) for side in _ranks(folder, "valid", ALL[:2])])
    ran = run("--json")
    assert ran.record["drop_unseen"] == {"triples": 25, "dropped": 2} | dict(expected)
    assert "drop_unseen: triples left out because train never saw one of their entities: 2" in run().out
    assert "drop_unseen" not in run("--split", "train").out
    assert run("--split", "train", "--json").record["drop_unseen"]["dropped"] == 0


def test_a_split_of_unseen_entities_alone_has_no_reading_without_them() -> None:
    graph = graphs.dataset(train=[(0, 0, 1)], valid=[(2, 0, 3)])
    card = evaluate(graphs.free_scores(torch.zeros(1, 4, 4)), graph, Question(split="valid", slices=True), block_size=4)
    assert card.record["drop_unseen"] == {"triples": 0, "dropped": 1}
    assert list(card.record["slices"]["answer_frequency"]) == ["0"]


def test_slices_are_printed_and_in_the_record(run: Evaluate, folder: Path) -> None:
    found = run("--slices", "--json").record["slices"]
    assert list(found) == ["side", "relation", "category", "answer_frequency", "anchor_frequency"]
    for rows in found.values():
        assert sum(row["queries"] for row in rows.values()) == 2 * len(_graph(folder).valid)
    for side in _ranks(folder, "valid", ALL[:2]):
        assert found["side"][side.side] == {"queries": 27} | dict(metrics([side]))
    text = run("--slices").out
    for kind, rows in found.items():
        assert re.search(rf"^{kind} +queries +mrr +hits_at_1 ", text, re.MULTILINE)
        for name, row in rows.items():
            assert re.search(rf"^{re.escape(name)} +{row['queries']} +{row['mrr']:.4f} ", text, re.MULTILINE)
    assert "slices" not in run("--json").record


def test_long_tables_are_cut_in_text_alone() -> None:
    graph = graphs.random_graph(relations=30)
    model = graphs.build("distmult", entities=graph.num_entities, relations=graph.num_relations, dim=4)
    record = evaluate(model, graph, Question(split="train", slices=True), block_size=64).record
    text = list(scorecard_text.lines(record))
    relations = list(record["slices"]["relation"])
    assert len(relations) > 20
    assert [line.split()[0] for line in text if re.match(r"r\d", line)] == relations[:20]
    assert f"and {len(relations) - 20} more with fewer queries: --json has all" in text


def test_ranks_are_written_for_every_query(run: Evaluate, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ranks.parquet"
    assert run("--ranks", str(file)).code == 0
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == [
        "head", "relation", "tail", "side", "optimistic", "pessimistic", "realistic", "candidates",
    ]  # fmt: skip
    rows = table.to_pylist()
    expected = _ranks(folder, "valid", ALL[:2])
    assert [row["side"] for row in rows] == [str(side) for side in Side for _ in range(27)]
    for name in set(table.column_names) - {"side"}:
        assert [row[name] for row in rows] == [value for side in expected for value in getattr(side, name).tolist()]
    assert [path.name for path in file.parent.iterdir()] == ["ranks.parquet"]


def test_a_sample_of_triples_is_labelled_and_ranked_in_full(run: Evaluate, folder: Path) -> None:
    graph = _graph(folder)
    model, _ = load_model(folder / "complex" / BEST, graph)
    triples = sample_triples(graph.valid, 9, seed=4)
    expected = metrics(rank(model, triples, filter_from(graph, ALL[:2]), block_size=64))
    record = run("--sample", "9", "--seed", "4", "--json").record
    assert _part(record, expected) == pytest.approx(expected)
    assert (record["triples"], record["sample_of"], record["seed"]) == (9, 27, 4)
    assert record["mrr_standard_error"] > 0
    text = run("--sample", "9", "--seed", "4")
    heading = "valid, filtered by train + valid, a random sample of 9 of 27 triples, both sides, seed 4"
    assert text.out.splitlines()[0] == heading
    whole = run("--sample", "27", "--json").record
    assert whole.pop("mrr_standard_error") == 0
    assert {name: whole[name] for name in whole if name not in ("sample_of", "seed")} == run("--json").record


def test_sampled_candidates_are_labelled_in_every_name(run: Evaluate) -> None:
    ran = run("--candidates", "5", "--slices", "--json")
    record = ran.record
    assert (record["sampled_candidates"], record["seed"]) == (5, 0)
    numbers = {name for name, value in record.items() if isinstance(value, float)}
    plain = {name for name in numbers if not name.startswith("sampled_")}
    assert plain == {"mean_rank_estimate", "amri_estimate"}
    assert "mrr" not in json.dumps(record).replace("sampled_mrr", "").replace("sampled_adjusted_mrr", "")
    assert ran.err == f"caution: {record['cautions']['sampled']}\n"
    assert "not comparable with ranks among all entities" in ran.err
    text = run("--candidates", "5").out
    assert "sampled: 5 random candidates a query, seed 0" in text.splitlines()[0]
    assert run("--candidates", "5", "--json").record == {k: v for k, v in record.items() if k != "slices"}
    assert run("--candidates", "5", "--seed", "1", "--json").record["sampled_mrr"] != record["sampled_mrr"]
    both = run("--sample", "9", "--candidates", "5", "--json").record
    assert both.keys() == record.keys() - {"slices"} | {"sample_of"}  # no standard error: candidates vary too


def _damage(folder: Path, target: str, model: str, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """A checkpoint like that of a model, with other parameters."""
    path = folder / model / BEST
    content = checkpoint.load(path)
    change(content["model"])
    kept = {name: content[name] for name in ("fingerprint", "curve", "model")}
    checkpoint.save(folder / target / BEST, kept, checkpoint.config_of(content))
    return target


def test_canary_a_constant_model_raises_the_tie_alarm(run: Evaluate, folder: Path) -> None:
    constant = _damage(folder, "constant", "complex", lambda tables: tables["entities"].zero_())
    ran = run("--json", model=constant)
    record = ran.record
    assert (ran.code, record["amri"], record["mrr_optimistic"]) == (0, 0.0, 1.0)
    assert ran.err == f"caution: {record['cautions']['ties']}\n"
    assert re.fullmatch(
        r"many scores tie: optimistic MRR 1\.0000 and pessimistic MRR 0\.\d{4} are .*", record["cautions"]["ties"]
    )
    assert ran.err == run(model=constant).err


def test_canary_a_saturated_model_raises_the_tie_alarm(run: Evaluate, folder: Path) -> None:
    """Translations so long that float32 no longer tells the distances apart."""
    saturated = _damage(folder, "saturated", "transe", lambda tables: tables["relations"].mul_(1e9))
    ran = run("--json", model=saturated)
    assert ran.code == 0
    assert "ties" in ran.record["cautions"]
    assert ran.err.startswith("caution: many scores tie: ")
    assert run("--json", model="transe").err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sample", "28"], "sample: must be at most the 27 triples of valid, got 28"),
        (["--sample", "1"], r"Invalid value for '--sample': .*"),
        (["--candidates", "10"], "candidates: must be fewer than the 10 entities of graph, got 10"),
        (
            ["--filter-with-test", "--split", "test"],
            "filter-with-test: must be asked of the full ranking of train or valid, got test",
        ),
        (
            ["--filter-with-test", "--candidates", "3"],
            "filter-with-test: must be asked of the full ranking of train or valid, got sampled candidates",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_written(
    arguments: list[str], sentence: str, run: Evaluate, tmp_path: Path
) -> None:
    ran = run(*arguments, "--ranks", str(tmp_path / "ranks.parquet"))
    assert (ran.code, ran.out) == (2, "")
    assert re.fullmatch(f"error: {sentence}\n", ran.err)
    assert list(tmp_path.iterdir()) == []


def test_test_is_read_only_where_it_is_asked_for(folder: Path) -> None:
    sealed = _graph(folder).sealed()
    model, _ = load_model(folder / "complex" / BEST, sealed)
    card = evaluate(model, sealed, Question(split="valid", slices=True), block_size=8)
    assert card.record == evaluate(model, _graph(folder), Question(split="valid", slices=True), block_size=8).record
    for question in (Question(split="valid", with_test=True), Question(split="test")):
        with pytest.raises(UserError, match="the test split is sealed"):
            evaluate(model, sealed, question, block_size=8)
