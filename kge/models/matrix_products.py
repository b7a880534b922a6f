"""Products of vectors with the matrices of their relations, without a matrix per row in memory.

    forward     y_b = x_b M_r(b)          or  M_r(b) x_b  when transposed
    backward    dM_r = sum over the rows b of r of  x_b^T dy_b

With D = 128 and 512 rows the gathered matrices are 33 MB, and dropout makes three more blocks of that size:
memory traffic then costs several times what the products do. Here a few rows at a time stay in the cache;
without dropout each distinct matrix is read once, where it lies. Values and masks are those of gathering,
dropping and multiplying, which is what a model does without its fused path.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.models.dropout import Dropout

_ROWS = 16  # of 64 KB each with D = 128: a megabyte, which a core's cache holds

Vectors = Float[Tensor, "B D"]
Matrices = Float[Tensor, "R W"]  # W = D * D
Ids = Int[Tensor, " B"]


def product(vectors: Vectors, rows: Float[Tensor, "B D D"], *, transposed: bool) -> Vectors:
    """Each vector with a matrix of its own."""
    if transposed:
        return torch.bmm(rows, vectors.unsqueeze(2)).squeeze(2)
    return torch.bmm(vectors.unsqueeze(1), rows).squeeze(1)


def products(vectors: Vectors, matrices: Matrices, r: Ids, *, transposed: bool, dropout: Dropout) -> Vectors:
    """Each vector with the matrix of its relation, whose entries are dropped for each row anew."""
    if not dropout.is_active:
        grouped: Tensor = _Grouped.apply(vectors, matrices, r, transposed)  # type: ignore[no-untyped-call]
        return grouped
    dim = vectors.shape[1]
    kept = torch.empty(len(r), dim, dim, dtype=torch.bool)
    for part in kept.split(_ROWS):
        part.copy_(dropout.kept(part.shape, part.device))
    dropped: Tensor = _Dropped.apply(vectors, matrices, r, transposed, kept)  # type: ignore[no-untyped-call]
    return dropped * dropout.scale


class _Grouped(torch.autograd.Function):
    """Rows of one relation together, so that a matrix is read once."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, matrices: Tensor, r: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(vectors, matrices, r)
        ctx.transposed = transposed
        products = torch.empty_like(vectors)
        for relation, rows in _groups(r):
            matrix = _matrix(matrices, relation, transposed)
            products[rows] = vectors[rows] @ matrix
        return products

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, matrices, r = ctx.saved_tensors
        of_vectors, of_matrices = torch.empty_like(vectors), torch.zeros_like(matrices)
        for relation, rows in _groups(r):
            x, y = vectors[rows], gradient[rows]
            of_vectors[rows] = y @ _matrix(matrices, relation, ctx.transposed).T
            _matrix(of_matrices, relation, ctx.transposed).copy_(x.T @ y)
        return of_vectors, of_matrices, None, None


def _groups(r: Tensor) -> Iterator[tuple[int, Tensor]]:
    order = torch.argsort(r, stable=True)
    relations, counts = torch.unique_consecutive(r[order], return_counts=True)
    return zip(relations.tolist(), order.split(counts.tolist()), strict=True)


def _matrix(matrices: Tensor, relation: int, transposed: bool) -> Tensor:
    dim = round(matrices.shape[1] ** 0.5)
    matrix = matrices[relation].view(dim, dim)
    return matrix.T if transposed else matrix


class _Dropped(torch.autograd.Function):
    """A few rows at a time, each with a mask of its own; the scale is applied outside."""

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        matrices: Tensor,
        r: Tensor,
        transposed: bool,
        kept: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(vectors, matrices, r, kept)
        ctx.transposed = transposed
        products = [
            product(x, _masked(matrices, ids, mask), transposed=transposed)
            for x, ids, mask in zip(*(each.split(_ROWS) for each in (vectors, r, kept)), strict=True)
        ]
        return torch.cat(products)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, matrices, r, kept = ctx.saved_tensors
        of_matrices, of_vectors = torch.zeros_like(matrices), []
        parts = (each.split(_ROWS) for each in (vectors, gradient, r, kept))
        for x, y, ids, mask in zip(*parts, strict=True):
            of_vectors.append(product(y, _masked(matrices, ids, mask), transposed=not ctx.transposed))
            left, right = (y, x) if ctx.transposed else (x, y)
            outer = (left.unsqueeze(2) * right.unsqueeze(1)).mul_(mask.to(left.dtype))
            of_matrices.index_add_(0, ids, outer.flatten(1))
        return torch.cat(of_vectors), of_matrices, None, None, None


def _masked(matrices: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return matrices.index_select(0, ids).view(mask.shape).mul_(mask.to(matrices.dtype))
