"""SimplE: two CP models that share their entities, one for a relation and one for its inverse.

    score(h, r, t) = 1/2 [ sum_i head(h)_i r_i tail(t)_i  +  sum_i head(t)_i inverse(r)_i tail(h)_i ]

Kazemi, Poole: SimplE Embedding for Link Prediction in Knowledge Graphs. NeurIPS 2018. https://arxiv.org/abs/1802.04868

D real numbers hold D/2 as head, then D/2 as tail; a relation holds D/2 forwards, then D/2 as inverse. With the
halves of one entity swapped, the score is half a product of three vectors of D numbers.
"""

from typing import final

import torch

from kge.config import require
from kge.models.base import Ids, ModelSpec, RelationVectors, Vectors
from kge.models.multilinear import AbstractTrilinear


@final
class SimplE(AbstractTrilinear):
    """SimplE; a relation has `dim` numbers."""

    entity_parts = relation_parts = 2

    def __init__(self, spec: ModelSpec) -> None:
        require(spec.dim % 2 == 0, "model.dim", "even for simple (half as head, half as tail)", spec.dim)
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return _swap(head * relation) / 2

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return relation * _swap(tail) / 2

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return head * _swap(tail) / 2


def _swap(vectors: Vectors) -> Vectors:
    """Head half and tail half exchanged."""
    return torch.cat(vectors.chunk(2, dim=1)[::-1], dim=1)
