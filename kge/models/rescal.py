"""RESCAL: a full matrix per relation.

    score(h, r, t) = h^T M_r t

Nickel, Tresp, Kriegel: A Three-Way Model for Collective Learning on Multi-Relational Data. ICML 2011.

A relation has dim^2 numbers, so the relation table dominates memory from about dim = 256 on FB15k-237.
"""

from typing import final

import torch
from torch import Tensor

from kge.models.base import Ids, ModelSpec, RelationVectors, Vectors
from kge.models.matrix_products import product, products
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

    def relate(self, anchor: Vectors, r: Ids, *, as_tails: bool) -> Vectors:
        if not self.fused or anchor.device.type != "cpu":
            return super().relate(anchor, r, as_tails=as_tails)
        return products(anchor, self.relations, r, transposed=not as_tails, dropout=self.relation_dropout)

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return product(head, self._matrices(relation), transposed=False)

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return product(tail, self._matrices(relation), transposed=True)

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return torch.einsum("bi,bj->bij", head, tail).flatten(1)

    def _matrices(self, relation: RelationVectors) -> Tensor:
        dim = self.entities.shape[1]
        return relation.view(-1, dim, dim)
