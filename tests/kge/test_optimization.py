"""Optimizers, rates of each table, schedules and clipping, against what each step should do by hand."""

import math
from typing import Literal

import pytest
import torch

from kge.config import OptimizerConfig, ScheduleConfig
from kge.models.base import AbstractModel
from kge.optimization import Schedule, build_optimizer, clip, step
from kge.training import Training
from tests.kge import graphs

GRAPH = graphs.ring()


def _model(name: str = "tucker") -> AbstractModel:
    model = graphs.build(name, entities=5, relations=2, dim=4)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    return model


def _moved(**options: object) -> dict[str, float]:
    """How far a first step with gradient 1/2 takes each parameter."""
    model = _model()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    build_optimizer(OptimizerConfig(**options), model).step()  # type: ignore[arg-type]
    return {name: float((before[name] - each.detach()).mean()) for name, each in model.named_parameters()}


@pytest.mark.parametrize(("name", "moved"), [("sgd", 0.05), ("adagrad", 0.1), ("adam", 0.1), ("adamw", 0.1)])
def test_the_first_step_of_each_optimizer(name: str, moved: float) -> None:
    assert _moved(name=name, lr=0.1) == pytest.approx(dict.fromkeys(("entities", "relations", "core"), moved), rel=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam", "adamw"])
def test_a_step_is_the_optimizers_own(name: str) -> None:
    ours, theirs = _model(), _model()
    options = OptimizerConfig(name=name, momentum=0.9, weight_decay=0.01)  # type: ignore[arg-type]
    first, second = build_optimizer(options, ours), build_optimizer(options, theirs)
    for _ in range(3):
        step(first)
        second.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam", "adamw"])
def test_each_table_learns_at_its_own_rate(name: str) -> None:
    plain = _moved(name=name, lr=0.1)
    moved = _moved(name=name, lr=0.1, entity_factor=0.5, relation_factor=3.0)
    factors = {"entities": 0.5, "relations": 3.0, "core": 1.0}
    assert moved == pytest.approx({table: plain[table] * factor for table, factor in factors.items()}, rel=1e-4)


def test_a_model_of_two_tables_needs_no_third_rate() -> None:
    model = _model("distmult")
    optimizer = build_optimizer(OptimizerConfig(entity_factor=2.0), model)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam", "adamw"])
def test_weight_decay_pulls_to_zero(name: str) -> None:
    """sgd and adamw in closed form: lr x decay x weight; the adaptive ones in direction."""
    model = _model()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 2.0)
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(OptimizerConfig(name=name, lr=0.1, weight_decay=0.3), model).step()  # type: ignore[arg-type]
    step = 0.1 * 0.3 * 2.0 if name in ("sgd", "adamw") else 0.1
    assert float(model.entities.detach().mean()) == pytest.approx(2.0 - step, rel=1e-4)


def test_momentum_is_that_of_sgd() -> None:
    model = _model()
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=0.1, momentum=0.9), model)
    before = float(model.entities.detach().mean())
    for _ in range(2):
        optimizer.step()
    assert float(model.entities.detach().mean()) == pytest.approx(before - 0.05 * (1 + 1.9), rel=1e-4)


def test_clipping_bounds_the_norm_of_the_whole_gradient() -> None:
    def norm(model: AbstractModel) -> float:
        return math.sqrt(sum(float(each.grad.square().sum()) for each in model.parameters() if each.grad is not None))

    model = _model()
    whole = norm(model)
    clip(model, None)
    clip(model, 2 * whole)
    assert norm(model) == pytest.approx(whole)
    ratio = float(model.entities.grad[0, 0] / model.relations.grad[0, 0])  # type: ignore[index]
    clip(model, 0.1)
    assert norm(model) == pytest.approx(0.1, rel=1e-4)
    assert float(model.entities.grad[0, 0] / model.relations.grad[0, 0]) == pytest.approx(ratio)  # type: ignore[index]


def test_clipped_training_is_another_one() -> None:
    def losses(max_norm: float | None) -> list[float]:
        config = graphs.config({"optimizer": {"name": "sgd", "lr": 0.5, "max_norm": max_norm}})
        return [report.loss for report in Training(config, GRAPH).epochs()]

    assert losses(None) == losses(1e6)
    assert losses(None)[1:] != losses(0.01)[1:]


