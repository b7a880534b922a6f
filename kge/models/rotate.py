"""RotatE: a relation rotates the head, coordinate by coordinate, in the complex plane.

    score(h, r, t) = - sum_i | h_i e^{i r_i} - t_i |

Sun, Deng, Nie, Tang: RotatE. ICLR 2019. https://openreview.net/forum?id=HkgEQnRqYQ

A relation has dim/2 phases, which start uniform on [-pi, pi] whatever `init` says. A rotation keeps
moduli, so | h e^{i r} - t | = | h - t e^{-i r} | and both sides are compared in the same way: all entities by a
compiled loop or, without it, a block of differences at a time.
"""

import math
from typing import final

import torch
from torch import nn

from kge.config import require
from kge.models.algebra import complex_mul, conj, modulus_sum
from kge.models.base import AbstractModel, CandidateVectors, Ids, ModelSpec, RelationVectors, Scores, Vectors
from kge.models.distances import distance_scores, in_blocks
from kge.native import can_run


@final
class RotatE(AbstractModel):
    """RotatE with the sum of moduli as distance."""

    comparison = "moduli"

    def __init__(self, spec: ModelSpec) -> None:
        require(spec.dim % 2 == 0, "model.dim", "even for rotate (real and imaginary half)", spec.dim)
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        phases = torch.empty(spec.relation_rows, spec.dim // 2)
        self.relations = nn.Parameter(nn.init.uniform_(phases, -math.pi, math.pi, generator=spec.generator))

    def embed_relation(self, r: Ids) -> RelationVectors:
        phase = self.relations[r]
        return torch.cat([phase.cos(), phase.sin()], dim=1)

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        return complex_mul(head, relation)

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        return complex_mul(conj(relation), tail)

    def compare(self, query: Vectors, candidates: CandidateVectors) -> Scores:
        if candidates.dim() == 3:
            return -modulus_sum(query.unsqueeze(1) - candidates)
        if self.fused and can_run(query, candidates):
            return distance_scores(query, candidates, "moduli")
        return -in_blocks(modulus_sum, query, candidates)
