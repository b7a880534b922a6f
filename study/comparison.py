"""Is one arm better than another, and how sure is that? Paired over test triples, unpaired over seeds.

    score          reciprocal rank of a triple (mean of its two sides); S seeds an arm, the same triples for all
    difference d   mean score of one arm - mean score of the other
    se             standard deviation of d over resamples of the triples, one for all arms, and of each arm's seeds
    interval       d +- t(df) se;    p = P(|T(df)| > |d| / se), adjusted over all pairs after Holm
    beats          P(a new seed of the one scores above a new seed of the other) on these triples
    effect         Hedges' g: d in standard deviations of a seed, corrected for few seeds
    detectable     the true difference that such a comparison finds with this power

Efron, Tibshirani: An Introduction to the Bootstrap. 1993. Owen: The pigeonhole bootstrap. AOAS 2007.
Holm: A simple sequentially rejective multiple test procedure. Scand. J. Statist. 1979.
Newcombe: Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2. Stat. Med. 2006.
Bouthillier et al.: Accounting for Variance in Machine Learning Benchmarks. MLSys 2021.

Five seeds say little about their own spread, which a plain bootstrap hides twice: resamples of S values vary by
(S - 1) / S too little, and their quantiles are those of a spread that is known. So resampled deviations of seeds
are enlarged by sqrt(S / (S - 1)), and t has Satterthwaite's degrees of freedom. Fewer than five seeds that
happen to lie close together would pass for certain: then t has no more degrees of freedom than two arms of as few
seeds would have. One seed says nothing: refused.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study import stats

Scores = NDArray[np.float64]  # (seeds, triples)
_BLOCK = 64  # resamples at once
_MOST_DF = 300  # more would narrow nothing by half a percent and cost time
_BISECTIONS = 60
_DIGITS = 9
_ENOUGH = 5  # seeds whose spread is taken for what it seems


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the replicates say of two arms."""

    first: str
    second: str
    difference: float  # of mean scores, first - second
    low: float  # confidence interval of the difference, of this pair alone
    high: float
    se: float
    df: int
    p: float  # of no difference
    adjusted: float  # ... over all pairs
    beats: float  # probability that a new seed of the first scores above one of the second
    beats_low: float
    beats_high: float
    effect: float | None  # None where seeds do not differ at all
    detectable: float  # as the first step of Holm's procedure would find it


def compare(
    scores: Mapping[str, Scores],
    *,
    generator: np.random.Generator,
    pairs: Iterable[tuple[str, str]] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    power: float = 0.8,
) -> tuple[Comparison, ...]:
    """These pairs of arms, or every pair in the order in which the arms are given."""
    chosen = list(combinations(scores, 2) if pairs is None else pairs)
    met = {arm: values for arm, values in scores.items() if any(arm in pair for pair in chosen)}
    _check(met)
    means = resampled_means(met, generator=generator, resamples=resamples)
    found = [_compare(pair, met, means, confidence=confidence, power=power, comparisons=len(chosen)) for pair in chosen]
    adjusted = stats.holm([each.p for each in found])
    return tuple(_rounded(replace(each, adjusted=p)) for each, p in zip(found, adjusted, strict=True))


def resampled_means(
    scores: Mapping[str, Scores], *, generator: np.random.Generator, resamples: int
) -> dict[str, NDArray[np.float64]]:
    """The mean score of every arm in each resample; triples are drawn for all arms together."""
    blocks = list(_blocks(scores, generator, resamples))
    return {arm: np.concatenate([block[arm] for block in blocks]) for arm in scores}


