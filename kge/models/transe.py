"""TransE: a relation translates the head.

    score(h, r, t) = - || h + r - t ||_q        q = 1 or 2

Bordes, Usunier, Garcia-Duran, Weston, Yakhnenko: Translating Embeddings. NIPS 2013.

All entities are compared by a compiled loop over the differences. Without it, training takes the L2 distance through a
matrix product and the L1 distance from a block of differences at a time: the gradient of torch.cdist holds those of all
pairs. Ranking takes the differences themselves, because cancellation in the product's short cut could reorder close
candidates.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from kge.config import require
from kge.models.base import AbstractModel, CandidateVectors, Ids, ModelSpec, RelationVectors, Scores, Vectors
from kge.models.distances import distance_scores, in_blocks
from kge.native import can_run


@final
class TransE(AbstractModel):
    """TransE with the L1 or L2 norm; a relation has `dim` numbers."""

    def __init__(self, spec: ModelSpec, *, norm: int = 1) -> None:
        require(norm in (1, 2), "model.norm", "1 or 2", norm)
        super().__init__(spec)
        self.norm = norm
        self.comparison = "l1" if norm == 1 else "l2"
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return head + relation

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return tail - relation

    def compare(self, query: Vectors, candidates: CandidateVectors) -> Scores:
        if candidates.dim() == 3:
            distance: Tensor = torch.linalg.vector_norm(query.unsqueeze(1) - candidates, ord=self.norm, dim=2)
            return -distance
        if self.fused and can_run(query, candidates):
            return distance_scores(query, candidates, "l1" if self.norm == 1 else "l2")
        if self.norm == 1 and torch.is_grad_enabled():
            return -in_blocks(_l1, query, candidates)
        mode = "use_mm_for_euclid_dist" if self.training else "donot_use_mm_for_euclid_dist"
        return -torch.cdist(query, candidates, p=self.norm, compute_mode=mode)


def _l1(differences: Float[Tensor, "b K D"]) -> Float[Tensor, "b K"]:
    return differences.abs().sum(dim=2)
