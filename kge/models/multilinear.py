"""Models whose score is linear in the head, in the tail and in the relation.

Because it is linear in what stands for the relation, the score of (h, ?, t) compares one vector with all
relations, as that of (h, r, ?) compares one with all entities. N3, DURA (kge.regularizers) and relation
prediction (kge.auxiliary) rest on this.
"""

from abc import abstractmethod
from typing import ClassVar

import torch

from kge.models.base import AbstractBilinear, RelationVectors, Scores, Vectors


class AbstractMultilinear(AbstractBilinear):
    """Adds to the queries for heads and tails the one for relations."""

    head_columns: slice = slice(None)  # the numbers of an entity that a score reads when it is the head
    tail_columns: slice = slice(None)  # and when it is the tail

    @abstractmethod
    def relation_query(self, head: Vectors, tail: Vectors) -> RelationVectors:
        """The vector whose inner product with `embed_relation(r)` is the score of (h, r, t)."""

    def score_relations(self, head: Vectors, tail: Vectors, *, bfloat16: bool = False) -> Scores:
        """Scores of all relations of (h, ?, t), reciprocal ones behind the others, with dropout of relations.

        With `bfloat16` that is the precision of their product, forwards and backwards.
        """
        every = torch.arange(len(self.relations), device=head.device)
        query, relations = self.relation_query(head, tail), self.relation_dropout(self.embed_relation(every))
        if bfloat16:
            return self.compare(query.bfloat16(), relations.bfloat16()).to(query.dtype)
        return self.compare(query, relations)


class AbstractTrilinear(AbstractMultilinear):
    """score = sum_i h_i r_i t_i, over the real or complex numbers that the columns hold."""

    is_complex: ClassVar[bool] = False  # both halves of a vector are the real and imaginary parts
    entity_parts: ClassVar[int] = 1  # a vector is so many parts of one length, and i counts within a part
    relation_parts: ClassVar[int] = 1
