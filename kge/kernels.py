"""Fast paths, each equal to a naive twin in the tests.

Shapes  B rows, E entities, D real numbers per entity, P pairs of a row and one of its answers.

Softmax cross-entropy of inner products, over all entities, and its gradients in closed form:

    s = q W^T,  p = softmax(s),  u = smoothing / (E - 1),  c = 1 - smoothing - u
    loss(b)   = w_b [ logsumexp(s_b) - c s_by - u sum_j s_bj ]
    d/dq_b    = w_b [ p_b W - c W_y - u sum_j W_j ]
    d/dW      = p^T (w q) - c scatter_y (w q) - u 1 (sum_b w_b q_b)^T

With several answers y and shares of them, which sum to 1, whatever has a y above is the sum over y of share x it.

One B x E block is held, and one for the smaller last batch: true answers and smoothing touch it in closed form,
never densely. In bfloat16 the three matrix products and the block are bfloat16; parameters, gradients and sums stay
float32.

Products of float32 matrices go to oneDNN on the CPU: torch.mm goes to MKL, which needs two to three times as long on
AMD's processors for these shapes. `torch.backends.mkldnn.enabled = False` turns that off.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

PART = 4 * 2**20  # scores in a block that is not kept: 16 MB, see _block
FEWEST = 32  # rows of such a block: each reads all candidates


def inner_products(query: Float[Tensor, "B D"], candidates: Float[Tensor, "E D"]) -> Float[Tensor, "B E"]:
    """The product query candidates^T; differentiable."""
    products: Tensor = _InnerProducts.apply(query, candidates)  # type: ignore[no-untyped-call]
    return products


class _InnerProducts(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, candidates: Tensor) -> Tensor:
        ctx.save_for_backward(query, candidates)
        return _product(query, candidates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        query, candidates = ctx.saved_tensors
        return _product(grad, candidates.T), _transposed_product(grad, query)


def _product(left: Float[Tensor, "N K"], right: Float[Tensor, "M K"]) -> Float[Tensor, "N M"]:
    """The product left right^T."""
    if not _takes_onednn(left):
        return torch.mm(left, right.T)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], None)
    return product


def _transposed_product(block: Float[Tensor, "B E"], rows: Float[Tensor, "B D"]) -> Float[Tensor, "E D"]:
    """block^T rows; oneDNN is fast where the long side comes second."""
    return _product(rows.T, block.T).T.contiguous() if _takes_onednn(block) else torch.mm(block.T, rows)


def _takes_onednn(tensor: Tensor) -> bool:
    is_float32 = tensor.device.type == "cpu" and tensor.dtype is torch.float32
    return is_float32 and tensor.numel() > 0 and _has_onednn() and torch._C._get_mkldnn_enabled()


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class LossAndGradients(NamedTuple):
    """The value of a loss, and its gradients by what it was made from."""

    value: Float[Tensor, ""]
    query: Float[Tensor, "B D"]
    candidates: Float[Tensor, "E D"]


@torch.no_grad()
def softmax_cross_entropy(
    query: Float[Tensor, "B D"],
    candidates: Float[Tensor, "E D"],
    target: Int[Tensor, " P"],
    weight: Float[Tensor, " B"],
    *,
    smoothing: float,
    bfloat16: bool,
    row: Int[Tensor, " P"] | None = None,
    share: Float[Tensor, " P"] | None = None,
) -> LossAndGradients:
    """Sum over rows of the weighted, smoothed cross-entropy, with its gradients; autograd sees nothing of it.

    `target` is the answer of each row, or with `row` and `share` one answer of that row and its share.
    """
    assert (row is None) == (share is None)
    dtype = torch.bfloat16 if bfloat16 else query.dtype
    smoothing = smoothing if len(candidates) > 1 else 0.0  # a single entity has no others to smooth over
    spread = smoothing / max(1, len(candidates) - 1)
    kept = 1 - smoothing - spread
    rows, table = query.to(dtype), candidates.to(dtype)
    weighted = query * weight[:, None]

    block = _probabilities(rows, table)
    true_p = (block.gather(1, target[:, None]).squeeze(1) if row is None else block[row, target]).to(query.dtype)
    answer, total = _mean_answer(candidates, target, row, share, rows=len(query)), candidates.sum(dim=0)
    log_p = true_p.log_()
    if row is not None and share is not None:
        log_p = query.new_zeros(len(query)).index_add_(0, row, log_p.mul_(share))
    vanished = log_p.isneginf()
    if may_hold(vanished):
        top_p, top = block.max(dim=1)  # which has not vanished
        far = top_p.to(query.dtype).log_().add_(torch.linalg.vecdot(query, answer - candidates[top]))
        log_p = torch.where(vanished, far, log_p)
    loss = torch.linalg.vecdot(query, answer).mul_(1 - kept).sub_(log_p).sub_(spread * (query @ total))

    of_query = _product(block, table.T).to(query.dtype)
    of_query.sub_(answer, alpha=kept).sub_(spread * total).mul_(weight[:, None])
    of_candidates = _transposed_product(block, weighted.to(dtype)).to(query.dtype)
    if row is None or share is None:
        of_candidates.index_add_(0, target, weighted, alpha=-kept)
    else:
        for part, of_row, shared in _parts(target, row, share, rows=len(query)):
            of_candidates.index_add_(0, part, weighted[of_row].mul_(shared[:, None]), alpha=-kept)
    if smoothing:
        of_candidates.sub_(spread * weighted.sum(dim=0))
    return LossAndGradients(torch.dot(loss, weight), of_query, of_candidates)


def may_hold(marks: Tensor) -> bool:
    """Whether a mark is set; True without a look where a GPU would have to be waited for."""
    return marks.is_cuda or bool(marks.any())


def _probabilities(query: Tensor, candidates: Tensor) -> Tensor:
    """softmax(query candidates^T), in the kept block."""
    block = _block(len(query), len(candidates), query.dtype, query.device)
    if not _takes_onednn(query):  # which fills no block that it is given
        return torch.softmax(torch.mm(query, candidates.T, out=block), dim=1, out=block)
    rows = max(FEWEST, PART // len(candidates))
    for part, into in zip(query.split(rows), block.split(rows), strict=True):
        torch.softmax(_product(part, candidates), dim=1, out=into)
    return block


def _mean_answer(
    candidates: Tensor, target: Tensor, row: Tensor | None, share: Tensor | None, *, rows: int
) -> Float[Tensor, "B D"]:
    """The vector of each row's answer, or the mean of those of all its answers by their shares."""
    if row is None or share is None:
        return candidates[target]
    mean = candidates.new_zeros(rows, candidates.shape[1])
    for part, of_row, shared in _parts(target, row, share, rows=rows):
        mean.index_add_(0, of_row, candidates[part].mul_(shared[:, None]))
    return mean


def _parts(*pairs: Tensor, rows: int) -> Iterator[tuple[Tensor, ...]]:
    """What is known of the pairs, no more of them at a time than there are rows: a query may have thousands."""
    return zip(*(each.split(rows) for each in pairs), strict=True)


@lru_cache(maxsize=2)
def _block(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A kept block of scores: fresh blocks above 32 MB make glibc map and unmap memory on every step."""
    return torch.empty(rows, columns, dtype=dtype, device=device)


def forget_blocks() -> None:
    """Give the kept blocks back."""
    _block.cache_clear()
