"""Training types: from the rows of a batch to the mean of their losses, with gradients.

Shapes  B rows of the batch, E entities, D real numbers per entity, K negatives.

A step embeds queries and candidates once, for the whole batch. The scores, which are what fills memory, are
made in slices of `sub_batch_size` rows against detached copies, and the copies' gradients flow back at the
end. So a sub-batch changes neither the value nor the random draws.

Every value is per triple: the sum of the losses of both its queries.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.data import Side, Triples
from kge.models.base import AbstractModel

Positions = Int[Tensor, " B"]


class AbstractTrainingType(ABC):
    """How a batch becomes gradients.

    The rows of a batch are on the host, wherever the tables are: what depends on them, such as how many pairs they
    make, is known there without waiting for the device. Where nothing does (`numbers`), they may be on the device.
    """

    size: int  # what an epoch visits, each once: training triples or distinct queries
    triples_per_row: float = 1.0  # training triples behind a row, in the mean over an epoch

    @abstractmethod
    def backward(self, model: AbstractModel, rows: Positions) -> Float[Tensor, ""]:
        """Add the gradient of the batch's loss to the model; return the loss, detached. `rows` are below `size`."""

    @abstractmethod
    def numbers(self, model: AbstractModel, rows: int) -> int | None:
        """About how many numbers the scores of so many rows are made of; None where no two batches have one shape."""

    @abstractmethod
    def triples(self, rows: Positions) -> Triples:
        """The training triples behind a batch: what penalties and further tasks are about."""

    @abstractmethod
    def generators(self) -> dict[str, torch.Generator]:
        """The random streams to save with a checkpoint, by name."""


def queries(model: AbstractModel, parts: Sequence[tuple[Side, Tensor, Tensor]]) -> Float[Tensor, "rows D"]:
    """Queries of parts of a batch (side, anchors, relations), in their order."""
    return torch.cat([model.queries(*part) for part in parts])


def moved(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for what the device does; one that is there, itself."""
    return values if values.device == device else values.pin_memory().to(device, non_blocking=True)


def leaf(values: Tensor) -> Tensor:
    """A detached copy that collects its own gradient."""
    return values.detach().requires_grad_()


def slices(length: int, size: int | None) -> Iterator[slice]:
    """Consecutive parts of at most `size` rows; all of them when None."""
    step = length if size is None else size
    return (slice(start, start + step) for start in range(0, length, step))
