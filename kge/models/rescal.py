"""RESCAL: a full matrix per relation.

    score(h, r, t) = h^T M_r t

Nickel, Tresp, Kriegel: A Three-Way Model for Collective Learning on Multi-Relational Data. ICML 2011.

A relation has dim^2 numbers, so the relation table dominates memory from about dim = 256 on FB15k-237.
"""

from typing import final

from kge.models.base import Ids, ModelSpec, RelationVectors
from kge.models.matrices import AbstractMatrixModel
from kge.models.matrix_products import Matrices


@final
class RESCAL(AbstractMatrixModel):
    """RESCAL; relation dropout drops entries of the matrix."""

    are_parameters = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim * spec.dim)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def matrices(self, r: Ids) -> tuple[Matrices, Ids]:
        return self.relations, r
