"""Arm against arm: known answers, and simulated studies in which nothing or something is to be found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.stats

from study.comparison import beats, compare, detectable_gap, effect_size, resampled_means
from study.ranks import reciprocal_ranks
from tests.study import records_factory as factory

Spread = Mapping[str, float]
# How scores vary: over triples for all arms, over triples for one arm, over seeds, over triples in one seed.
SPREADS: dict[str, Spread] = {
    "seeds": {"shared": 0.2, "arm": 0.0, "seed": 0.01, "both": 0.0},
    "triples": {"shared": 0.2, "arm": 0.15, "seed": 0.0005, "both": 0.05},
    "all alike": {"shared": 0.2, "arm": 0.1, "seed": 0.01, "both": 0.1},
}


def study(
    generator: np.random.Generator, spread: Spread, *, arms: int, seeds: int = 5, triples: int = 100
) -> dict[str, np.ndarray]:
    """Arms that are equally good but for chance."""
    shared = 0.3 + generator.normal(scale=spread["shared"], size=triples)
    return {
        f"arm {number}": shared
        + generator.normal(scale=spread["arm"], size=triples)
        + generator.normal(scale=spread["seed"], size=(seeds, 1))
        + generator.normal(scale=spread["both"], size=(seeds, triples))
        for number in range(arms)
    }


@pytest.mark.parametrize("name", SPREADS)
def test_equal_arms_are_told_apart_in_one_study_of_twenty_at_most(name: str) -> None:
    generator = np.random.default_rng(0)
    studies = [compare(study(generator, SPREADS[name], arms=4), generator=generator, resamples=100) for _ in range(200)]
    wrong = np.mean([any(pair.adjusted < 0.05 for pair in pairs) for pairs in studies])
    assert wrong <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    covered = np.mean([pair.low <= 0 <= pair.high for pairs in studies for pair in pairs])
    assert covered >= 0.93


@pytest.mark.parametrize("seeds", [2, 3])
def test_so_are_arms_of_few_seeds_that_happen_to_lie_close_together(seeds: int) -> None:
    generator = np.random.default_rng(0)
    spread = {"shared": 0.2, "arm": 0.02, "seed": 0.01, "both": 0.01}
    drawn = (study(generator, spread, arms=8, seeds=seeds, triples=60) for _ in range(200))
    wrong = np.mean(
        [min(p.adjusted for p in compare(each, generator=generator, resamples=100)) < 0.05 for each in drawn]
    )
    assert wrong <= 0.05


@pytest.mark.parametrize("few", [2, 3])
def test_many_seeds_of_one_arm_do_not_vouch_for_the_few_of_another(few: int) -> None:
    generator = np.random.default_rng(0)
    p = []
    for _ in range(400):
        drawn = study(generator, SPREADS["seeds"], arms=2, seeds=10, triples=20)
        [pair] = compare(drawn | {"arm 1": drawn["arm 1"][:few]}, generator=generator, resamples=50)
        p.append(pair.p)
    for level in (0.05, 0.01):
        assert np.mean(np.array(p) < level) <= level + 3 * (level * (1 - level) / len(p)) ** 0.5


def test_few_seeds_far_apart_are_still_told_apart() -> None:
    scores = study(np.random.default_rng(3), SPREADS["seeds"], arms=2, seeds=3)
    scores["arm 1"] = scores["arm 1"] - 0.2
    [pair] = compare(scores, generator=np.random.default_rng(0))
    assert pair.p < 0.001


def test_what_is_called_detectable_is_detected() -> None:
    generator = np.random.default_rng(1)
    gap = detectable_gap(se=0.01 * (2 / 5) ** 0.5, df=8, power=0.8)
    found = []
    for _ in range(300):
        scores = study(generator, SPREADS["seeds"], arms=2, triples=20)
        scores["arm 0"] = scores["arm 0"] + gap
        found.append(compare(scores, generator=generator, resamples=200)[0].p < 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)  # the estimated error is a little too large


def test_the_detectable_gap_of_one_comparison_is_the_known_one() -> None:
    t = scipy.stats.t(8)
    assert detectable_gap(se=0.01, df=8) == pytest.approx(0.01 * (t.ppf(0.975) + t.ppf(0.8)), rel=1e-6)
    assert detectable_gap(se=0.01, df=8, comparisons=10) > detectable_gap(se=0.01, df=8)
    with pytest.raises(ValueError, match="power"):
        detectable_gap(se=0.01, df=8, power=0.5)


def test_a_clear_difference_is_found_and_measured() -> None:
    generator = np.random.default_rng(2)
    scores = study(generator, SPREADS["all alike"], arms=3)
    scores["arm 1"] = scores["arm 1"] - 0.2
    pairs = {(pair.first, pair.second): pair for pair in compare(scores, generator=generator)}
    assert list(pairs) == [("arm 0", "arm 1"), ("arm 0", "arm 2"), ("arm 1", "arm 2")]
    pair = pairs["arm 0", "arm 1"]
    assert pair.difference == pytest.approx(scores["arm 0"].mean() - scores["arm 1"].mean())
    assert pair.low < 0.2 < pair.high
    assert pair.adjusted < 0.001
    assert pair.p <= pair.adjusted
    assert pair.beats == 1
    assert pair.effect is not None
    assert pair.effect > 3
    assert pairs["arm 0", "arm 2"].adjusted > 0.05
    assert pairs["arm 1", "arm 2"].difference < 0


def test_scores_that_do_not_vary() -> None:
    flat = np.full((3, 10), 0.3)
    same = compare({"a": flat, "b": flat}, generator=np.random.default_rng(0), resamples=10)[0]
    assert (same.difference, same.p, same.effect) == (0, 1, None)
    assert (same.low, same.high, same.detectable) == pytest.approx((0, 0, 0), abs=1e-12)
    assert same.beats == 0.5
    apart = compare({"a": flat, "b": flat / 2}, generator=np.random.default_rng(0), resamples=10)[0]
    assert apart.p == 0
    assert apart.beats == 1


def test_one_seed_is_refused_and_so_are_other_triples() -> None:
    generator, fine = np.random.default_rng(0), np.full((2, 10), 0.3)
    with pytest.raises(ValueError, match="b: must be at least 2 seeds"):
        compare({"a": fine, "b": fine[:1]}, generator=generator)
    with pytest.raises(ValueError, match="the same triples"):
        compare({"a": fine, "b": fine[:, :9]}, generator=generator)
    assert compare({"a": fine}, generator=generator) == ()
    assert compare({}, generator=generator) == ()


def test_the_same_generator_gives_the_same_numbers() -> None:
    scores = study(np.random.default_rng(3), SPREADS["all alike"], arms=2)
    first, again = (compare(scores, generator=np.random.default_rng(4), resamples=50) for _ in range(2))
    assert first == again


def test_triples_are_drawn_for_all_arms_together() -> None:
    scores = study(np.random.default_rng(5), {"shared": 0.2, "arm": 0, "seed": 0, "both": 0}, arms=2)
    means = resampled_means(scores, generator=np.random.default_rng(6), resamples=50)
    assert np.allclose(means["arm 0"], means["arm 1"])
    assert np.std(means["arm 0"]) == pytest.approx(np.std(scores["arm 0"][0]) / 10, rel=0.3)


@pytest.mark.parametrize("seeds", [2, 5])
def test_resampled_seeds_vary_as_the_mean_of_seeds_does(seeds: int) -> None:
    generator = np.random.default_rng(7)
    variances = []
    for _ in range(300):
        scores = {"a": generator.normal(size=(seeds, 1)) + np.zeros((seeds, 2))}
        variances.append(np.var(resampled_means(scores, generator=generator, resamples=64)["a"], ddof=1))
    assert np.mean(variances) == pytest.approx(1 / seeds, rel=0.2)  # and not (seeds - 1) / seeds of it


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_intervals_of_who_beats_whom_cover(shift: float) -> None:
    generator = np.random.default_rng(8)
    truth = NormalDist().cdf(shift / 2**0.5)
    found = [beats(generator.normal(shift, size=5), generator.normal(size=5), 0.95) for _ in range(400)]
    assert np.mean([low <= truth <= high for _, low, high in found]) >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5
    assert np.mean([estimate for estimate, _, _ in found]) == pytest.approx(truth, abs=0.03)


def test_five_seeds_above_five_others_leave_doubt() -> None:
    estimate, low, high = beats(np.arange(5) + 10.0, np.arange(5.0), 0.95)
    assert (estimate, high) == (1, 1)
    assert 0.5 < low < 0.75


def test_effect_size_is_that_of_hedges() -> None:
    g = effect_size(np.array([2.0, 4.0, 6.0]), np.array([1.0, 3.0, 5.0]))
    assert g == pytest.approx(1 / 2 * (1 - 3 / 15))


# ---- ranks on disk


def test_ranks_are_read_triple_by_triple(tmp_path: Path) -> None:
    record = factory.finished(models=("complex",), losses=("sce",), replicates=3)
    generator = np.random.default_rng(9)
    ranks = generator.integers(1, 50, size=(3, 2, 4)).astype(float)
    for replicate, both in zip(record.replicate_records, ranks, strict=True):
        write_ranks(tmp_path / str(replicate.ranks_file), both, order=generator.permutation(8))
    scores, problems = reciprocal_ranks(tmp_path, record.replicate_records)
    assert (list(scores), problems) == (["complex.sce"], {})
    assert scores["complex.sce"] == pytest.approx((1 / ranks).mean(axis=1))


def test_a_triple_counts_as_often_as_the_split_has_it(tmp_path: Path) -> None:
    record = factory.finished(models=("complex",), losses=("sce",), replicates=2)
    ranks = np.array([[1.0, 2.0, 4.0, 4.0], [1.0, 2.0, 8.0, 8.0]])
    for replicate in record.replicate_records:
        write_ranks(tmp_path / str(replicate.ranks_file), ranks, ids=[0, 1, 2, 2])
    scores, _ = reciprocal_ranks(tmp_path, record.replicate_records)
    assert scores["complex.sce"] == pytest.approx(np.tile((1 / ranks).mean(axis=0), (2, 1)))


@pytest.mark.parametrize(("arm", "other", "index"), [("sans", "sce", 0), ("sce", "sans", 1)])
def test_an_arm_with_ranks_of_other_triples_or_with_no_ranks_is_left_out(
    tmp_path: Path, arm: str, other: str, index: int
) -> None:
    record = factory.finished(models=("complex",), losses=("sans", "sce"), replicates=2)
    paths = [tmp_path / str(replicate.ranks_file) for replicate in record.replicate_records]
    (spoilt,) = (path for path in paths if path.name == f"complex.{arm}-{index}.parquet")
    for path in paths:
        if path != spoilt:
            write_ranks(path, np.ones((2, 4)))
    for sentence in ("must be a file of ranks", "must rank the same triples"):
        scores, problems = reciprocal_ranks(tmp_path, record.replicate_records)
        assert list(scores) == [f"complex.{other}"]
        assert list(problems) == [f"complex.{arm}"]
        assert str(problems[f"complex.{arm}"]).startswith(f"{spoilt}: {sentence}")
        write_ranks(spoilt, np.ones((2, 5)))
    assert reciprocal_ranks(tmp_path, ()) == ({}, {})


def write_ranks(
    path: Path, ranks: np.ndarray, order: np.ndarray | None = None, ids: Sequence[int] | None = None
) -> None:
    """A file of ranks (side, triple) of triples (i, 0, i + 1), its rows in this order."""
    ids = np.tile(np.arange(ranks.shape[1]) if ids is None else ids, 2)
    sides = np.repeat(["head", "tail"], ranks.shape[1])
    table = pa.table({"head": ids, "relation": 0 * ids, "tail": ids + 1, "side": sides, "realistic": ranks.ravel()})
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table.take(order) if order is not None else table, path)
