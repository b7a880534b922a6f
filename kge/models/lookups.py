"""Rows of a table, and gradients that are added where they belong.

Left to autograd, each lookup of a step makes a gradient of the size of the whole table, zero but for its rows, and
then adds it to the others. Here a parameter's gradient is added to the parameter's own at once, row by row. This is
for `backward`: torch.autograd.grad does not see it.

Shapes  R rows of a table, W numbers each.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn.functional import embedding


def lookup(table: Float[Tensor, "R W"], ids: Int[Tensor, "..."]) -> Float[Tensor, "... W"]:
    """The rows of these ids; differentiable once."""
    rows: Tensor = _Lookup.apply(table, ids)  # type: ignore[no-untyped-call]
    return rows


def accumulator(values: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a backward pass adds the gradient of its input to, and what it returns for it."""
    if not values.is_leaf:
        gradient = torch.zeros_like(values)
        return gradient, gradient
    if values.grad is None:
        values.grad = torch.zeros_like(values)
    return values.grad, None


def accumulate(values: Tensor, gradient: Tensor) -> None:
    """Run the backward pass of values with their gradient, which a parameter without one keeps: nobody else may."""
    if values.is_leaf and values.grad is None:
        values.grad = gradient
    else:
        values.backward(gradient)


class _Lookup(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(table, ids)
        return embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        table, ids = ctx.saved_tensors
        of_table, returned = accumulator(table)
        of_table.index_add_(0, ids.flatten(), gradient.reshape(-1, table.shape[1]))
        return returned, None
