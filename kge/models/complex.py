"""ComplEx: a trilinear product of complex vectors.

    score(h, r, t) = Re( sum_i  h_i r_i conj(t_i) )

Trouillon, Welbl, Riedel, Gaussier, Bouchard: Complex Embeddings for Simple Link Prediction.
ICML 2016. https://proceedings.mlr.press/v48/trouillon16.html

D real numbers hold D/2 complex ones (kge.models.algebra); the real dot product of two such
vectors a and b is Re(sum_i a_i conj(b_i)), so moving conj() between factors gives all three queries.
"""

from typing import final

from kge.config import require
from kge.models.algebra import complex_mul, conj
from kge.models.base import Ids, ModelSpec, RelationVectors, Vectors
from kge.models.multilinear import AbstractTrilinear


@final
class ComplEx(AbstractTrilinear):
    """ComplEx; a relation has `dim` numbers."""

    is_complex = True
    entity_parts = relation_parts = 2

    def __init__(self, spec: ModelSpec) -> None:
        require(spec.dim % 2 == 0, "model.dim", "even for complex (real and imaginary half)", spec.dim)
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return complex_mul(head, relation)

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return complex_mul(conj(relation), tail)

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return complex_mul(conj(head), tail)
