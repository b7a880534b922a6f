"""What every regularizer promises: a penalty on the parameters, added once per batch.

Shapes  B triples of the batch.
Dropout never touches a penalty: it is about what is stored.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from kge.data import Triples
from kge.models.base import AbstractModel, Ids, Vectors
from kge.models.lookups import lookup

Row = tuple[Vectors, Ids, Vectors]


class AbstractRegularizer(ABC):
    """A penalty, and the models that it is defined for."""

    applies_to: ClassVar[type[AbstractModel]]

    @abstractmethod
    def penalty(self, model: AbstractModel, triples: Triples) -> Float[Tensor, ""]:
        """The term to add to the loss of the batch."""


def rows(model: AbstractModel, triples: Triples) -> tuple[Row, ...]:
    """Head vectors, relations and tail vectors of both rows of each triple, tail queries first; equal ones once.

    The head query of a reciprocal model is a tail query of the inverse relation: its head is the triple's tail.
    """
    r = triples[:, 1]
    head, tail = lookup(model.entities, triples[:, ::2]).unbind(1)
    forwards = head, r, tail
    return (forwards, (tail, r + model.num_relations, head)) if model.reciprocal else (forwards,)
