"""Losses that tell answers from negatives by logistic regression, and how much each of their rows counts.

    loss(row) = A positive term  +  B negative term                A = B = 1 unless said otherwise

`subsampling` weighs rows by counts in train, so that rare triples and queries count more:

    W(z) = z^-alpha / (mean over train of z'^-alpha)
    base  A = W(#(x,y)), B = W(#(x,y))      freq  A = W(#(x,y)), B = W(#x)      uniq  A = W(#x), B = W(#x)

Sun, Deng, Nie, Tang: RotatE. ICLR 2019 (base). Kamigaito & Hayashi, ICML 2022 (freq, uniq), arXiv 2206.10140.
A graph holds a triple once, so #(x,y) is backed off to #(h,r) + #(r,t). Their code counts from 4 and normalises
in each batch; here a count is a count, and the batch changes no weight. Objective of base and freq:
p_d #(x,y)^-alpha, normalised, or that smoothed; of uniq: the same as without.

`query_temperature` weighs queries by the model's own scores (kge.losses.tans).
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.config import require
from kge.losses.base import AbstractSamplingLoss, Objective, Rows

Subsampling = Literal["none", "base", "freq", "uniq"]
Counts = Int[Tensor, " N"]
Emphasis = tuple[Float[Tensor, " N"], Float[Tensor, " N"]]

_SUBSAMPLED: Mapping[str, Objective] = {"p_d": "subsampled", "smoothed": "subsampled, smoothed"}


class AbstractLogisticLoss(AbstractSamplingLoss):
    """Sampling losses whose rows fall into a positive and a negative term."""

    subsampling: str = "none"
    alpha: float = 0.5
    query_temperature: float = 0.0

    @abstractmethod
    def terms(
        self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None
    ) -> tuple[Rows, Rows]:
        """The positive and the negative term of each row."""

    def rows(self, positive: Rows, negative: Float[Tensor, "B K"], weight: Float[Tensor, "B K"] | None) -> Rows:
        """Loss of each row with A = B = 1."""
        of_positive, of_negatives = self.terms(positive, negative, weight)
        return of_positive + of_negatives

    def use_subsampling(self, variant: Subsampling, alpha: float) -> None:
        """Take these options; they decide the objective together with the loss."""
        known = get_args(Subsampling)
        require(variant in known, "loss.subsampling", f"one of {', '.join(known)}", variant)
        require(alpha >= 0, "loss.alpha", ">= 0", alpha)
        self.subsampling, self.alpha = variant, alpha
        if alpha and variant in ("base", "freq"):
            self.objective = _SUBSAMPLED[self.objective]

    def emphasis(self, pairs: Counts, queries: Counts) -> Emphasis | None:
        """A and B of all training rows of a side, from #(x,y) and #x of each; None when both are 1."""
        match self.subsampling:
            case "base":
                return _rarity(pairs, self.alpha), _rarity(pairs, self.alpha)
            case "freq":
                return _rarity(pairs, self.alpha), _rarity(queries, self.alpha)
            case "uniq":
                return _rarity(queries, self.alpha), _rarity(queries, self.alpha)
            case _:
                return None


def _rarity(counts: Counts, alpha: float) -> Float[Tensor, " N"]:
    """W of each count; its mean is 1."""
    weight = counts.to(torch.get_default_dtype()) ** -alpha
    return weight / weight.mean()


def query_weights(positive: Rows, query: Int[Tensor, " B"], temperature: float) -> Rows:
    """Weight of each row of a batch by the scores of its query's answers in it; the mean is 1.

    Proportional to (sum over the batch's rows of the same query of exp(s)) ^ temperature. `query` numbers the
    query of each row.
    """
    scores = positive.detach()
    group = _numbered(query)
    highest = torch.full_like(scores, -math.inf).scatter_reduce(0, group, scores, "amax")
    mass = torch.zeros_like(highest).index_add(0, group, (scores - highest[group]).exp())
    return len(scores) * (temperature * (highest + mass.log())[group]).softmax(dim=0)


def _numbered(names: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The same number for the same name, below B: torch.unique would wait for the device to count the names."""
    ordered, order = names.sort()
    is_next = torch.nn.functional.pad((ordered[1:] != ordered[:-1]).long(), (1, 0))
    return torch.empty_like(order).scatter_(0, order, is_next.cumsum(0))
