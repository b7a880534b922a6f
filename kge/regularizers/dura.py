"""DURA: both entities of a row, and both of its queries, should be short.

Shapes  B triples that the batch counts for.

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
from kge.models.base import AbstractModel, Ids, Vectors
from kge.models.dropout import NO_DROPOUT
from kge.models.lookups import lookup
from kge.models.multilinear import AbstractMultilinear
from kge.regularizers.base import AbstractRegularizer

_Row = tuple[Vectors, Ids, Vectors]


@final
class DURA(AbstractRegularizer):
    """DURA of models that are linear in head and tail."""

    applies_to = AbstractMultilinear

    def __init__(self, *, weight: float, entity_share: float) -> None:
        self._weight = weight
        self._entity_share = entity_share

    def penalty(self, model: AbstractModel, triples: Triples, count: float) -> Float[Tensor, ""]:
        assert isinstance(model, AbstractMultilinear)
        entities = queries = model.entities.new_zeros(())
        distinct = _rows(model, triples)
        for head, r, tail in distinct:
            entities = entities + _square(head[:, model.head_columns]) + _square(tail[:, model.tail_columns])
            for anchor, as_tails in ((head, True), (tail, False)):
                queries = queries + _square(model.relate(anchor, r, as_tails=as_tails, dropout=NO_DROPOUT))
        share = self._entity_share
        return 2 / len(distinct) * 2 * self._weight * (share * entities + (1 - share) * queries) / count


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum()


def _rows(model: AbstractModel, triples: Triples) -> tuple[_Row, ...]:
    """Head vectors, relations and tail vectors of both rows of each triple, tail queries first; equal ones once.

    The head query of a reciprocal model is a tail query of the reciprocal relation: its head is the triple's tail.
    """
    r = triples[:, 1]
    head, tail = lookup(model.entities, triples[:, ::2]).unbind(1)
    forwards = head, r, tail
    return (forwards, (tail, r + model.num_relations, head)) if model.reciprocal else (forwards,)
