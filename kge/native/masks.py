"""Bits by a hash of a seed and their place: SplitMix64, see kge.models.masks."""

from typing import Any, no_type_check

import numpy as np
from numba import njit

from kge.native import CACHED

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
_16, _32, _48 = np.uint64(16), np.uint64(32), np.uint64(48)


@no_type_check
@njit(cache=CACHED, nogil=True)
def decide(first: int, last: int, seed: Any, lowest: Any, out: Any) -> None:
    """Whether each sixteen bits of a part of the words, as a signed number, are at least the lowest."""
    part = out[4 * first : 4 * last]  # places from 0 on, or the compiler finds no vectors
    for i in range(last - first):
        word = seed + np.uint64(first + i + 1) * _STEP
        word = (word ^ (word >> _30)) * _FIRST
        word = (word ^ (word >> _27)) * _SECOND
        word ^= word >> _31
        part[4 * i] = np.int16(word) >= lowest
        part[4 * i + 1] = np.int16(word >> _16) >= lowest
        part[4 * i + 2] = np.int16(word >> _32) >= lowest
        part[4 * i + 3] = np.int16(word >> _48) >= lowest
