"""Dropout whose masks come from an explicit generator, so that a resumed training continues bit by bit.

A mask over the whole entity table is needed every step, and drawing one float per number would cost more
than the step's matrix products. Sixteen random bits decide a coordinate instead: four to a word of 64.
The rate is thereby rounded to a multiple of 2**-16, and the scale is that of the rounded rate.

On the CPU the generator gives only the seed of a mask (kge.models.masks).
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from kge.models.masks import at_least


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
        if device.type == "cpu":
            kept = at_least(lowest, seed=self._draw(1, device), count=count)
        else:
            kept = self._draw(count, device).view(torch.int16) >= lowest
        return kept[:numbers].view(shape)

    def _draw(self, count: int, device: torch.device) -> Tensor:
        words = torch.empty(count, dtype=torch.int64, device=device)
        return words.random_(torch.iinfo(torch.int64).min, None, generator=self.generator)

    @property
    def _dropped(self) -> int:
        return min(round(self.rate * 2**16), 2**16 - 1)


NO_DROPOUT = Dropout(0.0)
