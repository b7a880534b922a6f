"""A first step on a graph of a few triples: what a process does once is over before a training is timed.

Modules that are imported at their first use, loops that are compiled or read from a cache, libraries that set
themselves up on a device: seconds that a study would charge to whichever training comes first in its process.
`kge train` charges nobody, and begins at once. In a process that is warm it takes milliseconds.
"""

from contextlib import suppress

import torch

from kge.config import TrainingConfig
from kge.data import Dataset
from kge.evaluation import rank
from kge.filters import filter_from
from kge.training import Training

_ENTITIES = 1000  # more than any loss needs (kge.losses.bce)
_GRAPH = Dataset(
    name="rehearsal",
    entities=tuple(map(str, range(_ENTITIES))),
    relations=("0",),
    train=torch.tensor([[0, 0, 1], [1, 0, 2], [2, 0, 0], [0, 0, 2]]),
    valid=torch.tensor([[3, 0, 4]]),
    test=None,
    fingerprint="",
)


def rehearse(config: TrainingConfig, *, device: str) -> None:
    """Train one epoch and rank as this configuration does; what fails here, the training itself will say."""
    with suppress(Exception):
        training = Training(config, _GRAPH, device=device)
        next(training.epochs())
        known = filter_from(_GRAPH, ("train", "valid"), device)
        rank(training.model, _GRAPH.valid.to(device), known, block_size=config.validation.block_size)
