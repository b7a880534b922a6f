"""Estimates where ranking everything costs too much: some triples of a split, or some candidates of each query.

A sample of triples, ranked among all entities, estimates MRR, Hits@k and mean rank without bias. The standard
error of its MRR is

    sqrt((1 - k/N) s^2 / k)        k of N triples, s^2 the variance of a triple's mean reciprocal rank of both sides

Sampled candidates are m entities for each query, drawn uniformly and with replacement from those that the filter
leaves, and the answer. Of an answer at rank r of n they give a rank

    q ~ 1 + Binomial(m, (r - 1) / (n - 1)),        so that 1 + (n - 1) (q - 1) / m has the expectation r

which makes mean rank and AMRI estimable. MRR and Hits@k of such ranks are others than those of all entities, and
may even order two models the other way round.

Krichene, Rendle: On Sampled Metrics for Item Recommendation. KDD 2020. https://doi.org/10.1145/3394486.3403226

Shapes  N triples, k sampled ones, Q queries of a block, M sampled candidates of each, K excluded (query, entity) pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.data import Side, Triples
from kge.evaluation import float32_scores, scoring
from kge.filters import FilterIndex
from kge.metrics import above_chance, expected_mean_rank
from kge.models.base import AbstractModel
from kge.ranks import Float64s, Int64s, Ranks, from_counts

_GATHERED = 16 * 2**20  # numbers of candidate vectors held at once


@dataclass(frozen=True, kw_only=True)
class SampledRanks:
    """Ranks among sampled candidates, and how many candidates there would have been."""

    ranks: Ranks
    population: Int64s


def sample_triples(triples: Triples, count: int, *, seed: int) -> Int[Tensor, "k 3"]:
    """Triples drawn without replacement, in their order."""
    rows = np.random.default_rng(seed).choice(len(triples), size=count, replace=False, shuffle=False)
    return triples[np.sort(rows)]


def mrr_standard_error(ranks: Sequence[Ranks], *, of: int) -> float:
    """Standard error of the MRR of sampled triples `of` so many; a triple's two queries are one draw."""
    each = np.mean([1 / side.realistic for side in ranks], axis=0)
    return float(np.sqrt((1 - len(each) / of) * np.var(each, ddof=1) / len(each)))


def rank_among_sampled(
    model: AbstractModel, triples: Triples, known: FilterIndex, *, count: int, seed: int
) -> tuple[SampledRanks, ...]:
    """Rank every triple's tail and head among `count` sampled candidates; the seed alone decides which."""
    with scoring(model):
        return tuple(_rank_side(model, triples, known, side, count, seed) for side in Side)


def full_estimates(sampled: Sequence[SampledRanks]) -> Mapping[str, float]:
    """What the sampled ranks say without bias about ranks among all entities."""
    population = np.concatenate([side.population for side in sampled])
    mean_rank = float(np.mean(np.concatenate([_estimated_rank(side) for side in sampled])))
    amri = above_chance(mean_rank, chance=expected_mean_rank(population))
    return {"mean_rank_estimate": mean_rank, "amri_estimate": amri}


def _estimated_rank(sampled: SampledRanks) -> Float64s:
    drawn = np.maximum(sampled.ranks.candidates - 1, 1)
    return 1 + (sampled.population - 1) * (sampled.ranks.realistic - 1) / drawn


def _rank_side(
    model: AbstractModel, triples: Triples, known: FilterIndex, side: Side, count: int, seed: int
) -> SampledRanks:
    anchors, relations, answers = side.anchors(triples), triples[:, 1], side.answers(triples)
    generator = np.random.default_rng([seed, list(Side).index(side)])
    greater, equal, population = torch.empty_like(answers), torch.empty_like(answers), torch.empty_like(answers)
    rows = max(1, _GATHERED // ((count + 1) * model.entities.shape[1]))
    for part in (slice(start, start + rows) for start in range(0, len(triples), rows)):
        excluded = _excluded(known.pairs(side, anchors[part], relations[part]), answers[part], model.num_entities)
        fractions = torch.from_numpy(generator.random((len(answers[part]), count))).to(answers.device)
        drawn, population[part] = _draw(fractions, excluded, model.num_entities)
        candidates = torch.cat([answers[part, None], drawn], dim=1)
        scores = float32_scores(model, side, anchors[part], relations[part], candidates)
        true, others = scores[:, :1], scores[:, 1:]
        greater[part], equal[part] = (others > true).sum(dim=1), (others == true).sum(dim=1)
    real = population > 1
    ranked = from_counts(side, triples, greater=greater * real, equal=equal * real, candidates=1 + count * real)
    return SampledRanks(ranks=ranked, population=population.cpu().numpy())


def _excluded(
    known: tuple[Int[Tensor, " A"], Int[Tensor, " A"]], answers: Int[Tensor, " Q"], num_entities: int
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Known answers and the answer itself, each once, sorted by query and entity."""
    rows = torch.cat([known[0], torch.arange(len(answers), device=answers.device)])
    packed = torch.unique(rows * num_entities + torch.cat([known[1], answers]))
    return packed // num_entities, packed % num_entities


def _draw(
    fractions: Float[Tensor, "Q M"], excluded: tuple[Int[Tensor, " K"], Int[Tensor, " K"]], num_entities: int
) -> tuple[Int[Tensor, "Q M"], Int[Tensor, " Q"]]:
    """Entities at these fractions of what is not excluded, and the number of all candidates with the answer.

    Of the sorted excluded x_0 < x_1 < ..., those with x_i - i <= u stand before the u-th entity that is left.
    Where nothing is left the draw is an excluded entity or none at all, and must not be counted.
    """
    row, entity = excluded
    sizes = torch.bincount(row, minlength=len(fractions))
    starts = sizes.cumsum(0) - sizes
    left = num_entities - sizes
    nth = (fractions * left[:, None]).long()
    first_row = torch.arange(len(fractions), device=row.device)[:, None] * num_entities
    before = entity - (torch.arange(len(row), device=row.device) - starts[row]) + row * num_entities
    skipped = torch.searchsorted(before, nth + first_row, right=True) - starts[:, None]
    return (nth + skipped).clamp(max=num_entities - 1), left + 1
