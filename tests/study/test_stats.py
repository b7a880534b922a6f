"""Statistics against known answers: printed t tables, hand calculations, a simulation of coverage."""

import math

import numpy as np
import pytest
import scipy.stats

from study import stats

# Two-sided 95 % and 99 % points of Student's t, from printed tables.
T_TABLE = [
    (1, 0.95, 12.7062),
    (2, 0.95, 4.30265),
    (3, 0.95, 3.18245),
    (4, 0.95, 2.77645),
    (9, 0.95, 2.26216),
    (30, 0.95, 2.04227),
    (1, 0.99, 63.6567),
    (4, 0.99, 4.60409),
    (120, 0.99, 2.61742),
    (1, 0.5, 1.0),
]


@pytest.mark.parametrize(("df", "confidence", "expected"), T_TABLE)
def test_t_quantile_is_the_printed_one(df: int, confidence: float, expected: float) -> None:
    assert stats.t_quantile(df, confidence) == pytest.approx(expected, rel=1e-5)


def test_t_quantile_of_two_degrees_has_a_closed_form() -> None:
    for confidence in (0.1, 0.5, 0.9, 0.99, 0.999):
        expected = confidence * math.sqrt(2 / (1 - confidence**2))
        assert stats.t_quantile(2, confidence) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("df", "confidence"), [(0, 0.95), (4, 0.0), (4, 1.0)])
def test_t_quantile_refuses_what_has_no_quantile(df: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        stats.t_quantile(df, confidence)


def test_summary_of_a_known_sample() -> None:
    summary = stats.summarize([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary.count == 8
    assert summary.mean == pytest.approx(5.0)
    assert summary.std == pytest.approx(math.sqrt(32 / 7))
    half = 2.364624 * math.sqrt(32 / 7 / 8)  # t of 7 degrees of freedom
    assert summary.low == pytest.approx(5 - half, rel=1e-6)
    assert summary.high == pytest.approx(5 + half, rel=1e-6)


def test_summary_without_enough_values_claims_nothing() -> None:
    assert stats.summarize([]) == stats.Summary(count=0, mean=None, std=None, low=None, high=None)
    assert stats.summarize([0.3]) == stats.Summary(count=1, mean=0.3, std=None, low=None, high=None)


def test_equal_values_have_an_interval_of_no_width() -> None:
    summary = stats.summarize([0.25, 0.25, 0.25])
    assert (summary.std, summary.low, summary.high) == (0.0, 0.25, 0.25)


def test_t_intervals_cover_the_mean_as_often_as_they_say() -> None:
    samples = np.random.default_rng(0).normal(loc=3.0, size=(4000, 5))
    summaries = [stats.summarize(list(sample)) for sample in samples]
    covered = np.mean([s.low <= 3.0 <= s.high for s in summaries if s.low is not None and s.high is not None])
    assert covered == pytest.approx(0.95, abs=0.011)  # three standard errors of 4000 draws


def test_best_so_far_never_falls_and_skips_what_measured_nothing() -> None:
    assert stats.best_so_far([None, 0.2, 0.1, None, 0.3, 0.3]) == (None, 0.2, 0.2, 0.2, 0.3, 0.3)
    assert stats.best_so_far([]) == ()


@pytest.mark.parametrize(
    ("spent", "factor"),
    [([], 1.0), ([0, 0], 1.0), ([7], 1.0), ([30, 30, 30], 1.0), ([10, 25], 2.5), ([0, 3], math.inf)],
)
def test_parity_factor(spent: list[float], factor: float) -> None:
    assert stats.parity_factor(spent) == factor


def test_parity_factor_refuses_negative_spending() -> None:
    with pytest.raises(ValueError, match=">= 0"):
        stats.parity_factor([1.0, -1.0])


def test_t_probability_undoes_the_quantile() -> None:
    for df, confidence, expected in T_TABLE:
        assert stats.t_probability(df, expected) == pytest.approx(confidence, abs=1e-5)
    assert stats.t_probability(3, 0.0) == 0
    assert stats.t_probability(300, 50.0) == pytest.approx(1)
    with pytest.raises(ValueError, match="df"):
        stats.t_probability(0, 1.0)


def test_holm_adjusts_step_by_step() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert stats.holm([0.6, 0.9]) == (1.0, 1.0)
    assert stats.holm([]) == ()


@pytest.mark.parametrize("distinct", [3, 1000])
def test_kendall_tau_is_that_of_scipy(distinct: int) -> None:
    generator = np.random.default_rng(distinct)
    for size in (2, 5, 40):
        first, second = generator.integers(distinct, size=(2, size)).astype(float)
        second += first / 2
        expected = scipy.stats.kendalltau(first, second).statistic
        found = stats.kendall_tau(list(first), list(second))
        assert found == (None if math.isnan(expected) else pytest.approx(expected))


def test_kendall_tau_of_too_little_is_none() -> None:
    assert stats.kendall_tau([], []) is None
    assert stats.kendall_tau([0.1], [0.2]) is None
    assert stats.kendall_tau([0.1, 0.2], [0.3, 0.3]) is None
