"""What a training can do that does not fit into memory: the same with fewer rows at a time.

    sub_batch_size -> 1/2 of it (at first of a batch's rows)      block_size -> 1/2 of it      until both are 1

Sub-batches change neither values nor random draws (kge.batches.base), blocks of queries no rank, so a
training may go on so from its last checkpoint.
"""

import errno
import gc
from dataclasses import replace

import torch

from kge import kernels
from kge.building import training_type
from kge.config import TrainingConfig
from kge.errors import first_line

# What allocators say that raise no error of their own class: torch's on the CPU, C++'s, CUDA and its libraries.
_SAID = ("can't allocate memory", "std::bad_alloc", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def broken_context(device: str) -> str | None:
    """What a GPU says for the rest of the process after an error that it does not recover from; None where it works."""
    if torch.device(device).type != "cuda":
        return None
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return first_line(error)
    return None


def halved(config: TrainingConfig) -> TrainingConfig | None:
    """The same training with half the rows in memory at a time; None when it is one already."""
    batch, validation = config.training, config.validation
    both = training_type(config) == "one_vs_all"  # sides of a triple are scored at once
    whole = batch.batch_size * (2 if both else 1)
    rows = min(batch.sub_batch_size or whole, whole)
    if rows == 1 and validation.block_size == 1:
        return None
    return replace(
        config,
        training=replace(batch, sub_batch_size=max(1, rows // 2)),
        validation=replace(validation, block_size=max(1, validation.block_size // 2)),
    )


def release() -> None:
    """Give back what is kept for the next step: it had the wrong size."""
    kernels.forget_blocks()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
