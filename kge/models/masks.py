"""Random bits on the CPU that depend on nothing but a seed and their place: vector units and threads make them.

Word i = 0, 1, ... of 64 bits is that of SplitMix64, all modulo 2**64:

    z = seed + (i + 1) 0x9E3779B97F4A7C15
    z = (z xor z >> 30) 0xBF58476D1CE4E5B9
    z = (z xor z >> 27) 0x94D049BB133111EB
    word = z xor z >> 31

Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators. OOPSLA 2014.

Torch's own generator makes words one by one, in thirteen times the time.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kge.native import can_run, over_rows

_STEP, _FIRST, _SECOND = (  # as torch's signed numbers
    each - 2**64 for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_FEW = 1024  # words that are not worth numba's import: what a prediction of memory draws


def at_least(lowest: int, *, seed: Int[Tensor, " 1"], count: int) -> Bool[Tensor, " N"]:
    """Whether each sixteen bits of `count` words, as a signed number, are at least the lowest."""
    if count <= _FEW or not can_run(seed):
        return words(seed, count).view(torch.int16) >= lowest
    from kge.native.masks import decide  # noqa: PLC0415 (numba is not needed to start)

    decided = torch.empty(4 * count, dtype=torch.bool)
    over_rows(decide, count, seed.numpy().view(np.uint64)[0], np.int16(lowest), decided.numpy())
    return decided


def words(seed: Int[Tensor, " 1"], count: int) -> Int[Tensor, " C"]:
    """Words of a seed; the naive twin of the compiled loop."""
    z = seed + torch.arange(1, count + 1) * _STEP
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(words: Tensor, by: int) -> Tensor:
    return torch.bitwise_and(words >> by, 2 ** (64 - by) - 1)  # torch's own shift keeps the sign
