"""Relation prediction as a second task: which relation holds between head and tail?

Shapes  B triples that the batch counts for, as for a penalty (kge.regularizers.base).

    (weight / B) sum over triples of  - log p(r | h, t),    p(. | h, t) = softmax over all relations

Chen, Minervini, Riedel, Stenetorp: Relation Prediction as an Auxiliary Training Objective for Improving
Multi-Relational Graph Representations. AKBC 2021. https://arxiv.org/abs/2110.02834

The weight is against the two entity rows of a triple, as there. With reciprocal relations a triple counts in
both directions, as it does in the loss: r among all 2 R for (h, t), and r + R among them for (t, h).
"""

from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from kge.data import Triples
from kge.models.base import AbstractModel, Ids, Vectors
from kge.models.lookups import lookup
from kge.models.multilinear import AbstractMultilinear


@final
class RelationPrediction:
    """The cross-entropy of relations; for models that compare all relations with one vector."""

    applies_to = AbstractMultilinear

    def __init__(self, *, weight: float, bfloat16: bool = False) -> None:
        self._weight = weight
        self._bfloat16 = bfloat16

    def loss(self, model: AbstractModel, triples: Triples, count: float) -> Float[Tensor, ""]:
        """The term to add to the loss of a batch that counts for `count` triples: a sum over its own, by `count`."""
        assert isinstance(model, AbstractMultilinear)
        head, tail = model.entity_dropout(lookup(model.entities, triples[:, ::2])).unbind(1)
        r = triples[:, 1]
        total = self._sum(model, head, tail, r)
        if model.reciprocal:
            total = total + self._sum(model, tail, head, r + model.num_relations)
        return self._weight * total / count

    def _sum(self, model: AbstractMultilinear, head: Vectors, tail: Vectors, r: Ids) -> Float[Tensor, ""]:
        return cross_entropy(model.score_relations(head, tail, bfloat16=self._bfloat16), r, reduction="sum")
