"""one_vs_all: every query is scored against all entities, and a row is a triple asked from one side.

Queries that repeat in a batch are not merged, so the batches are those of the published settings.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from kge.batches.base import AbstractTrainingType, Positions, moved, queries
from kge.batches.block import Block, row_weights
from kge.data import Side, Triples
from kge.frequencies import Frequencies
from kge.models.base import AbstractModel


@final
class OneVsAll(AbstractTrainingType):
    """Both queries of each triple against all entities."""

    def __init__(self, *, train: Triples, frequencies: Frequencies, block: Block) -> None:
        self.size = len(train)
        self._train = train
        self._weights = row_weights(block.loss, train, frequencies)
        self._block = block

    def backward(self, model: AbstractModel, rows: Positions) -> Float[Tensor, ""]:
        rows = moved(rows, self._train.device)
        triples = self._train[rows]
        query = queries(model, [(side, side.anchors(triples), triples[:, 1]) for side in Side])
        target = torch.cat([side.answers(triples) for side in Side])
        weight = None if self._weights is None else torch.cat([self._weights[side][rows] for side in Side])
        return self._block.backward(model, query, target, weight, 1 / len(rows))

    def numbers(self, model: AbstractModel, rows: int) -> int:
        return 2 * rows * model.num_entities

    def triples(self, rows: Positions) -> Triples:
        return self._train[moved(rows, self._train.device)]

    def generators(self) -> dict[str, torch.Generator]:
        return {}
