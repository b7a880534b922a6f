"""Dropout whose masks come from an explicit generator, so that a resumed training continues bit by bit.

A mask over the whole entity table is needed every step, and drawing one float per number would cost more
than the step's matrix products. Sixteen random bits decide a coordinate instead: four to an int64 draw.
The rate is thereby rounded to a multiple of 2**-16, and the scale is that of the rounded rate.
"""

import math

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero each number with probability `rate` while training and scale the others so that the mean stays."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Drop in training mode, pass through otherwise."""
        if not self.training or self.rate == 0:
            return values
        return values * self._mask(values)

    def _mask(self, values: Tensor) -> Tensor:
        words = torch.empty(math.ceil(values.numel() / 4), dtype=torch.int64, device=values.device)
        words.random_(torch.iinfo(torch.int64).min, None, generator=self.generator)
        dropped = min(round(self.rate * 2**16), 2**16 - 1)
        kept = words.view(torch.int16)[: values.numel()] >= dropped + torch.iinfo(torch.int16).min
        return kept.view(values.shape).to(values.dtype).mul_(2**16 / (2**16 - dropped))
