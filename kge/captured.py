"""A batch's gradients as one CUDA graph, where a GPU would wait for the host to launch their kernels.

The gradients of a small batch are some hundred kernels of a few microseconds each, which is what the launch of one
takes. A graph launches all of them at once, with the addresses and shapes that it was recorded with. Therefore

    rows         are copied to where the recorded kernels read them
    gradients    stay in the memory of the graph, and are given to the parameters again after each replay
    generators   are registered: a replay moves them on as the batch itself would have done
    blocks       that kernels keep (kge.kernels) are made anew, in the memory of the graph

The first batch is computed as ever, which loads all kernels and libraries; the second one is recorded, which
computes nothing, and replayed like all that follow. An epoch's last batch, where it is smaller, and the step of the
optimizer are never recorded. Values and random draws are those of the batches themselves.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kge.batches import AbstractTrainingType
from kge.batches.base import Positions, moved
from kge.config import BatchConfig
from kge.kernels import forget_blocks
from kge.models.base import AbstractModel

Loss = Float[Tensor, ""]
Gradients = Callable[[Positions], Loss]  # gives every parameter its gradient of a batch
Record = Callable[[Callable[[], Loss]], tuple[Loss, Callable[[], None]]]  # of some work: its result, and how to replay

# Numbers of a batch. On paper: seven passes over so many at 3 TB/s take 0.6 ms, a hundred launches of 5 us each 0.5 ms.
_LARGEST = 64 * 2**20


@final
class Captured:
    """Gradients of full batches, recorded once. It never holds whose they are, who would then hold itself."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, rows: int, device: str, record: Record) -> None:
        self._parameters = tuple(parameters)
        self._rows = torch.empty(rows, dtype=torch.int64, device=device)
        self._record = record
        self._is_warm = False
        self._replay: Callable[[], None] | None = None

    def __call__(self, gradients: Gradients, rows: Positions) -> Loss:
        """What `gradients` does, for the same `gradients` each time."""
        if len(rows) != len(self._rows):
            return gradients(rows)
        if not self._is_warm:
            self._is_warm = True
            return gradients(rows)
        self._rows.copy_(moved(rows, self._rows.device))
        if self._replay is None:
            self._loss, self._replay = self._record(partial(gradients, self._rows))
            self._gradients = [each.grad for each in self._parameters]
        self._replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss.clone()


def captured(
    config: BatchConfig,
    model: AbstractModel,
    type_: AbstractTrainingType,
    generators: Iterable[torch.Generator],
    device: str,
) -> Captured | None:
    """The one place that decides whether a training's gradients are captured; None: they are not."""
    if torch.device(device).type != "cuda" or not is_worth_it(config, model, type_):
        return None
    record = partial(_graph, device, [each for each in generators if each.device.type == "cuda"])
    return Captured(model.parameters(), rows=_full(config, type_), device=device, record=record)


def is_worth_it(config: BatchConfig, model: AbstractModel, type_: AbstractTrainingType) -> bool:
    """Whether launches dominate the batches, and all full ones are of one shape.

    Sub-batches are for a memory that is short, and a graph keeps as much of it as a batch takes.
    """
    numbers = type_.numbers(model, _full(config, type_))
    return config.capture and config.sub_batch_size is None and numbers is not None and numbers <= _LARGEST


def _full(config: BatchConfig, type_: AbstractTrainingType) -> int:
    return min(config.batch_size, type_.size)


def _graph(
    device: str, generators: Iterable[torch.Generator], work: Callable[[], Loss]
) -> tuple[Loss, Callable[[], None]]:
    with torch.cuda.device(device):
        graph = torch.cuda.CUDAGraph()
        for each in generators:
            graph.register_generator_state(each)
        forget_blocks()
        with torch.cuda.graph(graph, stream=_stream(torch.cuda.current_device())):
            loss = work()
        forget_blocks()
    return loss, graph.replay


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """Where graphs are recorded: one for all, because libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)
