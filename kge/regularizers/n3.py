"""N3: the nuclear 3-norm of the tensor of scores, by the factors that a batch uses.

Shapes  B triples of the batch.

    (weight / B) sum over rows of  sum_i |h_i|^3 + |r_i|^3 + |t_i|^3

Lacroix, Usunier, Obozinski: Canonical Tensor Decomposition for Knowledge Base Completion. ICML 2018.

The conventions are those of the authors' code, so that published weights carry over: a row pays as it enters
the loss (both rows of a triple do), the moduli of complex numbers count, and frequent entities pay more.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor

from kge.data import Triples
from kge.models.algebra import squared_moduli
from kge.models.base import AbstractModel
from kge.models.multilinear import AbstractTrilinear
from kge.regularizers.base import AbstractRegularizer, rows


@final
class N3(AbstractRegularizer):
    """N3 of models that are sums of products of three numbers."""

    applies_to = AbstractTrilinear

    def __init__(self, *, weight: float) -> None:
        self._weight = weight

    def penalty(self, model: AbstractModel, triples: Triples) -> Float[Tensor, ""]:
        assert isinstance(model, AbstractTrilinear)
        total = model.entities.new_zeros(())
        distinct = rows(model, triples)
        for head, r, tail in distinct:
            for factor in (head[:, model.head_columns], model.embed_relation(r), tail[:, model.tail_columns]):
                squares = squared_moduli(factor) if model.is_complex else factor.square()
                total = total + squares.pow(1.5).sum()
        return 2 / len(distinct) * self._weight * total / len(triples)
