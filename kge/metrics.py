"""Metrics of ranks, and what chance alone would give.

    mrr, hits_at_k, mean_rank    means over the realistic ranks r of all queries of both sides
    amri          = 1 - (MR - 1) / (E[MR] - 1),      E[MR]  = mean over queries of (n + 1) / 2
    adjusted_mrr  = (MRR - E[MRR]) / (1 - E[MRR]),   E[MRR] = mean over queries of H(n) / n

where n counts the candidates of a query after filtering and H(n) = 1 + 1/2 + ... + 1/n: a random order
gives 0, a perfect one 1, whatever the size of the graph. A constant score gives an AMRI of exactly 0 and an
adjusted MRR slightly below 0, as its ranks are all (n + 1) / 2 and 1/r is convex.

AMRI: Berrendorf, Faerman, Vermue, Tresp: On the Ambiguity of Rank-Based Evaluation. 2020.
https://arxiv.org/abs/2002.06914. Adjusted MRR: Hoyt, Berrendorf, Galkin, Tresp, Gyori: A Unified Framework for
Rank-based Evaluation Metrics for Link Prediction in Knowledge Graphs. 2022. https://arxiv.org/abs/2203.07544
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from kge.ranks import Int64s, Ranks

_HITS = (1, 3, 10)
_TIE_ALARM = 0.001  # optimistic minus pessimistic MRR


def metrics(ranks: Sequence[Ranks]) -> Mapping[str, float]:
    """Both sides together: MRR of the three ranks, everything else of the realistic one."""
    realistic = np.concatenate([side.realistic for side in ranks])
    optimistic = np.concatenate([side.optimistic for side in ranks])
    pessimistic = np.concatenate([side.pessimistic for side in ranks])
    candidates = np.concatenate([side.candidates for side in ranks])
    mrr, mean_rank = float(np.mean(1 / realistic)), float(np.mean(realistic))
    return {
        "mrr": mrr,
        "mrr_optimistic": float(np.mean(1 / optimistic)),
        "mrr_pessimistic": float(np.mean(1 / pessimistic)),
        **{f"hits_at_{k}": float(np.mean(realistic <= k)) for k in _HITS},
        "mean_rank": mean_rank,
        "amri": above_chance(mean_rank, chance=expected_mean_rank(candidates)),
        "adjusted_mrr": above_chance(mrr, chance=expected_mrr(candidates)),
        **{f"mrr_{side.side}": float(np.mean(1 / side.realistic)) for side in ranks},
    }


def above_chance(value: float, *, chance: float) -> float:
    """0 at chance and 1 at best, which is 1 for a mean rank and for an MRR; 0 where chance is as good as the best."""
    return 0.0 if math.isclose(chance, 1) else (value - chance) / (1 - chance)


def expected_mean_rank(candidates: Int64s) -> float:
    """Mean rank of a random order."""
    return float(np.mean((candidates + 1) / 2))


def expected_mrr(candidates: Int64s) -> float:
    """MRR of a random order."""
    sizes, counts = np.unique(candidates, return_counts=True)
    harmonic = torch.special.digamma(torch.from_numpy(sizes + 1.0)).numpy() + np.euler_gamma
    return float(np.average(harmonic / sizes, weights=counts))


def tie_alarm(found: Mapping[str, float]) -> str | None:
    """One sentence when so many scores tie that a rank is a matter of convention."""
    high, low = found["mrr_optimistic"], found["mrr_pessimistic"]
    if high - low <= _TIE_ALARM:
        return None
    return (
        f"many scores tie: optimistic MRR {high:.4f} and pessimistic MRR {low:.4f} are more than {_TIE_ALARM} apart, "
        "as of a model that is constant or saturated"
    )