def beats(first: NDArray[np.float64], second: NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """P(a value like the first is above one like the second), ties as half, with its score interval."""
    above = np.sign(first[:, None] - second[None, :])
    estimate = float(np.mean(above) / 2 + 0.5)
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def within(theta: float) -> bool:
        return abs(estimate - theta) <= z * math.sqrt(_variance(theta, len(first), len(second)))

    return estimate, _edge(within, estimate, 0.0), _edge(within, estimate, 1.0)


def effect_size(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Hedges' g of two samples; None where neither varies."""
    df = len(first) + len(second) - 2
    squares = np.sum((first - first.mean()) ** 2) + np.sum((second - second.mean()) ** 2)
    if squares == 0:
        return None
    g = (first.mean() - second.mean()) / math.sqrt(squares / df)
    return float(g * (1 - 3 / (4 * df - 1)))


def detectable_gap(*, se: float, df: int, comparisons: int = 1, confidence: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that is found with this power at the first step of Holm's procedure."""
    if not 0.5 < power < 1:
        raise ValueError(f"detectable_gap: power must be in (0.5, 1), got {power}")
    found = stats.t_quantile(df, 1 - (1 - confidence) / comparisons)
    return se * (found + stats.t_quantile(df, 2 * power - 1))


def _check(scores: Mapping[str, Scores]) -> None:
    for arm, values in scores.items():
        if values.ndim != 2 or len(values) < 2 or values.shape[1] < 2:
            raise ValueError(f"compare: {arm}: must be at least 2 seeds x 2 triples, got shape {values.shape}")
    widths = {values.shape[1] for values in scores.values()}
    if len(widths) > 1:
        raise ValueError(f"compare: arms must be scored on the same triples, got {sorted(widths)} of them")


def _blocks(
    scores: Mapping[str, Scores], generator: np.random.Generator, resamples: int
) -> Iterator[dict[str, NDArray[np.float64]]]:
    if not scores:
        return
    rows, triples = np.concatenate(list(scores.values())), next(iter(scores.values())).shape[1]
    ends = np.cumsum([len(values) for values in scores.values()])[:-1]
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn = generator.integers(triples, size=(size, triples))
        counts = np.stack([np.bincount(row, minlength=triples) for row in drawn], axis=1) / triples
        by_arm = np.split(rows @ counts, ends)  # one product for all: a busy machine waits for each
        yield {arm: _seeds_resampled(seeds, generator) for arm, seeds in zip(scores, by_arm, strict=True)}


def _seeds_resampled(seeds: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """The mean over resampled seeds (rows) in each resample of triples (columns)."""
    count, size = seeds.shape
    counts = generator.multinomial(count, np.full(count, 1 / count), size=size)
    deviations = np.einsum("rs,sr->r", counts / count - 1 / count, seeds)
    return np.asarray(seeds.mean(axis=0) + math.sqrt(count / (count - 1)) * deviations)


def _compare(
    pair: tuple[str, str],
    scores: Mapping[str, Scores],
    means: Mapping[str, NDArray[np.float64]],
    *,
    confidence: float,
    power: float,
    comparisons: int,
) -> Comparison:
    first, second = (scores[arm].mean(axis=1) for arm in pair)
    difference = float(first.mean() - second.mean())
    se, df = _uncertainty(first, second, means[pair[0]] - means[pair[1]], triples=scores[pair[0]].shape[1])
    half = stats.t_quantile(df, confidence) * se
    p = 1 - stats.t_probability(df, abs(difference) / se) if se else float(difference == 0)
    estimate, low, high = beats(first, second, confidence)
    return Comparison(
        first=pair[0],
        second=pair[1],
        difference=difference,
        low=difference - half,
        high=difference + half,
        se=se,
        df=df,
        p=p,
        adjusted=p,
        beats=estimate,
        beats_low=low,
        beats_high=high,
        effect=effect_size(first, second),
        detectable=detectable_gap(se=se, df=df, comparisons=comparisons, confidence=confidence, power=power),
    )


def _rounded(pair: Comparison) -> Comparison:
    """The last digits of a product depend on how many threads made it; these do not."""
    numbers: dict[str, Any] = {name: each for name, each in vars(pair).items() if isinstance(each, float)}
    return replace(pair, **{name: round(each, _DIGITS) for name, each in numbers.items()})


def _uncertainty(
    first: NDArray[np.float64], second: NDArray[np.float64], differences: NDArray[np.float64], *, triples: int
) -> tuple[float, int]:
    """The standard error of a difference, and how well it is known: Satterthwaite's degrees of freedom."""
    seeds = [(float(np.var(each, ddof=1)) / len(each), len(each) - 1) for each in (first, second)]
    variance = max(float(np.var(differences, ddof=1)), sum(part for part, _ in seeds))
    parts = [*seeds, (variance - sum(part for part, _ in seeds), triples - 1)]
    blur = sum(part**2 / df for part, df in parts)
    fewest = min(len(first), len(second))
    most = _MOST_DF if fewest >= _ENOUGH else 2 * (fewest - 1)
    return math.sqrt(variance), min(max(int(variance**2 / blur), 1), most) if blur else most


def _variance(theta: float, first: int, second: int) -> float:
    """Of the estimate of P(above), when it is truly theta; Newcombe's method 5."""
    extra = (first + second) / 2 - 1
    spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return theta * (1 - theta) * spread / (first * second)


def _edge(within: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where an interval ends, between its estimate and the end of the scale."""
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if within(middle) else (inside, middle)
    return inside
