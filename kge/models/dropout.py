"""Dropout whose masks come from an explicit generator, so that a resumed training continues bit by bit.

A mask over the whole entity table is needed every step, and drawing one float per number would cost more
than the step's matrix products. Sixteen random bits decide a coordinate instead: four to a word of 64.
The rate is thereby rounded to a multiple of 2**-16, and the scale is that of the rounded rate.

On the CPU the generator gives only the seed of a mask, and word i = 0, 1, ... is that of SplitMix64:

    z = seed + (i + 1) 0x9E3779B97F4A7C15
    z = (z xor z >> 30) 0xBF58476D1CE4E5B9
    z = (z xor z >> 27) 0x94D049BB133111EB
    word = z xor z >> 31

all modulo 2**64: words depend on nothing but their place, so that vector units and threads make them. Torch's own
generator makes them one by one, in thirteen times the time.

Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators. OOPSLA 2014.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from kge.native import can_run, over_rows

_STEP, _FIRST, _SECOND = (
    each - 2**64 for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)  # as torch's signed numbers


class Dropout(nn.Module):
    """Zero each number with probability `rate` while training and scale the others so that the mean stays."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: torch.Generator | None = None

    @property
    def is_active(self) -> bool:
        """Whether `forward` drops anything now."""
        return self.training and self.rate > 0

    @property
    def scale(self) -> float:
        """What the kept numbers are multiplied with."""
        return 2**16 / (2**16 - self._dropped)

    def forward(self, values: Tensor) -> Tensor:
        """Drop in training mode, pass through otherwise."""
        if not self.is_active:
            return values
        return values * self.kept(values.shape, values.device).to(values.dtype).mul_(self.scale)

    def kept(self, shape: torch.Size, device: torch.device) -> Bool[Tensor, "..."]:
        """The next mask."""
        numbers = shape.numel()
        count, lowest = math.ceil(numbers / 4), self._dropped + torch.iinfo(torch.int16).min
        if device.type != "cpu":
            return (self._draw(count, device).view(torch.int16)[:numbers] >= lowest).view(shape)
        seed = self._draw(1, device)
        if can_run(seed):
            return _decide(seed, count, lowest)[:numbers].view(shape)
        return (words(seed, count).view(torch.int16)[:numbers] >= lowest).view(shape)

    def _draw(self, count: int, device: torch.device) -> Int[Tensor, " C"]:
        words = torch.empty(count, dtype=torch.int64, device=device)
        words.random_(torch.iinfo(torch.int64).min, None, generator=self.generator)
        return words

    @property
    def _dropped(self) -> int:
        return min(round(self.rate * 2**16), 2**16 - 1)


NO_DROPOUT = Dropout(0.0)


def words(seed: Int[Tensor, " 1"], count: int) -> Int[Tensor, " C"]:
    """Words of SplitMix64; the naive twin of the compiled loop."""
    z = seed + torch.arange(1, count + 1) * _STEP
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(words: Tensor, by: int) -> Tensor:
    # torch's own shift keeps the sign
    return torch.bitwise_and(words >> by, 2 ** (64 - by) - 1)


def _decide(seed: Tensor, count: int, lowest: int) -> Tensor:
    from kge.native.masks import decide  # noqa: PLC0415 (numba is not needed to start)

    kept = torch.empty(4 * count, dtype=torch.bool)
    over_rows(decide, count, seed.numpy().view(np.uint64)[0], np.int16(lowest), kept.numpy())
    return kept
