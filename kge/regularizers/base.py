"""What every regularizer promises: a penalty on the parameters, added once per batch.

Shapes  B triples that the batch counts for: its own, or with `k_vs_all`, where batches have fewer and more, as many as
        so many queries have in the mean. So the mean of an epoch is that over all triples, whatever its batches are.
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
    by_triple: bool = True  # a sum over triples, which may be made part by part

    @abstractmethod
    def penalty(self, model: AbstractModel, triples: Triples, count: float) -> Float[Tensor, ""]:
        """The term to add to the loss of a batch that counts for `count` triples: a sum over its own, by `count`."""
