"""RESCAL: a full matrix per relation.

    score(h, r, t) = h^T M_r t

Nickel, Tresp, Kriegel: A Three-Way Model for Collective Learning on Multi-Relational Data. ICML 2011.

A relation has dim^2 numbers, so the relation table dominates memory from about dim = 256 on FB15k-237.
"""

from typing import final

import torch

from kge.models.base import Ids, ModelSpec, RelationVectors, Vectors
from kge.models.multilinear import AbstractMultilinear


@final
class RESCAL(AbstractMultilinear):
    """RESCAL; relation dropout drops entries of the matrix."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim * spec.dim)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        dim = head.shape[1]
        return torch.bmm(head.unsqueeze(1), relation.view(-1, dim, dim)).squeeze(1)

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        dim = tail.shape[1]
        return torch.bmm(relation.view(-1, dim, dim), tail.unsqueeze(2)).squeeze(2)

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return torch.einsum("bi,bj->bij", head, tail).flatten(1)
