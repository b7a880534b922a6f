"""How fast a training goes: what is timed, and what is made of it."""

from collections.abc import Iterator

import pytest
import torch

from kge import pace
from kge.pace import paces
from kge.training import Training
from tests.kge import graphs

GRAPH = graphs.random_graph(sizes=(200, 40, 5))


@pytest.mark.parametrize("paths", [{}, {"training.type": "k_vs_all"}, {"training.batch_size": 1000}])
def test_the_batches_of_an_epoch_are_an_epoch(paths: dict[str, object]) -> None:
    config = graphs.config({"training.max_epochs": 1, "model.dropout.entity": 0.2, **paths})
    whole, pieces = Training(config, GRAPH), Training(config, GRAPH)
    [report] = whole.epochs()
    losses = list(pieces.steps())
    assert len(losses) == pieces.batches
    rows = sum(count for count, _ in losses)
    assert sum(count * float(loss) for count, loss in losses) / rows == pytest.approx(report.loss)
    assert torch.equal(whole.model.entities, pieces.model.entities)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_epoch_is_its_batches_and_its_share_of_a_validation(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """With a clock that goes on by 1 whenever somebody looks, what is made of the times can be told."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(pace.time, "process_time" if threads == 1 else "perf_counter", lambda: float(next(ticks)))
    config = graphs.config({"training.batch_size": 50, "validation.every": 4})
    torch.set_num_threads(threads)
    [found] = paces([config], GRAPH, seconds=10.5)
    assert found.validation == pytest.approx(1.0)  # it looked before and after, and ranked all queries
    assert found.batches == 13  # it looked from the fourth on and where an epoch ended, until 11 was not below 10.5
    assert found.epoch == pytest.approx(5 * 12 / 13 + 1 / 4)  # 209 triples in batches of 50


def test_one_training_after_the_other_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def configs() -> Iterator[object]:
        for model in ("complex", "transe", "complex"):
            asked.append(model)
            yield graphs.config(model=model)

    timed = paces(configs(), GRAPH, seconds=0.0)  # type: ignore[arg-type]
    assert next(timed).batches == 4
    assert asked == ["complex"]
    assert [each.batches for each in timed] == [4, 4]
    assert asked == ["complex", "transe", "complex"]


def test_a_part_of_the_queries_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_RANKED", 7)
    ticks = iter(range(10**6))
    monkeypatch.setattr(pace.time, "process_time", lambda: float(next(ticks)))
    [found] = paces([graphs.config()], GRAPH, seconds=0.0)
    part = GRAPH.valid[torch.randperm(len(GRAPH.valid), generator=torch.Generator().manual_seed(0))[:7]]
    every, some = (
        len({(h, r) for h, r, _ in triples.tolist()}) + len({(r, t) for _, r, t in triples.tolist()})
        for triples in (GRAPH.valid, part)
    )
    assert found.validation == pytest.approx(every / some)


def test_a_training_that_diverges_has_a_pace() -> None:
    [found] = paces([graphs.config({"optimizer.lr": 1e38})], GRAPH, seconds=0.0)
    assert found.epoch > 0
