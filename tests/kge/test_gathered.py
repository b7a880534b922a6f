"""Compiled comparisons of queries with rows of a table against their plain twin, which copies those rows."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kge import native
from kge.building import build_model, build_training_type, generator
from kge.config import TrainingConfig
from kge.gathered import AbstractPairs, _InPlace, compared
from kge.losses import LOSSES
from kge.losses.base import AbstractSamplingLoss
from kge.models import MODELS
from kge.models.base import AbstractModel
from tests.kge import graphs

GRAPH = graphs.random_graph()
ROWS = torch.arange(3, 40)
SAMPLING = [name for name, each in LOSSES.items() if issubclass(each, AbstractSamplingLoss)]
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "dropout": {"model.dropout.entity": 0.3, "model.dropout.relation": 0.2, "model.dropout.query": 0.1},
    "parts": {"training.sub_batch_size": 10},
    "filtered": {"negatives.filtered": True},
    "one": {"negatives.tail": 1},
}
FURTHER: list[tuple[str, str, dict[str, object]]] = [
    ("transe", "sans", {"model.norm": 2}),
    ("transe", "margin_ranking", {"model.norm": 2, "training.sub_batch_size": 10}),
    ("rotate", "sans", {"loss.subsampling": "freq", "training.sub_batch_size": 10}),
    ("complex", "tans", {"loss.subsampling": "base", "loss.query_temperature": 0.5}),
    ("complex", "ns_freq", {"loss.noise": "sampled", "model.reciprocal": True}),
    ("transe", "ns", {"model.dim": 7}),
    ("rotate", "ns", {"model.dim": 38}),
]
COMPARISONS = [("complex", {}), ("transe", {"norm": 1}), ("transe", {"norm": 2}), ("rotate", {})]


def _step(config: TrainingConfig, *, fused: bool) -> list[Tensor]:
    """The value of a batch and all gradients."""
    model = build_model(config, num_entities=GRAPH.num_entities, num_relations=GRAPH.num_relations).train()
    model.use_generator(generator(config.seed, "dropout"))
    model.fused = fused
    value = build_training_type(config, GRAPH, device="cpu", fused=fused).backward(model, ROWS)
    return [value, *(each.grad for each in model.parameters() if each.grad is not None)]


def _assert_same(mine: list[Tensor], twin: list[Tensor]) -> None:
    for each, expected in zip(mine, twin, strict=True):
        torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("loss", SAMPLING)
@pytest.mark.parametrize("model", MODELS)
def test_a_batch_is_that_of_the_plain_formula(model: str, loss: str, options: dict[str, object]) -> None:
    reciprocal = {"model.reciprocal": MODELS[model].reciprocal_only}
    config = graphs.config({**reciprocal, **options}, model=model, loss=loss)
    _assert_same(_step(config, fused=True), _step(config, fused=False))


@pytest.mark.parametrize(("model", "loss", "options"), FURTHER)
def test_options_of_models_and_losses_change_nothing_of_that(model: str, loss: str, options: dict[str, object]) -> None:
    config = graphs.config(options, model=model, loss=loss)
    _assert_same(_step(config, fused=True), _step(config, fused=False))


def _inputs(ids: Tensor, *, entities: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, of which the first is the first row of the table, the table, and a gradient of the scores."""
    draws = torch.Generator().manual_seed(0)
    table = torch.randn(entities, dim, generator=draws)
    query = torch.randn(len(ids), dim, generator=draws)
    query[0] = table[0]
    return query, table, torch.randn(ids.shape, generator=draws)


def _model(name: str, options: dict[str, Any], *, fused: bool) -> AbstractModel:
    model = graphs.build(name, entities=2, relations=1, dim=2, **options)
    model.fused = fused
    return model


def _compared(pairs: AbstractPairs, of_scores: Tensor, query: Tensor, table: Tensor) -> list[Tensor]:
    """Scores and both gradients, the latter on top of 1."""
    of_query, of_table = torch.ones_like(query), torch.ones_like(table)
    pairs.add_gradients(of_scores, of_query, of_table)
    return [pairs.scores, of_query, of_table]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_that_names_its_comparison_is_compared_in_place(name: str) -> None:
    model = graphs.build(name, entities=5, relations=1, dim=4)
    ids = torch.tensor([[0, 1]])
    for dtype, fused in ((torch.float32, True), (torch.float32, False), (torch.float64, True)):
        model.fused = fused
        pairs = compared(model, torch.ones(1, 4, dtype=dtype), torch.ones(5, 4, dtype=dtype), ids)
        in_place = model.comparison is not None and fused and dtype is torch.float32
        assert isinstance(pairs, _InPlace) == in_place


@pytest.mark.parametrize("ids", [[[0]], [[0, 0, 0], [1, 0, 1]], [[4, 3, 2, 0], [0, 1, 2, 3], [3, 3, 3, 3]]])
@pytest.mark.parametrize("dim", [2, 6, 70])
@pytest.mark.parametrize(("name", "options"), COMPARISONS)
def test_repeated_ids_and_differences_of_zero(
    name: str, options: dict[str, Any], dim: int, ids: list[list[int]]
) -> None:
    query, table, of_scores = _inputs(torch.tensor(ids), entities=5, dim=dim)
    both = [
        _compared(
            compared(_model(name, options, fused=fused), query, table, torch.tensor(ids)), of_scores, query, table
        )
        for fused in (True, False)
    ]
    assert all(each.isfinite().all() for each in both[0])
    _assert_same(*both)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("name", "options"), COMPARISONS)
def test_values_do_not_depend_on_the_number_of_threads(name: str, options: dict[str, Any], threads: int) -> None:
    ids = torch.randint(9, (50, 31), generator=torch.Generator().manual_seed(1))
    query, table, of_scores = _inputs(ids, entities=10, dim=70)
    results = []
    for count in (1, threads):
        torch.set_num_threads(count)
        pairs = compared(_model(name, options, fused=True), query, table, ids)
        results.append(_compared(pairs, of_scores, query, table))
    for one, several in zip(*results, strict=True):
        assert torch.equal(one, several)


@pytest.mark.parametrize("rows", [1, 2, 2048, 2049, 300_000, 5_000_000])
def test_pairs_are_sorted_by_their_ids_and_else_keep_their_order(rows: int) -> None:
    from kge.native.gathered import by_id

    ids = np.random.default_rng(0).integers(rows, size=(40, 25))
    ids[3, :7] = rows - 1
    order = by_id(ids, rows)
    assert np.array_equal(order % 2**32, np.argsort(ids, axis=None, kind="stable"))
    assert np.array_equal(order >> 32, np.sort(ids, axis=None))


def test_a_nan_reaches_the_scores() -> None:
    ids = torch.tensor([[0, 1], [1, 1]])
    for name, options in COMPARISONS:
        query, table, _ = _inputs(ids, entities=2, dim=40)
        table[0, 11] = torch.nan
        scores = compared(_model(name, options, fused=True), query, table, ids).scores
        assert scores.isnan().tolist() == [[True, False], [False, False]]


def test_without_numba_the_plain_formula_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    config = graphs.config(loss="sans")
    monkeypatch.setitem(sys.modules, "numba", None)
    native._installed.cache_clear()
    try:
        without = _step(config, fused=True)
    finally:
        native._installed.cache_clear()
    for mine, twin in zip(without, _step(config, fused=False), strict=True):
        assert torch.equal(mine, twin)
