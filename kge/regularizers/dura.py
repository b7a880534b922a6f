"""DURA: both entities of a row, and both of its queries, should be short.

Shapes  B triples of the batch.

    (weight / B) sum over rows of  2 a [ |h|^2 + |t|^2 ] + 2 (1 - a) [ |tail_query(h, r)|^2 + |head_query(r, t)|^2 ]

with a = `entity_share`: 0.5 counts the four alike, 0.25 is the weighted form of the paper.

Zhang, Cai, Wang: Duality-Induced Regularizer for Tensor Factorization Based Knowledge Graph Completion.
NeurIPS 2020. https://arxiv.org/abs/2011.05816

It completes the inner product of query and answer to a distance, so it is defined for every model whose score
is linear in both entities; of an entity those numbers count that the score reads.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor

from kge.data import Triples
from kge.models.base import AbstractModel
from kge.models.dropout import NO_DROPOUT
from kge.models.multilinear import AbstractMultilinear
from kge.regularizers.base import AbstractRegularizer, rows


@final
class DURA(AbstractRegularizer):
    """DURA of models that are linear in head and tail."""

    applies_to = AbstractMultilinear

    def __init__(self, *, weight: float, entity_share: float) -> None:
        self._weight = weight
        self._entity_share = entity_share

    def penalty(self, model: AbstractModel, triples: Triples) -> Float[Tensor, ""]:
        assert isinstance(model, AbstractMultilinear)
        entities = queries = model.entities.new_zeros(())
        distinct = rows(model, triples)
        for head, r, tail in distinct:
            entities = entities + _square(head[:, model.head_columns]) + _square(tail[:, model.tail_columns])
            for anchor, as_tails in ((head, True), (tail, False)):
                queries = queries + _square(model.relate(anchor, r, as_tails=as_tails, dropout=NO_DROPOUT))
        share = self._entity_share
        return 2 / len(distinct) * 2 * self._weight * (share * entities + (1 - share) * queries) / len(triples)


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum()
