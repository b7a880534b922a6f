"""Products of vectors with the matrices of their relations, without a matrix per row in memory.

    forward     y_b = x_b M_r(b)          or  M_r(b) x_b  when transposed
    backward    dM_r = sum over the rows b of r of  x_b^T dy_b

With D = 128 and 512 rows the gathered matrices are 33 MB, and dropout makes three more blocks of that size:
memory traffic then costs several times what the products do. Here matrices are read where they lie, without
dropout each distinct one once, and gradients are added to those of the parameters (kge.models.lookups). Values and
masks are those of gathering, dropping and multiplying, which is what a model does without its fused path.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from kge.models.dropout import Dropout
from kge.models.lookups import gradient_of
from kge.native import can_run, over_rows

Vectors = Float[Tensor, "B D"]
Matrices = Float[Tensor, "R W"]  # W = D * D
Ids = Int[Tensor, " B"]


def square(matrices: Matrices) -> Float[Tensor, "R D D"]:
    """Each row as the matrix that it is."""
    dim = round(matrices.shape[1] ** 0.5)
    return matrices.view(-1, dim, dim)


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
    kept = dropout.kept(torch.Size((len(r), dim, dim)), vectors.device)
    if can_run(vectors, matrices, r):
        dropped: Tensor = _Dropped.apply(vectors, matrices, r, transposed, kept)  # type: ignore[no-untyped-call]
    else:
        dropped = product(vectors, square(matrices[r]) * kept, transposed=transposed)
    return dropped * dropout.scale


class _Grouped(Function):
    """Rows of one relation together, so that a matrix is read once."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, matrices: Tensor, r: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(vectors, r)
        ctx.matrices, ctx.transposed = matrices, transposed
        products = torch.empty_like(vectors)
        for relation, rows in _groups(r):
            matrix = _matrix(matrices, relation, transposed)
            products[rows] = vectors[rows] @ matrix
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (vectors, r), matrices = ctx.saved_tensors, ctx.matrices
        of_vectors, (of_matrices, returned) = torch.empty_like(vectors), gradient_of(matrices)
        for relation, rows in _groups(r):
            x, y = vectors[rows], gradient[rows]
            of_vectors[rows] = y @ _matrix(matrices, relation, ctx.transposed).T
            _matrix(of_matrices, relation, ctx.transposed).addmm_(x.T, y)
        return of_vectors, returned, None, None


def _groups(r: Tensor) -> Iterator[tuple[int, Tensor]]:
    order = torch.argsort(r, stable=True)
    relations, counts = torch.unique_consecutive(r[order], return_counts=True)
    return zip(relations.tolist(), order.split(counts.tolist()), strict=True)


def _matrix(matrices: Tensor, relation: int, transposed: bool) -> Tensor:
    matrix = square(matrices)[relation]
    return matrix.T if transposed else matrix


class _Dropped(Function):
    """By compiled loops over the matrices themselves; the scale is applied outside."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, matrices: Tensor, r: Tensor, transposed: bool, kept: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, r, kept)
        ctx.matrices, ctx.transposed = matrices, transposed
        return _dropped(vectors, matrices, r, kept, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from kge.native.matrices import add_outer  # noqa: PLC0415 (numba is not needed to start)

        (vectors, r, kept), matrices = ctx.saved_tensors, ctx.matrices
        of_vectors = _dropped(gradient, matrices, r, kept, not ctx.transposed)
        of_matrices, returned = gradient_of(matrices)
        ends = torch.bincount(r, minlength=len(matrices)).cumsum(0)
        left, right = (gradient, vectors) if ctx.transposed else (vectors, gradient)
        arrays = (each.contiguous().numpy() for each in (left, right, r.argsort(stable=True), ends, kept))
        over_rows(add_outer, len(matrices), *arrays, square(of_matrices).numpy())
        return of_vectors, returned, None, None, None


def _dropped(vectors: Tensor, matrices: Tensor, r: Tensor, kept: Tensor, transposed: bool) -> Tensor:
    from kge.native import matrices as native  # noqa: PLC0415 (numba is not needed to start)

    products = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    arrays = (each.contiguous().detach().numpy() for each in (vectors, square(matrices), r, kept))
    over_rows(native.products, len(vectors), *arrays, transposed, products.numpy())
    return products
