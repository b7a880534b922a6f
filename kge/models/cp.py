"""CP: every entity has a vector as head and another one as tail.

    score(h, r, t) = sum_i  head(h)_i  r_i  tail(t)_i

Hitchcock: The Expression of a Tensor or a Polyadic as a Sum of Products. 1927. For graphs: Lacroix, Usunier,
Obozinski: Canonical Tensor Decomposition for Knowledge Base Completion. ICML 2018. https://arxiv.org/abs/1806.07297

D real numbers hold D/2 as head, then D/2 as tail. A query is zero where its candidates are not asked, so both
sides are compared with whole entity vectors; half of these products are with zeros. Without reciprocal
relations the two vectors of an entity have nothing to do with each other, and CP generalises badly.
"""

from typing import final

import torch

from kge.config import require
from kge.models.base import Ids, ModelSpec, RelationVectors, Vectors
from kge.models.multilinear import AbstractTrilinear


@final
class CP(AbstractTrilinear):
    """CP; a relation has `dim` / 2 numbers."""

    entity_parts = 2

    def __init__(self, spec: ModelSpec) -> None:
        require(spec.dim % 2 == 0, "model.dim", "even for cp (half as head, half as tail)", spec.dim)
        super().__init__(spec)
        self.head_columns, self.tail_columns = slice(None, spec.dim // 2), slice(spec.dim // 2, None)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim // 2)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return torch.cat([torch.zeros_like(relation), head[:, self.head_columns] * relation], dim=1)

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return torch.cat([relation * tail[:, self.tail_columns], torch.zeros_like(relation)], dim=1)

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return head[:, self.head_columns] * tail[:, self.tail_columns]
