"""Where negatives come from.

Shapes  B rows, K negatives of each, E entities.
Negatives are drawn independently for each row, with replacement, from all entities, true answers included:
filtering them moves the optimum to infinity (tests/kge/test_theory.py), so `filtered` is off by default.
"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.data import Side
from kge.filters import FilterIndex
from kge.frequencies import Frequencies
from kge.losses.base import Noise

Negatives = tuple[Int[Tensor, "B K"], Float[Tensor, "B K"] | None]


@final
class NegativeSampler:
    """Draws negatives and their weights: uniform, uniform weighted by #y/|D|, or from the unigram itself."""

    def __init__(
        self, *, noise: Noise, frequencies: Frequencies, known: FilterIndex | None, generator: torch.Generator
    ) -> None:
        self._noise = noise
        self._frequencies = frequencies
        self._known = known
        self.generator = generator
        self._unigram = {side: frequencies.noise(side) for side in Side}
        # The answer of a triple drawn uniformly is a draw from the unigram.
        self._answers = {
            side: torch.repeat_interleave(frequencies.answers(side)) for side in Side if noise == "sampled"
        }

    def draw(self, side: Side, anchors: Int[Tensor, " B"], relations: Int[Tensor, " B"], count: int) -> Negatives:
        """Ids of `count` negatives per row, and their weights; None weighs all of them 1."""
        shape = (len(anchors), count)
        unigram = self._unigram[side]
        if self._noise == "sampled":
            ids = self._answers[side][self._uniform(len(self._answers[side]), shape)]
        else:
            ids = self._uniform(len(unigram), shape)
        weight = unigram[ids] if self._noise == "weighted" else None
        if self._known is None:
            return ids, weight
        known = self._known.contains(side, anchors, relations, ids)
        return ids, torch.where(known, 0.0, 1.0) if weight is None else weight.masked_fill(known, 0.0)

    def _uniform(self, size: int, shape: tuple[int, int]) -> Int[Tensor, "B K"]:
        return torch.randint(size, shape, generator=self.generator, device=self.generator.device)
