"""The compiled distances to all entities against their naive twins: the models without their fused path."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kge import native
from kge.models.base import AbstractModel
from kge.models.distances import distance_scores
from tests.kge import graphs
from tests.kge.threads import threads

MODELS = {"l1": ("transe", {"norm": 1}), "l2": ("transe", {"norm": 2}), "moduli": ("rotate", {})}
SIZES = [(0, 5, 4), (1, 1, 2), (1, 300, 34), (4, 7, 6), (9, 33, 128), (30, 700, 50), (6, 40, 9000)]

pytestmark = pytest.mark.parametrize("distance", MODELS)


def _model(distance: str) -> AbstractModel:
    name, options = MODELS[distance]
    return graphs.build(name, entities=2, relations=1, dim=4, **options)


def _plain(distance: str) -> Callable[[Tensor, Tensor], Tensor]:
    model = _model(distance).eval()  # in training L2 takes a short cut
    model.fused = False
    return model.compare


def _fused(distance: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda query, candidates: distance_scores(query, candidates, distance)


def _inputs(rows: int, entities: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Half of the coordinates are few whole numbers: differences of zero are common."""
    generator = torch.Generator().manual_seed(rows + entities + dim)
    query, table = (torch.randn(size, dim, generator=generator) for size in (rows, entities))
    query[:, ::2], table[:, ::2] = query[:, ::2].round(), table[:, ::2].round()
    if rows:
        table[-1] = query[-1]
    return query, table, torch.randn(rows, entities, generator=generator)


def _values(
    compare: Callable[[Tensor, Tensor], Tensor], query: Tensor, table: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    leaves = query.clone().requires_grad_(), table.clone().requires_grad_()
    scores = compare(*leaves)
    return scores.detach(), *torch.autograd.grad(scores, leaves, grad.to(scores.dtype))


@pytest.mark.parametrize("size", SIZES)
def test_scores_and_gradients_are_those_of_the_plain_formula(distance: str, size: tuple[int, int, int]) -> None:
    query, table, grad = _inputs(*size)
    exact = _values(_plain(distance), query.double(), table.double(), grad)
    for mine, twin in zip(_values(_fused(distance), query, table, grad), exact, strict=True):
        assert mine.dtype is torch.float32
        torch.testing.assert_close(mine.double(), twin, rtol=2e-5, atol=2e-5)


def test_the_model_takes_the_compiled_path_for_float32_alone(distance: str) -> None:
    query, table, _ = _inputs(9, 33, 128)
    for training in (False, True):
        model = _model(distance).train(training)
        assert torch.equal(model.compare(query, table), distance_scores(query, table, distance))
        assert model.compare(query.double(), table.double()).dtype is torch.float64


def test_without_numba_the_plain_formula_runs(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, table, grad = _inputs(9, 33, 128)
    monkeypatch.setattr(native, "_installed", lambda: False)
    for mine, twin in zip(
        _values(_model(distance).eval().compare, query, table, grad),
        _values(_plain(distance), query, table, grad),
        strict=True,
    ):
        assert torch.equal(mine, twin)


def test_values_do_not_depend_on_threads(distance: str) -> None:
    inputs, found = _inputs(30, 700, 50), []
    for each in (1, 2, 3):
        with threads(each):
            found.append(_values(_fused(distance), *inputs))
    for other in found[1:]:
        assert all(torch.equal(mine, one) for mine, one in zip(other, found[0], strict=True))


def test_a_score_depends_on_neither_its_row_nor_its_place(distance: str) -> None:
    """Equal entities tie, and blocks of queries change no rank."""
    query, table, _ = _inputs(30, 700, 50)
    table = torch.cat([table, table[:77].flip(0)])
    scores = distance_scores(query, table, distance)
    assert torch.equal(scores[:, :77], scores[:, 700:].flip(1))
    assert torch.equal(scores[13:14], distance_scores(query[13:14], table, distance))


def test_equal_vectors_have_no_distance_and_no_gradient(distance: str) -> None:
    query, *_ = _inputs(9, 33, 128)
    scores, *gradients = _values(_fused(distance), query[:1], query[:1], torch.ones(1, 1))
    assert scores.item() == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e38])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_is_seen(distance: str, place: int, value: float) -> None:
    inputs = _inputs(9, 33, 128)
    inputs[place][5, 100] = value
    if value == 1e38:
        inputs[place][5] = value
    scores = distance_scores(*inputs[:2], distance)
    bad = scores[5] if place == 0 else scores[:, 5]
    assert not torch.isfinite(bad).any()
    assert torch.isfinite(scores).sum() == scores.numel() - bad.numel()


def test_gradients_of_a_sum_and_of_tables_in_another_order(distance: str) -> None:
    """Neither needs to lie in memory row after row."""
    query, table, _ = _inputs(9, 33, 128)
    ones = torch.ones(9, 33)
    expected = _values(_fused(distance), query, table, ones)
    leaves = query.T.contiguous().T.requires_grad_(), table.T.contiguous().T.requires_grad_()
    distance_scores(*leaves, distance).sum().backward()
    for leaf, twin in zip(leaves, expected[1:], strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, twin)
