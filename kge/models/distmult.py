"""DistMult: a trilinear product.

    score(h, r, t) = sum_i  h_i r_i t_i

Yang, Yih, He, Gao, Deng: Embedding Entities and Relations. ICLR 2015. https://arxiv.org/abs/1412.6575

Symmetric in head and tail: without reciprocal relations it cannot tell (h, r, t) from (t, r, h).
"""

from typing import final

from kge.models.base import Ids, ModelSpec, RelationVectors, Vectors
from kge.models.multilinear import AbstractTrilinear


@final
class DistMult(AbstractTrilinear):
    """DistMult; a relation has `dim` numbers."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return head * relation

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return relation * tail

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return head * tail
