"""The fused softmax cross-entropy against its naive twin: the loss's own rows and autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function, gradcheck

from kge import kernels
from kge.kernels import LossAndGradients, inner_products, softmax_cross_entropy
from kge.losses.sce_ls import SCELabelSmoothing

B, E, D = 9, 13, 6


def _inputs(
    dtype: torch.dtype, *, rows: int = B, entities: int = E, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = scale * torch.randn(rows, D, dtype=dtype, generator=generator)
    candidates = torch.randn(entities, D, dtype=dtype, generator=generator)
    target = torch.randint(3, (rows,), generator=generator)  # few targets: they repeat
    return query, candidates, target


def _weight(dtype: torch.dtype, *, weighted: bool) -> Tensor | None:
    return 3 * torch.rand(B, dtype=dtype, generator=torch.Generator().manual_seed(1)) if weighted else None


def _fused(
    query: Tensor,
    candidates: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    smoothing: float,
    bfloat16: bool = False,
) -> LossAndGradients:
    weight = query.new_ones(len(query)) if weight is None else weight
    return softmax_cross_entropy(query, candidates, target, weight, smoothing=smoothing, bfloat16=bfloat16)


def _naive(
    query: Tensor, candidates: Tensor, target: Tensor, weight: Tensor | None, *, smoothing: float
) -> LossAndGradients:
    query, candidates = query.clone().requires_grad_(), candidates.clone().requires_grad_()
    rows = SCELabelSmoothing(smoothing=smoothing).rows(query @ candidates.T, target)
    loss = rows.sum() if weight is None else rows @ weight
    loss.backward()
    assert query.grad is not None
    assert candidates.grad is not None
    return LossAndGradients(loss.detach(), query.grad, candidates.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_fused_equals_naive(dtype: torch.dtype, smoothing: float, weighted: bool) -> None:
    inputs, weight = _inputs(dtype), _weight(dtype, weighted=weighted)
    fused = _fused(*inputs, weight, smoothing=smoothing)
    naive = _naive(*inputs, weight, smoothing=smoothing)
    tolerance = 1e-12 if dtype is torch.float64 else 2e-5
    for mine, twin in zip(fused, naive, strict=True):
        assert mine.dtype is dtype
        torch.testing.assert_close(mine, twin, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_several_answers_equal_their_rows_by_their_shares(smoothing: float) -> None:
    query, candidates, _ = _inputs(torch.float64)
    weight = _weight(torch.float64, weighted=True)
    assert weight is not None
    counts = torch.tensor([1, 5, 2, 7, 1, 3, 12, 1, 2])  # more in all, and of one row, than there are rows
    row = torch.arange(B).repeat_interleave(counts)
    target = torch.cat([torch.randperm(E, generator=torch.Generator().manual_seed(int(n)))[:n] for n in counts])
    share = torch.rand(len(row), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    share /= share.new_zeros(B).index_add(0, row, share)[row]
    many = softmax_cross_entropy(
        query, candidates, target, weight, smoothing=smoothing, bfloat16=False, row=row, share=share
    )
    naive = _naive(query[row], candidates, target, weight[row] * share, smoothing=smoothing)
    of_query = torch.zeros_like(query).index_add(0, row, naive.query)
    for mine, twin in zip(many, naive._replace(query=of_query), strict=True):
        torch.testing.assert_close(mine, twin, rtol=1e-12, atol=1e-12)


def test_a_single_entity_has_no_others_to_smooth_over() -> None:
    query, candidates = torch.randn(2, D, dtype=torch.float64), torch.randn(1, D, dtype=torch.float64)
    fused = _fused(query, candidates, torch.zeros(2, dtype=torch.int64), None, smoothing=0.3)
    for mine in fused:
        torch.testing.assert_close(mine, torch.zeros_like(mine), rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_bfloat16_is_near_and_keeps_float32_gradients(smoothing: float, weighted: bool) -> None:
    inputs, weight = _inputs(torch.float32), _weight(torch.float32, weighted=weighted)
    fused = _fused(*inputs, weight, smoothing=smoothing, bfloat16=True)
    naive = _naive(*inputs, weight, smoothing=smoothing)
    for mine, twin in zip(fused, naive, strict=True):
        assert mine.dtype is torch.float32
        assert (mine - twin).norm() < 0.02 * twin.norm()


def test_bfloat16_gradients_are_unbiased_enough_to_train() -> None:
    query, candidates, target = _inputs(torch.float32, rows=400, entities=300)
    fused = _fused(query, candidates, target, None, smoothing=0.0, bfloat16=True)
    naive = _naive(query, candidates, target, None, smoothing=0.0)
    for mine, twin in zip(fused[1:], naive[1:], strict=True):
        assert torch.nn.functional.cosine_similarity(mine.flatten(), twin.flatten(), dim=0) > 0.999


def test_gradients_are_finite_differences() -> None:
    query, candidates, target = _inputs(torch.float64)
    weight = _weight(torch.float64, weighted=True)

    class Loss(Function):
        @staticmethod
        def forward(ctx: Any, query: Tensor, candidates: Tensor) -> Tensor:
            loss = _fused(query, candidates, target, weight, smoothing=0.3)
            ctx.save_for_backward(loss.query, loss.candidates)
            return loss.value

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
            return tuple(grad * each for each in ctx.saved_tensors)

    assert gradcheck(Loss.apply, (query.requires_grad_(), candidates.requires_grad_()))


def test_the_kept_block_does_not_leak_between_calls() -> None:
    first, second = _inputs(torch.float32), _inputs(torch.float32, scale=2.0)
    loss = _fused(*first, None, smoothing=0.3)
    before = [each.clone() for each in loss]
    _fused(*second, None, smoothing=0.0)  # fills the same block anew
    for now, then in zip(loss, before, strict=True):
        assert torch.equal(now, then)


def test_extreme_scores_give_the_right_value_and_gradients() -> None:
    inputs = _inputs(torch.float32, scale=200.0)
    fused, naive = _fused(*inputs, None, smoothing=0.1), _naive(*inputs, None, smoothing=0.1)
    torch.testing.assert_close(fused.value, naive.value)
    for mine, twin in zip(fused[1:], naive[1:], strict=True):
        torch.testing.assert_close(mine, twin, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_extreme_scores_give_the_right_value_in_bfloat16_too(smoothing: float) -> None:
    inputs = _inputs(torch.float32, scale=2000.0)
    fused = _fused(*inputs, None, smoothing=smoothing, bfloat16=True)
    torch.testing.assert_close(fused.value, _naive(*inputs, None, smoothing=smoothing).value, rtol=0.01, atol=0)


def test_extreme_scores_give_the_right_value_of_several_answers() -> None:
    query, candidates, target = _inputs(torch.float32, scale=200.0)
    row, weight = torch.arange(3).repeat_interleave(3), query.new_ones(3)
    share = torch.tensor([0.2, 0.5, 0.3]).repeat(3)
    fused = softmax_cross_entropy(
        query[:3], candidates, target, weight, smoothing=0.0, bfloat16=False, row=row, share=share
    )
    log_p = torch.log_softmax(query[:3] @ candidates.T, dim=1)[row, target]
    torch.testing.assert_close(fused.value, -(share * log_p).sum())


@pytest.mark.parametrize("place", [0, 1])
def test_a_nan_reaches_the_value(place: int) -> None:
    inputs = _inputs(torch.float32)
    inputs[place][0, 0] = float("nan")
    assert torch.isnan(_fused(*inputs, None, smoothing=0.0).value)


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("shape", [(0, 5, 3), (1, 1, 1), (3, 500, 7), (70, 41, 130)])
def test_inner_products_and_their_gradients(
    shape: tuple[int, int, int], onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn)
    rows, entities, dim = shape
    generator = torch.Generator().manual_seed(0)
    query, table = (torch.randn(size, dim, generator=generator) for size in (rows, entities))
    grad = torch.randn(rows, entities, generator=generator)
    mine, twin = (
        [each.clone().requires_grad_() for each in (query.to(t), table.to(t))] for t in (torch.float32, torch.float64)
    )
    products = inner_products(*mine)
    products.backward(grad)
    expected = twin[0] @ twin[1].T
    expected.backward(grad.double())
    torch.testing.assert_close(products.double(), expected, rtol=1e-5, atol=1e-4)
    for leaf, other in zip(mine, twin, strict=True):
        torch.testing.assert_close(leaf.grad.double(), other.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("onednn", [False, True])
def test_a_block_made_in_parts_is_the_block(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn)
    monkeypatch.setattr(kernels, "PART", 0)
    monkeypatch.setattr(kernels, "FEWEST", 7)
    inputs = _inputs(torch.float32, rows=30)
    fused = _fused(*inputs, None, smoothing=0.1)
    naive = _naive(*inputs, None, smoothing=0.1)
    for mine, twin in zip(fused, naive, strict=True):
        torch.testing.assert_close(mine, twin, rtol=2e-5, atol=2e-5)
