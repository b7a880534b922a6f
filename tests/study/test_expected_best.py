"""The best of fewer trials, against enumeration of all subsets and against simulated searches."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from study.expected_best import expected_best, flips, random_part
from study.records import TrialState
from tests.study import records_factory as factory

Draw = Callable[[np.random.Generator, int], np.ndarray]
DISTRIBUTIONS: dict[str, Draw] = {
    "uniform": lambda generator, size: generator.random(size),
    "skewed": lambda generator, size: generator.exponential(size=size),
    "a third fails": lambda generator, size: np.where(generator.random(size) < 0.3, 0, generator.beta(5, 2, size)),
}


def test_mean_and_median_are_those_of_all_subsets() -> None:
    values = np.random.default_rng(0).random(7)
    for best in expected_best(tuple(values)):
        every = sorted(max(chosen) for chosen in combinations(values, best.trials))
        assert best.mean == pytest.approx(np.mean(every))
        assert best.median == every[(len(every) - 1) // 2]


def test_ties_and_single_trials() -> None:
    assert [(best.mean, best.median) for best in expected_best([0.2, 0.2, 0.2])] == [(pytest.approx(0.2), 0.2)] * 3
    alone = expected_best([0.3])[0]
    assert (alone.mean, alone.median, alone.low, alone.high) == (0.3, 0.3, None, None)
    assert expected_best([]) == ()


def test_bounds_are_order_statistics_of_the_binomial() -> None:
    values = tuple(i / 100 for i in range(20))
    for best in expected_best(values):
        quantile = 0.5 ** (1 / best.trials)
        low = [i for i in range(20) if scipy.stats.binom.cdf(i, 20, quantile) <= 0.025]
        high = [i for i in range(20) if scipy.stats.binom.sf(i, 20, quantile) <= 0.025]
        assert best.low == (values[max(low)] if low else None)
        assert best.high == (values[min(high)] if high else None)
    assert [best.trials for best in expected_best(values) if best.high is not None] == [1, 2, 3]  # a fifth


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("trials", [1, 3, 8])
def test_intervals_cover_the_median_best(name: str, trials: int) -> None:
    generator, draw = np.random.default_rng(1), DISTRIBUTIONS[name]
    truth = np.median(draw(generator, trials * 100_000).reshape(-1, trials).max(axis=1))
    studies = [expected_best(tuple(draw(generator, 20)))[trials - 1] for _ in range(400)]
    covered = [(s.low is None or s.low <= truth) and (s.high is None or truth <= s.high) for s in studies]
    assert np.mean(covered) >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_mean_is_unbiased(name: str) -> None:
    generator, draw = np.random.default_rng(2), DISTRIBUTIONS[name]
    truth = draw(generator, 800_000).reshape(-1, 8).max(axis=1)
    estimates = [expected_best(tuple(draw(generator, 12)))[7].mean for _ in range(600)]
    error = (np.var(estimates) / 600 + np.var(truth) / 100_000) ** 0.5
    assert abs(np.mean(estimates) - truth.mean()) < 3 * error


def test_flips_are_those_of_all_subsets() -> None:
    generator = np.random.default_rng(3)
    values = {"a": tuple(generator.random(6)), "b": tuple(generator.random(6)), "c": tuple(generator.random(6))}
    found = flips(values, generator=generator, draws=20_000)
    assert [(flip.first, flip.second) for flip in found[::6]] == [("a", "b"), ("a", "c"), ("b", "c")]
    for flip in found:
        first, second = np.array(values[flip.first]), np.array(values[flip.second])
        ends = np.sign(first.max() - second.max())
        signs = [np.sign(first[list(s)].max() - second[list(s)].max()) for s in combinations(range(6), flip.trials)]
        assert flip.probability == pytest.approx(np.mean([abs(sign - ends) / 2 for sign in signs]), abs=0.015)
        assert flip.trials < 6 or flip.probability == 0


def test_flips_of_arms_that_tie_or_stand_apart() -> None:
    generator = np.random.default_rng(4)
    apart = flips({"a": [0.9, 0.8, 0.7], "b": [0.1, 0.2, 0.3]}, generator=generator)
    assert [flip.probability for flip in apart] == [0, 0, 0]
    same = flips({"a": [0.1, 0.2], "b": [0.1, 0.2]}, generator=generator)
    assert [flip.probability for flip in same] == [0, 0]
    assert flips({}, generator=generator) == ()
    with pytest.raises(ValueError, match="as many trials each"):
        flips({"a": [0.1], "b": [0.1, 0.2]}, generator=generator)


def test_two_like_arms_flip_at_one_trial_about_as_often_as_a_coin() -> None:
    generator = np.random.default_rng(5)
    first = [
        flips({"a": generator.random(20), "b": generator.random(20)}, generator=generator, draws=200)[0].probability
        for _ in range(200)
    ]
    assert 0.35 < np.mean(first) < 0.5  # half less what the order of all, of which it is a part, gives away


def test_the_random_part_of_a_search() -> None:
    arm = factory.arm("complex", "sce")
    trials = [factory.trial(arm, number, epochs=6) for number in (3, 1, 0, 2)]
    pruned = [replace(trial, random=True) for trial in trials]
    assert random_part(pruned) == ()  # what it would have reached alone is not known
    drawn = [replace(trial, state=TrialState.FAIL) if trial.state is TrialState.PRUNED else trial for trial in pruned]
    best = {trial.number: trial.best_mrr for trial in trials}
    assert random_part(drawn) == (best[0], 0.0, 0.0, best[3])  # failed ones offered nothing
    running = replace(drawn[0], number=4, state=TrialState.RUNNING)
    assert random_part([*drawn, running]) == random_part(drawn)
    started = [replace(trial, random=trial.number < 2) for trial in drawn]
    assert random_part(started) == (best[0], 0.0)
