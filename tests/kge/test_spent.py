"""What the tables of a checkpoint took is known whatever they went through."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kge import checkpoint, exchange
from kge.errors import CheckpointError
from kge.fitting import BEST, LAST, cost_of, fit, read_curve
from kge.joining import join_models
from tests.kge import graphs

GRAPH = graphs.random_graph()


def _trained(directory: Path, start: Path | None = None, *, epochs: int = 4) -> Path:
    paths = {"training.max_epochs": epochs, "pretrain.checkpoint": None if start is None else str(start)}
    list(fit(graphs.config(paths), GRAPH, directory=directory))
    return directory / LAST


def _seconds(path: Path) -> float:
    return sum(each.device_seconds for each in read_curve(path))


def _cost(path: Path) -> tuple[int, int, float]:
    found = cost_of(path)
    assert found is not None
    return found.trainings, found.epochs, found.device_seconds


def _without(path: Path, key: str) -> None:
    content = torch.load(path)
    del content[key]
    torch.save(content, path)


def test_a_training_that_started_from_others_took_what_they_took_too(tmp_path: Path) -> None:
    first = _trained(tmp_path / "first")
    second = _trained(tmp_path / "second", first, epochs=2)
    third = _trained(tmp_path / "third", second, epochs=3)
    seconds = [_seconds(each) for each in (first, second, third)]
    assert _cost(first) == (1, 4, pytest.approx(seconds[0]))
    assert _cost(second) == (2, 6, pytest.approx(sum(seconds[:2])))
    assert _cost(third) == (3, 9, pytest.approx(sum(seconds)))


def test_a_resumed_training_remembers_what_it_started_from(tmp_path: Path) -> None:
    start = _trained(tmp_path / "start")
    config = graphs.config({"training.max_epochs": 3, "pretrain.checkpoint": str(start)})
    pieces = fit(config, GRAPH, directory=tmp_path / "pieces")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    list(fit(config, GRAPH, directory=tmp_path / "pieces"))
    assert _cost(tmp_path / "pieces" / LAST)[:2] == (2, 7)


def test_a_joined_model_took_what_all_its_parts_took(tmp_path: Path) -> None:
    parts = [_trained(tmp_path / "a"), _trained(tmp_path / "b", tmp_path / "a" / LAST, epochs=2)]
    join_models(parts, GRAPH, tmp_path / "joined.pt")
    seconds = sum(_cost(each)[2] for each in parts)
    assert _cost(tmp_path / "joined.pt") == (3, 10, pytest.approx(seconds))


@pytest.mark.parametrize("kind", ["plain", "further", "joined"])
def test_an_imported_model_took_what_the_exported_one_did(kind: str, tmp_path: Path) -> None:
    path = _trained(tmp_path / "a")
    if kind == "further":
        path = _trained(tmp_path / "b", path)
    elif kind == "joined":
        join_models([path, _trained(tmp_path / "b")], GRAPH, path := tmp_path / "joined.pt")
    exchange.export_model(path, GRAPH, tmp_path / "out")
    exchange.import_model(tmp_path / "out", tmp_path / "again.pt")
    *counts, seconds = _cost(path)
    assert _cost(tmp_path / "again.pt") == (*counts, pytest.approx(seconds))


def test_what_an_older_version_did_not_write_down_is_not_guessed(tmp_path: Path) -> None:
    first = _trained(tmp_path / "first")
    second = _trained(tmp_path / "second", first)
    join_models([first, second], GRAPH, tmp_path / "joined.pt")
    known = cost_of(first)
    for path in (first, second, tmp_path / "joined.pt"):
        _without(path, "before")
    assert cost_of(first) == known  # it started from nothing, and its curve is whole
    assert cost_of(second) is None
    assert cost_of(tmp_path / "joined.pt") is None
    join_models([first, second], GRAPH, tmp_path / "again.pt")
    assert cost_of(tmp_path / "again.pt") is None
    assert cost_of(_trained(tmp_path / "third", second)) is None
    exchange.export_model(second, GRAPH, tmp_path / "out")
    exchange.import_model(tmp_path / "out", tmp_path / "imported.pt")
    assert cost_of(tmp_path / "imported.pt") is None
    assert (tmp_path / "second" / BEST).is_file()


@pytest.mark.parametrize(
    "found",
    [
        [],
        {"trainings": 1},
        {"trainings": 1, "epochs": "4", "device_seconds": 1.0},
        {"trainings": True, "epochs": 4, "device_seconds": 1.0},
        {"trainings": 1, "epochs": -4, "device_seconds": 1.0},
        {"trainings": 1, "epochs": 4, "device_seconds": float("nan")},
    ],
)
def test_a_cost_that_is_none_is_refused(found: Any, tmp_path: Path) -> None:
    path = _trained(tmp_path / "a")
    content = checkpoint.load(path)
    torch.save({**content, "before": found}, path)
    with pytest.raises(CheckpointError, match="what it took"):
        cost_of(path)
