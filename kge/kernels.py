"""Fast paths, each equal to a naive twin in the tests.

Shapes  B rows, E entities, D real numbers per entity, P pairs of a row and one of its answers.

Softmax cross-entropy of inner products, over all entities, with its gradients in closed form:

    s = q W^T,  p = softmax(s),  u = smoothing / (E - 1),  c = 1 - smoothing - u
    loss(b)   = w_b [ logsumexp(s_b) - c s_by - u sum_j s_bj ]
    d/dq_b    = w_b [ p_b W - c W_y - u sum_j W_j ]
    d/dW      = p^T (w q) - c scatter_y (w q) - u 1 (sum_b w_b q_b)^T

With several answers y and shares of them, which sum to 1, whatever has a y above is the sum over y of share x it.

Only one B x E block is ever held: true answers and smoothing touch it in closed form, never densely. In
bfloat16 the three matrix products and the block are bfloat16; parameters, gradients and sums stay float32.
"""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function

_TINY = 1e-37  # the smallest probability whose logarithm the loss reports


def softmax_cross_entropy(
    query: Float[Tensor, "B D"],
    candidates: Float[Tensor, "E D"],
    target: Int[Tensor, " P"],
    weight: Float[Tensor, " B"] | None,
    *,
    smoothing: float,
    bfloat16: bool,
    row: Int[Tensor, " P"] | None = None,
    share: Float[Tensor, " P"] | None = None,
) -> Float[Tensor, ""]:
    """Sum over rows of the weighted, smoothed cross-entropy; differentiable in query and candidates.

    `target` is the answer of each row, or with `row` and `share` one answer of that row and its share.
    """
    assert (row is None) == (share is None)
    dtype = torch.bfloat16 if bfloat16 else query.dtype
    result: Tensor = _SoftmaxCrossEntropy.apply(query, candidates, target, weight, smoothing, dtype, row, share)  # type: ignore[no-untyped-call]
    return result


class _SoftmaxCrossEntropy(Function):
    """Both gradients are computed with the value, so that the block can be given back at once."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 (what apply() hands over)
        ctx: Any,
        query: Tensor,
        candidates: Tensor,
        target: Tensor,
        weight: Tensor | None,
        smoothing: float,
        dtype: torch.dtype,
        row: Tensor | None,
        share: Tensor | None,
    ) -> Tensor:
        spread = smoothing / (len(candidates) - 1)
        kept = 1 - smoothing - spread
        rows, table = query.to(dtype), candidates.to(dtype)
        weighted = query if weight is None else query * weight[:, None]

        block = torch.mm(rows, table.T, out=_block(len(query), len(candidates), dtype, query.device))
        true_score = _picked(block, row, target).to(query.dtype)
        torch.softmax(block, dim=1, out=block)
        true_p = _picked(block, row, target).to(query.dtype).clamp_min(_TINY)
        total = candidates.sum(dim=0)
        loss = _row_sum(true_score * (1 - kept) - true_p.log(), row, share, len(query)) - spread * (query @ total)

        grad_query = torch.mm(block, table).to(query.dtype)
        grad_query.sub_(_row_sum(kept * candidates[target], row, share, len(query))).sub_(spread * total)
        grad_candidates = torch.mm(block.T, weighted.to(dtype)).to(query.dtype)
        answered = weighted if row is None or share is None else weighted[row] * share[:, None]
        grad_candidates.index_add_(0, target, answered, alpha=-kept)
        if smoothing:
            grad_candidates.sub_(spread * weighted.sum(dim=0))
        if weight is not None:
            loss = loss * weight
            grad_query.mul_(weight[:, None])
        ctx.save_for_backward(grad_query, grad_candidates)
        return loss.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_query, grad_candidates = ctx.saved_tensors
        return grad * grad_query, grad * grad_candidates, None, None, None, None, None, None


def _picked(block: Tensor, row: Tensor | None, target: Tensor) -> Tensor:
    """The entry of each answer."""
    return block.gather(1, target[:, None]).squeeze(1) if row is None else block[row, target]


def _row_sum(values: Tensor, row: Tensor | None, share: Tensor | None, rows: int) -> Tensor:
    """Sum over the answers of each row, by their shares; of a single answer its value."""
    if row is None or share is None:
        return values
    shared = values * share.view(-1, *[1] * (values.dim() - 1))
    return values.new_zeros(rows, *values.shape[1:]).index_add_(0, row, shared)


@lru_cache(maxsize=2)
def _block(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A kept block of scores: fresh blocks above 32 MB make glibc map and unmap memory on every step."""
    return torch.empty(rows, columns, dtype=dtype, device=device)


def forget_blocks() -> None:
    """Give the kept blocks back."""
    _block.cache_clear()
