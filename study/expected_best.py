"""What would fewer trials have found? From the i.i.d. part of a search, in which all arms drew alike.

    mean       E[best of k] = sum_i v_(i) C(i - 1, k - 1) / C(n, k)       v_(1) <= ... <= v_(n), unbiased for k <= n
    median     the v_(i) at which these weights, summed from below, reach a half
    low, high  interval of the median best of k, which is the quantile p = (1/2)^(1/k) of a single trial:
               the order statistics with P(Bin(n, p) < l) <= alpha / 2 and P(Bin(n, p) >= u) <= alpha / 2

Where trials are i.i.d. the interval supposes nothing of the distribution and covers for any n. They are not where one
was pruned: what others reached decided that, and fewer others would have decided otherwise. The interval's price is
that n trials bound the best of k from above only while k is below about a fifth of n: whoever trained ten cannot say
what the best of five is.

Dodge, Gururangan, Card, Schwartz, Smith: Show Your Work. EMNLP 2019. Tang, Lee, Xin, Liu, Yu, Lin: Showing Your Work
Doesn't Always Work. ACL 2020 (the unbiased form). Lourie, Cho, He: Show Your Work with Confidence. NAACL 2024 (why
the median, and order statistics).

An order flips at k trials when the best of k draws orders two arms otherwise than all n do. The arms' n-th
trials share their random numbers, so the same trials are drawn for all arms.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from study.records import TrialRecord, TrialState

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class ExpectedBest:
    """The best of so many trials: its mean, and its median with an interval; None where no trial bounds it."""

    trials: int
    mean: float
    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Flip:
    """How likely so many trials put two arms the other way round than all did."""

    trials: int
    first: str
    second: str
    probability: float  # ties count as half


def random_part(trials: Iterable[TrialRecord]) -> tuple[float, ...]:
    """What each i.i.d. trial of an arm offered, by number; one that could not be selected offered nothing: 0.

    None at all where one was pruned: alone it would have gone on.
    """
    drawn = sorted(_drawn(trials), key=lambda each: each.number)
    if is_pruned(drawn):
        return ()
    return tuple(trial.best_mrr if trial.is_selectable and trial.best_mrr is not None else 0.0 for trial in drawn)


def is_pruned(trials: Iterable[TrialRecord]) -> bool:
    """Whether an i.i.d. trial was pruned, which makes all of them depend on one another."""
    return any(trial.state is TrialState.PRUNED for trial in _drawn(trials))


def expected_charge(trials: Collection[TrialRecord], unit: str) -> tuple[float, ...]:
    """What 1, 2, ... i.i.d. trials of an arm are charged, on average over all choices of so many: a line.

    What all trials of an arm start from is charged once, whatever their number.
    """
    charges = [getattr(trial.cost, unit) for trial in _drawn(trials)]
    before = math.fsum(getattr(trial.pretraining, unit) for trial in trials)
    return tuple(before + number * math.fsum(charges) / len(charges) for number in range(1, len(charges) + 1))


def expected_best(values: Sequence[float], *, confidence: float = 0.95) -> tuple[ExpectedBest, ...]:
    """The expected best of 1, 2, ... trials out of these."""
    ordered = np.sort(np.asarray(values, dtype=float))
    return tuple(_expected(ordered, trials, confidence) for trials in range(1, len(ordered) + 1))


def flips(
    values: Mapping[str, Sequence[float]],
    *,
    generator: np.random.Generator,
    pairs: Iterable[tuple[str, str]] | None = None,
    draws: int = 2000,
) -> tuple[Flip, ...]:
    """For these pairs of arms, or all, and every number of trials; each arm needs as many values, trial by trial."""
    lengths = {len(each) for each in values.values()}
    if len(lengths) > 1:
        raise ValueError(f"flips: arms must have as many trials each, got {sorted(lengths)}")
    count = next(iter(lengths), 0)
    orders = generator.permuted(np.tile(np.arange(count), (draws, 1)), axis=1)
    best = {arm: np.maximum.accumulate(np.asarray(each, dtype=float)[orders], axis=1) for arm, each in values.items()}
    return tuple(
        Flip(trials=trials, first=first, second=second, probability=probability)
        for first, second in (combinations(values, 2) if pairs is None else pairs)
        for trials, probability in enumerate(_flipped(best[first], best[second]), start=1)
    )


def _drawn(trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
    """The i.i.d. trials that have ended."""
    return (trial for trial in trials if trial.random and trial.state.is_final)


def _expected(ordered: NDArray[np.float64], trials: int, confidence: float) -> ExpectedBest:
    weights = _weights(len(ordered), trials)
    low, high = _bounds(len(ordered), 0.5 ** (1 / trials), (1 - confidence) / 2)
    return ExpectedBest(
        trials=trials,
        mean=float(weights @ ordered),
        median=float(ordered[np.searchsorted(np.cumsum(weights), 0.5 - _ROUNDING)]),
        low=None if low is None else float(ordered[low]),
        high=None if high is None else float(ordered[high]),
    )


def _weights(count: int, trials: int) -> NDArray[np.float64]:
    """C(i - 1, k - 1) / C(n, k) for i = 1..n: k / n for the largest, then down by the ratio of neighbours."""
    below = np.arange(count - 1, 0, -1)
    ratios = np.maximum(below - trials + 1, 0) / below
    return np.cumprod(np.concatenate([[trials / count], ratios]))[::-1]


def _bounds(count: int, quantile: float, tail: float) -> tuple[int | None, int | None]:
    """The places of the values that bound a quantile from below and from above, each but for `tail`."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])  # of factorials
    below = np.arange(count + 1)  # how many values lie below the quantile
    log_p = logs[-1] - logs - logs[::-1] + below * math.log(quantile) + below[::-1] * math.log1p(-quantile)
    at_most = np.cumsum(np.exp(log_p))
    at_least = np.cumsum(np.exp(log_p)[::-1])[::-1]
    low = int(np.searchsorted(at_most, tail, side="right")) - 1  # so many may be fewer than l by chance
    high = count - int(np.searchsorted(at_least[::-1], tail, side="right"))
    return (low if low >= 0 else None), (high if high < count else None)


def _flipped(first: NDArray[np.float64], second: NDArray[np.float64]) -> list[float]:
    """By number of trials, from the running bests of each draw; the last column is the order of all trials."""
    signs = np.sign(first - second)
    return [float(each) for each in np.mean(np.abs(signs - signs[:, -1:]), axis=0) / 2]
