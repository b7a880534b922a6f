"""Batches that are recorded and replayed: bit by bit those that are computed anew each time.

A CUDA graph is played here by a recorder for the CPU, which has what matters of one: recording changes nothing, a
replay reads the rows and fills the loss and the gradients where they were when it was recorded, whatever others left
there, and changes nothing else. The same tests run with real graphs where there is a GPU.
"""

import gc
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kge import checkpoint
from kge.captured import Captured, captured, is_worth_it
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.fitting import LAST, fit
from kge.training import Training
from tests.kge import graphs
from tests.kge.test_fitting import CASES, LONG

GRAPH = graphs.random_graph()  # 69 triples: four full batches of 16 and a smaller one
FULL = 4
MORE = [
    pytest.param("rescal", "bce", {"model.dropout.relation": 0.2}, id="one_vs_all-bce"),
    pytest.param("rotate", "ns", {"training.type": "one_vs_all"}, id="against-all"),
    pytest.param("transe", "tans", {"loss.subsampling": "freq", "model.dropout": {}}, id="gradients-in-place"),
    pytest.param("complex", "sce", {"regularizer": {"name": "lp", "entity_weight": 0.1}, "model.dim": 64}, id="lp"),
    pytest.param("distmult", "sce", {"training.precision": "tf32", "optimizer.max_norm": 0.1}, id="tf32-clipped"),
]
STATIC = [case for case in (*CASES, *MORE) if case.id != "k_vs_all"]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
PLACES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


def config_of(paths: Mapping[str, object] | None = None, **names: str) -> TrainingConfig:
    return graphs.config({"training.capture": True, **(paths or {})}, **names)


class Recorder:
    """Stands for CUDA graphs on the CPU."""

    def __init__(self, training: Training) -> None:
        self._model = training.model
        self._generators = training._generators().values()
        self.replays = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        buffers = [each.clone() for each in self._model.buffers()]
        states = [each.get_state() for each in self._generators]
        kept = [work(), *self._gradients()]
        for each, before in zip(self._model.buffers(), buffers, strict=True):
            each.copy_(before)
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

        def replay() -> None:
            self.replays += 1
            attributes = [each.grad for each in self._model.parameters()]
            for each in kept:
                each.fill_(math.nan)
            for each, found in zip(kept, [work(), *self._gradients()], strict=True):
                each.copy_(found)
            for parameter, gradient in zip(self._model.parameters(), attributes, strict=True):
                parameter.grad = gradient

        return kept[0], replay

    def _gradients(self) -> list[Tensor]:
        return [each.grad for each in self._model.parameters() if each.grad is not None]


def begun(config: TrainingConfig, device: str = "cpu", graph: Dataset = GRAPH) -> Training:
    """A training whose batches are captured."""
    training = Training(config, graph, device=device)
    if device == "cpu":
        rows = min(config.training.batch_size, len(graph.train))
        parameters = training.model.parameters()
        training._captured = Captured(parameters, rows=rows, device=device, record=Recorder(training))
    assert training.is_captured
    return training


def without(config: TrainingConfig) -> TrainingConfig:
    return replace(config, training=replace(config.training, capture=False))


def small(model: str, loss: str, paths: dict[str, object]) -> TrainingConfig:
    return config_of(LONG | {"training.max_epochs": 3} | paths, model=model, loss=loss)


def assert_same(one: Training, other: Training, device: str) -> None:
    """All that decides what comes next: on a GPU sums are in no fixed order, random draws are."""
    mine, theirs = one.state(), other.state()
    exactly = {"rtol": 0.0, "atol": 0.0}
    near = exactly if device == "cpu" else {"rtol": 1e-2, "atol": 1e-3}
    for part, tolerance in (("model", near), ("optimizer", near), ("generators", exactly)):
        torch.testing.assert_close(mine[part], theirs[part], **tolerance)


def losses(training: Training) -> list[float]:
    return [report.loss for report in training.epochs()]


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize(("model", "loss", "paths"), STATIC)
def test_replayed_batches_are_the_same(model: str, loss: str, paths: dict[str, object], device: str) -> None:
    config = small(model, loss, paths)
    eager, replayed = Training(without(config), GRAPH, device=device), begun(config, device)
    assert losses(replayed) == pytest.approx(losses(eager), rel=0 if device == "cpu" else 1e-3)
    assert_same(replayed, eager, device)
    assert replayed._captured is not None
    assert replayed._captured._replay is not None
    if device == "cpu":
        assert replayed._captured._record.replays == FULL * 3 - 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize(("model", "loss", "paths"), STATIC)
def test_a_training_goes_on_from_its_state(model: str, loss: str, paths: dict[str, object], device: str) -> None:
    """Saved with a recording, continued without one, with the same one and with a new one."""
    config = small(model, loss, paths)
    straight, first = Training(without(config), GRAPH, device=device), begun(config, device)
    _, *expected = losses(straight)
    next(first.epochs())
    saved = _copied(first.state())
    for then in (Training(without(config), GRAPH, device=device), first, begun(config, device)):
        then.restore(_copied(saved))
        assert losses(then) == pytest.approx(expected, rel=0 if device == "cpu" else 1e-3)
        assert_same(then, straight, device)


