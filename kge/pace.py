"""How fast a training goes on this device, from some of its batches: what an epoch will take.

    seconds of an epoch = batches of an epoch x seconds of a batch
                        + queries of a validation x seconds of a query / epochs between validations

Batches are those of a training's first epochs, on the whole data set; the first ones are not timed. A part of the
validation's queries is ranked, before any step, because scores of a training that diverges are refused. The clock is
the wall's, with the device waited for; of a single CPU thread it is the processor's, which programs beside it do not
lengthen.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from kge.config import TrainingConfig
from kge.data import Dataset, Side, Triples
from kge.evaluation import rank
from kge.filters import FilterIndex, filter_from
from kge.models.base import AbstractModel
from kge.training import Training

_UNTIMED = 2  # batches in which memory is taken, loops are loaded and clocks go up
_LEAST = 4  # batches that are timed however long they take
_RANKED = 1024  # triples of the validation split that are ranked


@dataclass(frozen=True, kw_only=True)
class Pace:
    """One timing of a training."""

    epoch: float  # seconds of an epoch, its share of a validation included
    validation: float  # seconds of a whole validation
    batches: int  # that were timed


def paces(
    configs: Iterable[TrainingConfig], dataset: Dataset, *, device: str = "cpu", seconds: float = 2.0
) -> Iterator[Pace]:
    """Time each training for about so many seconds, one after the other; none is kept when the next begins."""
    known = filter_from(dataset, ("train", "valid"), device)
    for config in configs:
        yield _pace(config, dataset, known, device, seconds)


def _pace(config: TrainingConfig, dataset: Dataset, known: FilterIndex, device: str, seconds: float) -> Pace:
    training, clock = Training(config, dataset, device=device), clock_of(device)
    validation = _validation(training.model, dataset, known, config.validation.block_size, device)
    steps = training.steps()
    for _ in range(_UNTIMED):
        next(steps, None)
    batches, started = 0, clock()
    while batches < _LEAST or clock() - started < seconds:
        if next(steps, None) is None:
            steps = training.steps()
            continue
        batches += 1
    batch = (clock() - started) / batches
    epoch = training.batches * batch + validation / config.validation.every
    return Pace(epoch=epoch, validation=validation, batches=batches)


def _validation(model: AbstractModel, dataset: Dataset, known: FilterIndex, block_size: int, device: str) -> float:
    """Seconds of a whole validation."""
    clock, every = clock_of(device), dataset.valid
    chosen = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:_RANKED]
    part = every[chosen]
    rank(model, part[:1].to(device), known, block_size=block_size)  # loops are loaded
    started = clock()
    rank(model, part.to(device), known, block_size=block_size)
    return (clock() - started) * _queries(every, dataset) / _queries(part, dataset)


def _queries(triples: Triples, dataset: Dataset) -> int:
    """Distinct queries of both sides: each is scored once."""
    return sum(len(torch.unique(side.queries(triples, dataset.num_relations))) for side in Side)


def clock_of(device: str) -> Callable[[], float]:
    """Of a GPU the wall's, with the GPU waited for; of one CPU thread the processor's."""
    if torch.device(device).type == "cuda":
        return lambda: _waited(device)
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def _waited(device: str) -> float:
    torch.cuda.synchronize(device)
    return time.perf_counter()
