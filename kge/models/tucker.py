"""TuckER: a core tensor shared by all relations.

    score(h, r, t) = h^T M_r t,    M_r = sum_k  r_k W_k

Balazevic, Allen, Hospedales: TuckER. EMNLP 2019. https://aclanthology.org/D19-1522/

As in the study's published settings there is no batch normalisation (the original has it), relation
dropout acts on M_r, and the core starts from N(0, 1).
"""

from typing import final

import torch
from torch import nn

from kge.config import require
from kge.models.base import Ids, ModelSpec, RelationVectors
from kge.models.matrices import AbstractMatrixModel
from kge.models.matrix_products import Matrices


@final
class TuckER(AbstractMatrixModel):
    """TuckER; `relation_dim` numbers per relation (None: `dim`), core W of relation_dim x dim^2."""

    def __init__(self, spec: ModelSpec, *, relation_dim: int | None = None) -> None:
        width = spec.dim if relation_dim is None else relation_dim
        require(width >= 1, "model.relation_dim", ">= 1 or null", relation_dim)
        super().__init__(spec)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, width)
        self.core = nn.Parameter(nn.init.normal_(torch.empty(width, spec.dim * spec.dim), generator=spec.generator))

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r] @ self.core

    def matrices(self, r: Ids) -> tuple[Matrices, Ids]:
        distinct, rows = torch.unique(r, return_inverse=True)
        return self.embed_relation(distinct), rows
