"""What every regularizer promises: a penalty on the parameters, added once per batch.

Shapes  B triples of the batch.
Dropout never touches a penalty: it is about what is stored.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from kge.data import Triples
from kge.models.base import AbstractModel


class AbstractRegularizer(ABC):
    """A penalty, and the models that it is defined for."""

    applies_to: ClassVar[type[AbstractModel]]

    @abstractmethod
    def penalty(self, model: AbstractModel, triples: Triples) -> Float[Tensor, ""]:
        """The term to add to the loss of the batch."""
