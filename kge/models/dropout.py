"""Dropout whose masks come from an explicit generator, so that a resumed training continues bit by bit.

A mask over the whole entity table is needed every step, and drawing one float per number would cost more
than the step's matrix products. Sixteen random bits decide a coordinate instead: four to an int64 draw.
The rate is thereby rounded to a multiple of 2**-16, and the scale is that of the rounded rate.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor, nn


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
        """The next mask; several of a multiple of four numbers each are one of them all, on the CPU."""
        words = torch.empty(math.ceil(shape.numel() / 4), dtype=torch.int64, device=device)
        words.random_(torch.iinfo(torch.int64).min, None, generator=self.generator)
        kept = words.view(torch.int16)[: shape.numel()] >= self._dropped + torch.iinfo(torch.int16).min
        return kept.view(shape)

    @property
    def _dropped(self) -> int:
        return min(round(self.rate * 2**16), 2**16 - 1)


NO_DROPOUT = Dropout(0.0)
