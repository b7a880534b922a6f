"""The numbers of a report: means with t-intervals, best-so-far curves, rank correlation, parity of budgets.

    interval = mean +- t(n - 1) * std / sqrt(n),   std with n - 1 in the denominator
    tau-b    = (agreeing pairs - disagreeing pairs) / sqrt(pairs untied in a * pairs untied in b)

Student's t needs no special functions when its degrees of freedom are whole: with
theta = arctan(t / sqrt(df)), the probability between -t and t is a finite series in cos(theta)
(Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4), which is inverted here
by bisection over theta. That keeps this module on numpy alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_BISECTIONS = 60  # an interval of pi/2 is down to neighbouring floats after about 55


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


def t_probability(df: int, t: float) -> float:
    """The part of Student's distribution that lies between -t and t."""
    if df < 1:
        raise ValueError(f"t_probability: df must be >= 1, got {df}")
    return min(_central_probability(df, math.atan(t / math.sqrt(df))), 1.0)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values: comparing each with alpha keeps the chance of any false finding at alpha."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = list(p_values), 0.0
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(order) - step)))
        adjusted[index] = highest
    return tuple(adjusted)


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


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b of two measurements of the same things; None of fewer than two, or where all are equal."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    agreement = untied_a = untied_b = 0.0
    for i in range(1, len(a)):  # each pair once, in rows: memory stays that of one row
        signs_a, signs_b = np.sign(a[i] - a[:i]), np.sign(b[i] - b[:i])
        agreement += float(signs_a @ signs_b)
        untied_a += float(signs_a @ signs_a)
        untied_b += float(signs_b @ signs_b)
    return agreement / math.sqrt(untied_a * untied_b) if untied_a and untied_b else None


def parity_factor(spent: Sequence[float]) -> float:
    """Largest over smallest of what the arms spent: 1 when equal, infinite when only some spent nothing."""
    if any(value < 0 for value in spent):
        raise ValueError(f"parity_factor: what was spent must be >= 0, got {list(spent)}")
    largest, smallest = max(spent, default=0.0), min(spent, default=0.0)
    if largest == smallest:
        return 1.0
    return math.inf if smallest == 0 else largest / smallest
