"""Models with a matrix per relation.

    score(h, r, t) = h^T M_r t

On the CPU a batch reads the matrices of its distinct relations; elsewhere, and in the naive twin, each row gets a copy.
"""

from abc import abstractmethod
from typing import ClassVar

import torch

from kge.models.base import Ids, RelationVectors, Vectors
from kge.models.dropout import Dropout
from kge.models.matrix_products import Matrices, product, products, square
from kge.models.multilinear import AbstractMultilinear


class AbstractMatrixModel(AbstractMultilinear):
    """`embed_relation` gives the dim^2 numbers of M_r; relation dropout drops entries of it."""

    are_parameters: ClassVar[bool] = False  # whether the matrices are the relation table itself

    @abstractmethod
    def matrices(self, r: Ids) -> tuple[Matrices, Ids]:
        """Matrices, as few as these relations need or as lie ready, and the one that each relation has."""

    def relate(self, anchor: Vectors, r: Ids, *, as_tails: bool, dropout: Dropout) -> Vectors:
        if not self.fused or anchor.device.type != "cpu":
            return super().relate(anchor, r, as_tails=as_tails, dropout=dropout)
        matrices, rows = self.matrices(r)
        return products(anchor, matrices, rows, transposed=not as_tails, dropout=dropout)

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return product(head, square(relation), transposed=False)

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return product(tail, square(relation), transposed=True)

    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        return torch.einsum("bi,bj->bij", head, tail).flatten(1)