def _copied(value: Any) -> Any:
    """As a file would give it back: no memory is shared."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("device", PLACES)
@pytest.mark.parametrize("size", [69, 1000])
def test_all_triples_in_one_batch_are_a_full_one(size: int, device: str) -> None:
    config = config_of(LONG | {"training.batch_size": size})
    replayed = begun(config, device)
    assert losses(replayed) == pytest.approx(
        losses(Training(without(config), GRAPH, device=device)), rel=0 if device == "cpu" else 1e-3
    )
    assert replayed._captured is not None
    assert replayed._captured._replay is not None


@pytest.mark.parametrize("device", PLACES)
def test_a_loss_stays_what_it_was(device: str) -> None:
    """Who keeps the loss of a batch does not have that of the next one."""
    config = config_of()
    kept = [loss for _, loss in begun(config, device).steps()]
    eager = [loss for _, loss in Training(without(config), GRAPH, device=device).steps()]
    torch.testing.assert_close(kept, eager)


@pytest.mark.parametrize("device", PLACES)
def test_trainings_in_turn_do_not_meet(device: str) -> None:
    """Two of one shape at once, batch by batch, share no memory of their graphs."""
    configs = [config_of(LONG | {"seed": seed, "training.max_epochs": 2}) for seed in (0, 1)]
    pair = [begun(each, device) for each in configs]
    for _ in range(2):
        for _ in zip(*(each.steps() for each in pair), strict=True):
            pass
    for config, training in zip(configs, pair, strict=True):
        eager = Training(without(config), GRAPH, device=device)
        for _ in range(2):
            list(eager.steps())
        assert_same(training, eager, device)


def test_a_training_that_is_over_is_gone() -> None:
    """Without a garbage collection: a graph keeps as much memory of a GPU as a batch takes."""
    training = Training(config_of(), GRAPH)
    training._captured = Captured(
        training.model.parameters(), rows=16, device="cpu", record=lambda work: (work(), lambda: None)
    )
    gc.disable()
    try:
        list(training.steps())
        model = weakref.ref(training.model)
        del training
        assert model() is None
    finally:
        gc.enable()


def worth(paths: dict[str, object], *, loss: str = "sce", graph: Dataset = GRAPH) -> bool:
    config = config_of(paths, loss=loss)
    training = Training(config, graph)
    return is_worth_it(config.training, training.model, training._type)


def test_only_small_batches_of_one_shape_are_captured() -> None:
    assert worth({})
    assert worth({}, loss="ns")
    assert not worth({"training.type": "k_vs_all"})
    assert not worth({"training.capture": False})
    assert not worth({"training.sub_batch_size": 16})


def test_a_batch_that_keeps_a_gpu_busy_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    size = GRAPH.num_entities
    monkeypatch.setattr("kge.captured._LARGEST", 2 * 16 * size)
    assert worth({})
    assert not worth({"training.batch_size": 17})
    monkeypatch.setattr("kge.captured._LARGEST", 16 * 2 * (1 + 4) * 8)  # both sides, the answer, four negatives, dim
    assert worth({}, loss="ns")
    assert not worth({"negatives.tail": 5}, loss="ns")
    assert not worth({"model.dim": 10}, loss="ns")


def test_on_the_cpu_nothing_is_captured() -> None:
    training = Training(config_of(), GRAPH)
    assert not training.is_captured
    assert captured(training.config.training, training.model, training._type, (), "cpu") is None


def test_capturing_is_no_part_of_what_a_training_is(tmp_path: Path) -> None:
    config = config_of({"training.max_epochs": 2})
    list(fit(without(config), GRAPH, directory=tmp_path))
    assert checkpoint.load(tmp_path / LAST, config=config)
    again = list(fit(config, GRAPH, directory=tmp_path))
    assert [each.replayed for each in again] == [True]


@needs_gpu
@pytest.mark.parametrize(("model", "loss", "paths"), STATIC)
def test_a_replay_does_not_synchronise(model: str, loss: str, paths: dict[str, object]) -> None:
    training, rows = begun(small(model, loss, paths), "cuda"), torch.arange(16)
    training.model.train()
    training._step(rows)
    training._step(rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training._step(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.parametrize("loss", ["sce", "sans"])
def test_large_batches_go_other_ways_on_a_gpu(loss: str) -> None:
    """Gradients of some thousand rows are sorted first."""
    graph = graphs.random_graph(entities=200, sizes=(9000, 10, 10))
    paths = {"training.batch_size": 4096, "regularizer": {"name": "n3", "weight": 0.1}, "model.dropout.entity": 0.2}
    config = config_of(LONG | {"training.max_epochs": 3} | paths, loss=loss)
    eager, replayed = Training(without(config), graph, device="cuda"), begun(config, "cuda", graph)
    assert losses(replayed) == pytest.approx(losses(eager), rel=1e-3)
    assert_same(replayed, eager, "cuda")


@needs_gpu
def test_validations_in_between_change_nothing(tmp_path: Path) -> None:
    """Ranking uses memory of its own; both trainings are saved and found by another one."""
    config = config_of(LONG | {"validation.every": 1}, loss="sans", model="transe")
    curves = [
        [each.loss for each in fit(each, GRAPH, directory=tmp_path / str(number), device="cuda")]
        for number, each in enumerate((config, without(config)))
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert len(list(fit(config, GRAPH, directory=tmp_path / "1", device="cuda"))) == 1
