"""Spaces: composition, inverse distribution functions, common random numbers, isolation of arms."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import create_trial

from study import seeds
from study.arms import distributions
from study.config import StudyConfig, parse_study
from study.errors import StudyFileError
from study.records import Arm, Dimension
from study.space import Space, compose, compose_all, quantile
from tests.study.study_files import VALID, config


def dimension(**fields: object) -> Dimension:
    return Dimension(path="p", **fields)  # type: ignore[arg-type]


def draws(study: StudyConfig, number: int) -> dict[str, dict[str, object]]:
    """Random params of the n-th trial of every arm."""
    return {
        name: dict(space.draw(lambda path: seeds.uniform(study.seed, number, path)))
        for name, space in compose_all(study).items()
    }


def by_name(study: StudyConfig, name: str) -> Arm:
    return next(arm for arm in study.arms if arm.name == name)


# -- composition ---------------------------------------------------------------------------------


def test_the_later_of_base_model_loss_study_and_arm_wins() -> None:
    spaces = compose_all(config())
    plain, translation = spaces["complex.sce"], spaces["transe-l1.ns"]
    assert dict(plain.fixed) | {"model.dim": 32, "training.max_epochs": 3} == dict(plain.fixed)
    assert "model.norm" not in dict(plain.fixed) | {each.path: 0 for each in plain.tuned}
    assert dict(translation.fixed)["model.norm"] == 1  # models/transe.yaml tunes it, the arm holds it
    assert dict(translation.fixed)["loss.normalize"] == "mean"  # losses/ns.yaml holds another value
    rates = [each for space in (plain, translation) for each in space.tuned if each.path == "optimizer.lr"]
    assert {(each.low, each.high, each.log) for each in rates} == {(1e-3, 1.0, True)}
    assert [each.path for each in translation.tuned] == sorted(each.path for each in translation.tuned)


def test_what_cannot_matter_is_not_tuned() -> None:
    spaces = compose_all(config(("model.dim: 32", "model.init.name: uniform\n  regularizer.name: none")))
    tuned = {each.path for each in spaces["complex.ns"].tuned}
    assert "model.init.low" in tuned
    assert "negatives.tail" in tuned
    assert "model.init.std" not in tuned
    assert not any(path.startswith("regularizer.") for path in tuned)
    for name in ("complex.sce", "transe-l1.sce"):
        assert not any(each.path.startswith("negatives.") for each in spaces[name].tuned)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "schedule.name: none\n  schedule.patience: 3",
            "schedule.patience: must be left out, or schedule.name must be plateau",
        ),
        (
            "optimizer.name: adam\n  optimizer.momentum: 0.9",
            "optimizer.momentum: must be left out, or optimizer.name must be sgd",
        ),
    ],
)
def test_what_decides_nothing_in_any_arm_is_refused(lines: str, said: str) -> None:
    with pytest.raises(StudyFileError, match=rf"^small\.yaml:16: fixed\.{said} in an arm: as it is it means nothing$"):
        compose_all(config(("model.dim: 32", f"model.dim: 32\n  {lines}")))


def test_a_value_that_only_some_arms_have_is_held_where_it_is() -> None:
    spaces = compose_all(config(("model.dim: 32", "loss.margin: 2.5")))
    assert dict(spaces["complex.ns"].fixed)["loss.margin"] == 2.5
    assert "loss.margin" not in dict(spaces["complex.sce"].fixed)


def test_bfloat16_is_taken_by_the_arms_that_can_compute_in_it() -> None:
    spaces = compose_all(config(("model.dim: 32", "model.dim: 32\n  training.precision: bfloat16")))
    precision = {name: dict(space.fixed)["training.precision"] for name, space in spaces.items()}
    assert precision == {name: "bfloat16" if name == "complex.sce" else "float32" for name in spaces}


def test_bfloat16_that_no_arm_can_compute_in_is_refused() -> None:
    study = config(("model.dim: 32", "model.dim: 32\n  training.precision: bfloat16"), ("[sce,", "[bce,"))
    with pytest.raises(StudyFileError, match=r"^small\.yaml:15: fixed\.training\.precision: must be .* tf32: no arm"):
        compose_all(study)


def test_tf32_is_taken_by_every_arm() -> None:
    spaces = compose_all(config(("model.dim: 32", "model.dim: 32\n  training.precision: tf32")))
    assert {dict(space.fixed)["training.precision"] for space in spaces.values()} == {"tf32"}


def test_a_configuration_is_complete_and_has_the_seed() -> None:
    space = compose_all(config())["transe-l1.ns"]
    mapping = space.config(space.draw(lambda _: 0.5), seed=11)
    assert mapping["seed"] == 11
    assert mapping["training"]["type"] == "negative_sampling"
    assert mapping["model"] | {"name": "transe", "norm": 1, "dim": 32} == mapping["model"]
    assert mapping["loss"]["normalize"] == "mean"
    assert mapping["early_stopping"]["floor_epoch"] is None


def test_a_space_comes_back_from_its_card() -> None:
    study = config()
    for arm in study.arms:
        space = compose(study, arm)
        again = Space.of(arm, space.card())
        assert again.card() == space.card()
        params = space.draw(lambda path: seeds.uniform(0, 0, path))
        assert again.config(params, 1) == space.config(params, 1)


def test_a_card_knows_which_of_its_values_decide_nothing_beside_others() -> None:
    (card,) = {compose(study, arm).card() for study in [config()] for arm in study.arms if arm.name == "complex.sce"}
    assert card.has_effect("model.init.std", {"model.init.name": "normal"})
    assert not card.has_effect("model.init.std", {"model.init.name": "uniform"})
    assert card.has_effect("optimizer.lr", {"model.init.name": "uniform"})


# -- draws ---------------------------------------------------------------------------------------

KINDS = [
    dimension(kind="float", low=-1.0, high=3.0),
    dimension(kind="float", low=1e-5, high=1.0, log=True),
    dimension(kind="float", low=0.0, high=1.0, step=0.1),
    dimension(kind="int", low=0.0, high=10.0),
    dimension(kind="int", low=64.0, high=512.0, step=64.0),
    dimension(kind="int", low=1.0, high=1024.0, log=True),
    dimension(kind="categorical", choices=("a", 1, True, None)),
]


@pytest.mark.parametrize("each", KINDS, ids=str)
@given(u=st.floats(0, 1, exclude_max=True))
def test_a_draw_lies_in_its_bounds(each: Dimension, u: float) -> None:
    value = quantile(each, u)
    if each.kind == "categorical":
        assert value in each.choices
        return
    assert isinstance(value, int if each.kind == "int" else float)
    assert isinstance(value, int | float)
    assert each.low is not None
    assert each.high is not None
    assert each.low <= value <= each.high
    if each.step:
        steps = (value - each.low) / each.step
        assert steps == pytest.approx(round(steps))


@pytest.mark.parametrize("each", KINDS, ids=str)
def test_both_ends_can_be_drawn_and_order_is_kept(each: Dimension) -> None:
    grid = [quantile(each, i / 1000) for i in range(1000)] + [quantile(each, math.nextafter(1.0, 0.0))]
    if each.kind == "categorical":
        assert [*dict.fromkeys(map(repr, grid))] == [repr(choice) for choice in each.choices]
        return
    assert grid == sorted(grid)  # type: ignore[type-var]
    assert grid[0] == each.low
    assert grid[-1] == pytest.approx(each.high)


def test_a_grid_is_uniform_and_a_log_scale_is_uniform_in_the_exponent() -> None:
    whole = Counter(quantile(KINDS[4], (i + 0.5) / 8000) for i in range(8000))
    assert whole == dict.fromkeys(range(64, 513, 64), 1000)
    decades = Counter(math.floor(math.log10(float(str(quantile(KINDS[1], (i + 0.5) / 5000))))) for i in range(5000))
    assert decades == dict.fromkeys(range(-5, 0), 1000)
    # Optuna's own convention: an integer n on a log scale owns log(n + 1/2) - log(n - 1/2).
    low = Counter(quantile(KINDS[5], (i + 0.5) / 100_000) for i in range(100_000))
    total = math.log(1024.5) - math.log(0.5)
    for n in (1, 2, 10):
        assert low[n] / 100_000 == pytest.approx((math.log(n + 0.5) - math.log(n - 0.5)) / total, abs=2e-5)


def test_the_draws_of_a_fine_grid_are_on_it_for_optuna_too() -> None:
    fine = "optimizer.lr: {float: [1.0e-7, 1.0], step: 1.0e-7}"
    space = compose_all(config(("optimizer.lr: {float: [1e-3, 1.0], log: true}", fine)))["complex.sce"]
    for number in range(300):
        params = space.draw(partial(seeds.uniform, 0, number))
        create_trial(params=dict(params), distributions=distributions(space), value=0.0)  # refuses what is not on it


def test_seeds_are_what_they_were() -> None:
    # A study of an earlier release must be resumed with the same draws.
    assert seeds.derive(0, "complex.sce", 3, "training") == 10356060101154689401
    assert seeds.training_seed(0, "complex.sce", 3) == 10356060101154689401 & 0x7FFFFFFF
    assert seeds.uniform(0, 0, "optimizer.lr") == 0.3207995514402068
    assert seeds.derive(1, "a", "b") != seeds.derive(1, "ab")


# -- common random numbers and isolation -----------------------------------------------------------


def test_arms_share_the_draw_of_a_dimension_that_they_share() -> None:
    for number in range(5):
        params = draws(config(), number)
        for path in ("optimizer.lr", "optimizer.name", "training.batch_size", "regularizer.p"):
            assert len({repr(each[path]) for each in params.values()}) == 1
    assert draws(config(), 0) != draws(config(), 1)
    assert draws(config(), 0) != draws(config(("seed: 7", "seed: 8")), 0)


ARMS = VALID[VALID.index("  models:") : VALID.index("\nbudget:")]


@pytest.mark.parametrize(
    "arms",
    [
        "  models: [complex]\n  losses: [sce]",
        "  models: [rotate, complex, rescal]\n  losses: [{name: ns, normalize: mean}, sans, sce]",
        "  models:\n    - {name: transe, norm: 1, label: transe-l1}\n    - complex\n  losses: [sce_ls, sce]",
    ],
    ids=["fewer", "more", "another order"],
)
def test_other_arms_change_neither_draws_nor_seeds(arms: str) -> None:
    before, after = config(), config((ARMS, arms))
    common = {arm.name for arm in before.arms} & {arm.name for arm in after.arms}
    assert common
    for number in range(4):
        first, second = draws(before, number), draws(after, number)
        for name in common:
            assert first[name] == second[name]
            assert compose(before, by_name(before, name)).card() == compose(after, by_name(after, name)).card()


def test_another_dimension_changes_no_draw() -> None:
    more = config(("spaces:\n", "spaces:\n  model.dropout.query: {float: [0.0, 0.5]}\n"))
    for number in range(4):
        before, after = draws(config(), number), draws(more, number)
        for name, params in before.items():
            assert {path: value for path, value in after[name].items() if path != "model.dropout.query"} == params


def test_an_arms_folder_name_does_not_decide_its_draws_but_its_seeds() -> None:
    study = parse_study(
        "name: a\ndataset: synthetic\narms: {models: [{name: complex, label: x}, complex], losses: [sce]}\n"
        "budget: {trials: 2}\n",
        "a.yaml",
    )
    params = draws(study, 0)
    assert params["x.sce"] == params["complex.sce"]
    assert seeds.training_seed(0, "x.sce", 0) != seeds.training_seed(0, "complex.sce", 0)


def test_a_bad_pair_of_values_names_the_arm() -> None:
    space = compose_all(config())["complex.sce"]
    space = replace(space, origins={})
    with pytest.raises(Exception, match=r"^arm complex\.sce: optimizer\.lr: must be > 0, got -1\.0$"):
        space.config(space.draw(lambda _: 0.5) | {"optimizer.lr": -1.0}, seed=0)  # type: ignore[operator]


def test_a_loss_may_have_a_training_type_of_its_own() -> None:
    losses = (
        "[sce, {name: sce, training_type: k_vs_all, label: kvs}, {name: ns, training_type: one_vs_all, label: all}]"
    )
    for fixed in ("", "  training.type: one_vs_all\n"):
        study = config(("[sce, {name: ns, normalize: mean}]", losses), ("fixed:\n", f"fixed:\n{fixed}"))
        assert [arm.training_type for arm in study.arms[:3]] == ["one_vs_all", "k_vs_all", "one_vs_all"]
        assert [arm.objective for arm in study.arms[:3]] == ["p_d", "p_d", "odds"]
        for arm, space in zip(study.arms, compose_all(study).values(), strict=True):
            trained = space.config(space.draw(lambda _: 0.5), seed=0)["training"]
            assert trained["type"] == arm.training_type
    own = ("[sce, {name: ns, normalize: mean}]", "[{name: sce, training_type: k_vs_all}]")
    with pytest.raises(StudyFileError, match=r"fixed\.training\.type: must be left out: every loss has its own"):
        config(own, ("fixed:\n", "fixed:\n  training.type: nonsense\n"))
    wrong = ("[sce, {name: ns, normalize: mean}]", "[{name: ns, training_type: k_vs_all}]")
    at = r"^small\.yaml:8: arms\.losses\[0\]\.training_type: unknown training type of ns 'k_vs_all' \(known: neg"
    with pytest.raises(StudyFileError, match=at):
        config(wrong)