def _rates(schedule: ScheduleConfig, *, epochs: int = 6, per_epoch: int = 4, factor: float = 1.0) -> list[float]:
    """The rate of every step of the relation table, and the one that is reported, which no factor changes."""
    optimizer = build_optimizer(OptimizerConfig(lr=0.1, relation_factor=factor), _model())
    rule = Schedule(schedule, optimizer, lr=0.1, max_epochs=epochs)
    rates = []
    for number in range(epochs * per_epoch):
        rule.before_step(number, steps_per_epoch=per_epoch)
        rates.append(optimizer.param_groups[-2 if factor != 1 else 0]["lr"] / factor)
        assert rule.lr == pytest.approx(rates[-1])
    return rates


def _validated_rates(schedule: ScheduleConfig, *, epochs: int, max_epochs: int) -> list[float]:
    """The rate after each epoch of one step, whose validation never gains."""
    rule = Schedule(schedule, build_optimizer(OptimizerConfig(lr=0.1), _model()), lr=0.1, max_epochs=max_epochs)
    rates = []
    for epoch in range(1, epochs + 1):
        rule.before_step(epoch - 1, steps_per_epoch=1)
        rule.observe(epoch, 0.5)
        rates.append(rule.lr)
    return rates


def test_no_schedule_keeps_the_rate() -> None:
    assert set(_rates(ScheduleConfig(name="none"))) == {0.1}
    assert set(_rates(ScheduleConfig(name="plateau"))) == {0.1}


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_warm_up_rises_step_by_step_to_the_rate_and_stays(factor: float) -> None:
    rates = _rates(ScheduleConfig(name="none", warmup=2), factor=factor)
    assert rates[:8] == pytest.approx([0.1 * (step + 1) / 8 for step in range(8)])
    assert rates[7:] == pytest.approx([0.1] * 17, rel=1e-12)
    assert rates[8] == rates[-1]


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_cosine_falls_from_the_end_of_the_warm_up_to_its_end(factor: float) -> None:
    rates = _rates(ScheduleConfig(name="cosine", warmup=2, final=0.2), factor=factor)
    expected = [0.1 * (0.2 + 0.8 * (1 + math.cos(math.pi * step / 16)) / 2) for step in range(16)]
    assert rates[8:] == pytest.approx(expected)
    assert rates[-1] > 0.02  # `final` is what the step after the last would have


def test_a_warm_up_longer_than_the_training_ends_with_it() -> None:
    rates = _rates(ScheduleConfig(name="cosine", warmup=9))
    assert rates[-1] == pytest.approx(0.1 * 24 / 36)


def test_a_plateau_counts_from_the_end_of_the_warm_up() -> None:
    rates = _validated_rates(ScheduleConfig(name="plateau", warmup=3, patience=0, factor=0.5), epochs=6, max_epochs=9)
    assert rates == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.05, 0.025, 0.0125])


def test_a_plateau_lowers_small_rates_too() -> None:
    rates = _validated_rates(ScheduleConfig(name="plateau", patience=0, factor=0.5), epochs=40, max_epochs=40)
    assert rates[-1] == pytest.approx(0.1 * 0.5**39)


@pytest.mark.parametrize("factor", [1.0, 3.0])
@pytest.mark.parametrize("name", ["none", "plateau"])
def test_a_cooldown_falls_in_a_line_over_the_last_epochs(name: Literal["none", "plateau"], factor: float) -> None:
    rates = _rates(ScheduleConfig(name=name, cooldown=2), factor=factor)
    assert rates[:17] == pytest.approx([0.1] * 17, rel=1e-12)
    assert rates[16:] == pytest.approx([0.1 * (1 - step / 8) for step in range(8)])


def test_a_cooldown_falls_from_where_a_plateau_left_the_rate_which_it_no_longer_lowers() -> None:
    rates = _validated_rates(ScheduleConfig(name="plateau", cooldown=4, patience=0, factor=0.5), epochs=7, max_epochs=7)
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.025, 0.01875, 0.0125, 0.00625])


def test_a_cooldown_leaves_the_warm_up_alone() -> None:
    rates = _rates(ScheduleConfig(name="none", warmup=5, cooldown=3))
    assert rates[:20] == pytest.approx([0.1 * (step + 1) / 20 for step in range(20)])
    assert rates[20:] == pytest.approx([0.1 * (1 - step / 4) for step in range(4)])


def test_the_schedule_reaches_training() -> None:
    paths = {"schedule": {"name": "cosine", "warmup": 1}, "training.max_epochs": 4, "optimizer.lr": 0.2}
    rates = [report.lr for report in Training(graphs.config(paths), GRAPH).epochs()]
    assert rates[0] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1
