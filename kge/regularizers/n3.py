"""N3: the nuclear 3-norm of the tensor of scores, by the factors that a batch uses.

Shapes  B triples that the batch counts for.

    (weight / B) sum over rows of  sum_i |h_i|^3 + |r_i|^3 + |t_i|^3

Lacroix, Usunier, Obozinski: Canonical Tensor Decomposition for Knowledge Base Completion. ICML 2018.

The conventions are those of the authors' code, so that published weights carry over: a row pays as it enters
the loss (both rows of a triple do), the moduli of complex numbers count, and frequent entities pay more.
"""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from kge.data import Triples
from kge.models.algebra import squared_moduli
from kge.models.base import AbstractModel
from kge.models.lookups import lookup
from kge.models.multilinear import AbstractTrilinear
from kge.regularizers.base import AbstractRegularizer


@final
class N3(AbstractRegularizer):
    """N3 of models that are sums of products of three numbers."""

    applies_to = AbstractTrilinear

    def __init__(self, *, weight: float) -> None:
        self._weight = weight

    def penalty(self, model: AbstractModel, triples: Triples, count: float) -> Float[Tensor, ""]:
        assert isinstance(model, AbstractTrilinear)
        ends = lookup(model.entities, triples[:, ::2])
        # Either end of a triple is the head of one of a reciprocal model's rows, and the tail of the other.
        heads, tails = (ends, ends) if model.reciprocal else (ends[:, :1], ends[:, 1:])
        as_heads, as_tails = heads[..., model.head_columns], tails[..., model.tail_columns]
        if model.reciprocal and model.head_columns == model.tail_columns:
            total = 2 * _cubes(as_heads, model).sum()
        else:
            total = _cubes(as_heads, model).sum() + _cubes(as_tails, model).sum()
        return 2 / (1 + model.reciprocal) * self._weight * (total + _of_relations(model, triples[:, 1])) / count


def _of_relations(model: AbstractTrilinear, r: Tensor) -> Float[Tensor, ""]:
    """Of the relations of all rows: each once, where they are fewer than the rows."""
    rows = torch.cat([r, r + model.num_relations]) if model.reciprocal else r
    count = len(model.relations)
    if len(rows) <= count:
        return _cubes(model.embed_relation(rows), model).sum()
    cubes = _cubes(model.embed_relation(torch.arange(count, device=r.device)), model)
    return torch.dot(cubes, torch.zeros_like(cubes).index_add_(0, rows, cubes.new_ones(len(rows))))


def _cubes(vectors: Float[Tensor, "*batch W"], model: AbstractTrilinear) -> Float[Tensor, "*batch"]:
    """Sum of the cubes of each vector."""
    sums: Tensor = _Cubes.apply(vectors, model.is_complex)  # type: ignore[no-untyped-call]
    return sums


class _Cubes(Function):
    """The gradient of |z|^3 is 3 |z| z; autograd would go over the numbers twice as often."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, is_complex: bool) -> Tensor:
        squares = squared_moduli(vectors) if is_complex else vectors.square()
        moduli = squares.sqrt()
        ctx.save_for_backward(vectors, moduli)
        ctx.is_complex = is_complex
        sums: Tensor = torch.linalg.vecdot(squares, moduli)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vectors, moduli = ctx.saved_tensors
        factors = moduli * (3 * gradient[..., None])
        return vectors * (torch.cat([factors, factors], dim=-1) if ctx.is_complex else factors), None
