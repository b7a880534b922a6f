"""How often training holds a query or an answer: the counts behind ns_freq, sce_bc, sce_cw and subsampling.

Shapes  N training triples, E entities.
#x of a tail query is the count of its (head, relation); #y is how often the entity is a tail. The head side
mirrors this: each slot has its own counts.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.data import Dataset, Side


class Frequencies:
    """Counts of the training split, by side."""

    def __init__(self, dataset: Dataset, device: str = "cpu") -> None:
        train = dataset.train.to(device)
        self.num_triples = len(train)
        self._answer: dict[Side, Tensor] = {}
        self._query: dict[Side, Tensor] = {}
        for side in Side:
            self._answer[side] = torch.bincount(side.answers(train), minlength=dataset.num_entities)
            keys = side.queries(train, dataset.num_relations)
            _, inverse, counts = torch.unique(keys, return_inverse=True, return_counts=True)
            self._query[side] = counts[inverse]

    def answers(self, side: Side) -> Int[Tensor, " E"]:
        """#y: occurrences of every entity in the slot that is predicted."""
        return self._answer[side]

    def degrees(self) -> Int[Tensor, " E"]:
        """Occurrences of every entity in either slot."""
        return self._answer[Side.HEAD] + self._answer[Side.TAIL]

    def queries(self, side: Side) -> Int[Tensor, " N"]:
        """#x of every training triple's query."""
        return self._query[side]

    def triples(self) -> Int[Tensor, " N"]:
        """#(x,y) of every training triple, backed off to the sum of both its #x: a graph holds a triple once."""
        return self._query[Side.HEAD] + self._query[Side.TAIL]

    def noise(self, side: Side) -> Float[Tensor, " E"]:
        """#y / |D|: the unigram distribution of the slot."""
        return self._answer[side] / self.num_triples
