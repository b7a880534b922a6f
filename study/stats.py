"""The numbers of a report: means with t-intervals, best-so-far curves and the parity of budgets.

    interval = mean +- t(n - 1) * std / sqrt(n),   std with n - 1 in the denominator

Student's t needs no special functions when its degrees of freedom are whole: with
theta = arctan(t / sqrt(df)), the probability between -t and t is a finite series in cos(theta)
(Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4), which is inverted here
by bisection over theta. That keeps this module on numpy alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_BISECTIONS = 200  # an interval of pi/2 is down to neighbouring floats after about 55


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean, spread and confidence interval of a few numbers; None where there are too few of them."""

    count: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of no values."""
    return float(np.mean(values)) if len(values) else None


def std(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample (ddof = 1), or None of fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) >= 2 else None


def summarize(values: Sequence[float], *, confidence: float = 0.95) -> Summary:
    """Mean, standard deviation and t-interval; the latter two need at least two values."""
    center, spread = mean(values), std(values)
    if center is None or spread is None:
        return Summary(count=len(values), mean=center, std=None, low=None, high=None)
    half = t_quantile(len(values) - 1, confidence) * spread / math.sqrt(len(values))
    return Summary(count=len(values), mean=center, std=spread, low=center - half, high=center + half)


def t_quantile(df: int, confidence: float) -> float:
    """The t that holds `confidence` of Student's distribution between -t and t."""
    if df < 1:
        raise ValueError(f"t_quantile: df must be >= 1, got {df}")
    if not 0 < confidence < 1:
        raise ValueError(f"t_quantile: confidence must be in (0, 1), got {confidence}")
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _central_probability(df, middle) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan((low + high) / 2)


def _central_probability(df: int, theta: float) -> float:
    """P(|T| < sqrt(df) * tan(theta)), Abramowitz & Stegun 26.7.3 (odd df) and 26.7.4 (even df)."""
    odd = df % 2
    cosine = math.cos(theta)
    term = cosine if odd else 1.0
    series = 0.0 if df == 1 else term
    for k in range(2 + odd, df, 2):  # each term multiplies the one before by cos^2 * (k - 1) / k
        term *= cosine * cosine * (k - 1) / k
        series += term
    series *= math.sin(theta)
    return (theta + series) * 2 / math.pi if odd else series


def best_so_far(values: Iterable[float | None]) -> tuple[float | None, ...]:
    """The running maximum; None (a trial that measured nothing) leaves the best as it was."""
    best: float | None = None
    curve: list[float | None] = []
    for value in values:
        if value is not None and (best is None or value > best):
            best = value
        curve.append(best)
    return tuple(curve)


def parity_factor(spent: Sequence[float]) -> float:
    """Largest over smallest of what the arms spent: 1 when equal, infinite when only some spent nothing."""
    if any(value < 0 for value in spent):
        raise ValueError(f"parity_factor: what was spent must be >= 0, got {list(spent)}")
    largest, smallest = max(spent, default=0.0), min(spent, default=0.0)
    if largest == smallest:
        return 1.0
    return math.inf if smallest == 0 else largest / smallest
