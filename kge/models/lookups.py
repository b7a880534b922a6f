"""Rows of a table, and gradients that are added where they belong.

Left to autograd, each lookup of a step makes a gradient of the size of the whole table, zero but for its rows, and
then adds it to the others. Here a parameter's gradient is added to the parameter's own at once, row by row. This is
for `backward`: torch.autograd.grad does not see it.

Shapes  R rows of a table, W numbers each.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn.functional import embedding


def lookup(table: Float[Tensor, "R W"], ids: Int[Tensor, "..."]) -> Float[Tensor, "... W"]:
    """The rows of these ids; differentiable once."""
    rows: Tensor = _Lookup.apply(table, ids)  # type: ignore[no-untyped-call]
    return rows


def gradient_of(values: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a backward pass adds the gradient of its input to, and what it then returns for it."""
    if not (isinstance(values, nn.Parameter) and values.requires_grad):
        gradient = torch.zeros_like(values)
        return gradient, gradient
    if values.grad is None:
        values.grad = torch.zeros_like(values)
    return values.grad, None


def backward(values: Tensor, gradient: Tensor) -> None:
    """`values.backward(gradient)`, but for a parameter without a gradient, which takes this very tensor as its own."""
    if values.is_leaf and values.grad is None:
        values.grad = gradient
    else:
        values.backward(gradient)


class _Lookup(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table = table  # itself: what is saved may come back as a copy, whose gradient nobody asks for
        return embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        (ids,) = ctx.saved_tensors
        of_table, returned = gradient_of(ctx.table)
        of_table.index_add_(0, ids.flatten(), gradient.reshape(-1, of_table.shape[1]))
        return returned, None
