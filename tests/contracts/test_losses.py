"""What every registered loss promises, against a formula per row that is written here anew."""

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from kge.config import TrainingType
from kge.errors import ConfigError
from kge.losses import LOSSES
from kge.losses.base import AbstractLoss, AbstractSamplingLoss, AbstractSoftmaxLoss, Noise, Objective

pytestmark = pytest.mark.usefixtures("float64")

B, K = 4, 5
Options = dict[str, Any]

# Options to test each loss with; all of them beside the defaults.
OPTIONS: dict[str, list[Options]] = {
    "ns": [{}, {"margin": 2.0}, {"normalize": "mean", "margin": -1.0}],
    "ns_freq": [{}, {"margin": 2.0}, {"noise": "sampled"}],
    "sans": [{}, {"margin": 2.0, "temperature": 0.5}, {"temperature": 0.0}],
    "sce": [{}],
    "sce_ls": [{}, {"smoothing": 0.3}, {"smoothing": 0.0}],
    "sce_bc": [{}],
}


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def _noise(scores: list[float], weights: list[float], margin: float) -> float:
    return sum(weight * _log_sigmoid(-(score + margin)) for score, weight in zip(scores, weights, strict=True))


def _ns(positive: float, negative: list[float], weights: list[float], _: list[float], options: Options) -> float:
    margin = options.get("margin", 0.0)
    noise = _noise(negative, weights, margin)
    if options.get("normalize") == "mean":
        return -0.5 * (_log_sigmoid(positive + margin) + noise / len(negative))
    return -_log_sigmoid(positive + margin) - noise


def _ns_freq(positive: float, negative: list[float], weights: list[float], _: list[float], options: Options) -> float:
    margin = options.get("margin", 0.0)
    return -0.5 * (_log_sigmoid(positive + margin) + _noise(negative, weights, margin))


def _sans(positive: float, negative: list[float], weights: list[float], frozen: list[float], options: Options) -> float:
    margin = options.get("margin", 0.0)
    hard = [w * math.exp(options.get("temperature", 1.0) * s) for w, s in zip(weights, frozen, strict=True)]
    adversarial = [each / sum(hard) for each in hard]
    return -0.5 * (_log_sigmoid(positive + margin) + _noise(negative, adversarial, margin))


# A row of a sampling loss: (positive, negatives, weights, scores that adversarial weights are made from, options).
SAMPLING: dict[str, Callable[[float, list[float], list[float], list[float], Options], float]] = {
    "ns": _ns,
    "ns_freq": _ns_freq,
    "sans": _sans,
}


def _log_p(scores: list[float]) -> list[float]:
    total = math.log(sum(math.exp(score) for score in scores))
    return [score - total for score in scores]


def _sce(scores: list[float], target: int, _: Options) -> float:
    return -_log_p(scores)[target]


def _sce_ls(scores: list[float], target: int, options: Options) -> float:
    smoothing = options.get("smoothing", 0.1)
    others = [each for position, each in enumerate(_log_p(scores)) if position != target]
    return -(1 - smoothing) * _log_p(scores)[target] - smoothing / len(others) * sum(others)


SOFTMAX: dict[str, Callable[[list[float], int, Options], float]] = {"sce": _sce, "sce_ls": _sce_ls, "sce_bc": _sce}
# Weight of a row from #x and #y.
ROW_WEIGHT: dict[str, Callable[[int, int], float]] = {
    "sce": lambda query, answer: 1.0,
    "sce_ls": lambda query, answer: 1.0,
    "sce_bc": lambda query, answer: query / answer,
}


def _cases(names: Any) -> list[Any]:
    return [pytest.param(name, options, id=f"{name}{options or ''}") for name in names for options in OPTIONS[name]]


def _sampling(name: str, options: Options) -> AbstractSamplingLoss:
    loss = LOSSES[name](**options)
    assert isinstance(loss, AbstractSamplingLoss)
    return loss


def _softmax(name: str, options: Options) -> AbstractSoftmaxLoss:
    loss = LOSSES[name](**options)
    assert isinstance(loss, AbstractSoftmaxLoss)
    return loss


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_loss_has_a_formula_and_options() -> None:
    assert SAMPLING.keys() | SOFTMAX.keys() == LOSSES.keys() == OPTIONS.keys()
    assert SOFTMAX.keys() == ROW_WEIGHT.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_declares_its_objective_and_training_types(name: str) -> None:
    loss = LOSSES[name]
    assert loss.objective in get_args(Objective)
    assert loss.training_types
    assert set(loss.training_types) <= set(get_args(TrainingType))
    sampled = loss.training_types[0] == "negative_sampling"
    assert issubclass(loss, AbstractSamplingLoss if sampled else AbstractSoftmaxLoss)


def test_losses_that_theory_compares_declare_the_same_objective() -> None:
    def objectives(*names: str) -> set[str]:
        return {LOSSES[name].objective for name in names}

    assert objectives("ns", "sce") == {"p_d"}
    assert objectives("ns_freq", "sce_bc") == {"p_d/p_y"}
    assert objectives("sans", "sce_ls") == {"smoothed"}


@pytest.mark.parametrize(("name", "options"), _cases(SAMPLING))
@pytest.mark.parametrize("weighted", [False, True])
def test_sampling_rows_and_gradients_follow_the_formula(name: str, options: Options, weighted: bool) -> None:
    loss = _sampling(name, options)
    positive, negative = _draw(B).requires_grad_(), _draw(B, K, seed=1).requires_grad_()
    weight = torch.rand(B, K, generator=torch.Generator().manual_seed(2)) if weighted else None
    rows = loss.rows(positive, negative, weight)
    rows.sum().backward()

    def naive(row: int, shift_positive: float, shift: int, by: float) -> float:
        frozen = negative[row].tolist()
        moved = [score + by * (position == shift) for position, score in enumerate(frozen)]
        weights = [1.0] * K if weight is None else weight[row].tolist()
        return SAMPLING[name](positive[row].item() + shift_positive, moved, weights, frozen, options)

    step = 1e-6
    for row in range(B):
        assert rows[row].item() == pytest.approx(naive(row, 0, 0, 0), abs=1e-12)
        slope = (naive(row, step, 0, 0) - naive(row, -step, 0, 0)) / (2 * step)
        assert positive.grad is not None
        assert positive.grad[row].item() == pytest.approx(slope, abs=1e-8)
        for position in range(K):
            slope = (naive(row, 0, position, step) - naive(row, 0, position, -step)) / (2 * step)
            assert negative.grad is not None
            assert negative.grad[row, position].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize(("name", "options"), _cases(SAMPLING))
def test_no_weights_are_weights_of_one_and_zero_leaves_a_negative_out(name: str, options: Options) -> None:
    loss = _sampling(name, options)
    positive, negative = _draw(B), _draw(B, K, seed=1)
    ones = torch.ones(B, K)
    torch.testing.assert_close(loss.rows(positive, negative, None), loss.rows(positive, negative, ones))
    without = ones.clone()
    without[:, 2] = 0
    elsewhere = negative.clone()
    elsewhere[:, 2] = 7.0
    torch.testing.assert_close(loss.rows(positive, negative, without), loss.rows(positive, elsewhere, without))


@pytest.mark.parametrize(("name", "options"), _cases(SAMPLING))
def test_a_row_without_negatives_keeps_its_positive_term(name: str, options: Options) -> None:
    loss = _sampling(name, options)
    positive, negative = _draw(B).requires_grad_(), _draw(B, K, seed=1).requires_grad_()
    rows = loss.rows(positive, negative, torch.zeros(B, K))
    rows.sum().backward()
    assert torch.isfinite(rows).all()
    assert (rows > 0).all()
    assert positive.grad is not None
    assert (positive.grad < 0).all()
    assert negative.grad is not None
    assert (negative.grad == 0).all()


@pytest.mark.parametrize(("name", "options"), _cases(SAMPLING))
def test_a_sampling_loss_falls_with_the_positive_and_rises_with_a_negative(name: str, options: Options) -> None:
    loss = _sampling(name, options)
    positive, negative = _draw(B), _draw(B, K, seed=1)
    before = loss.rows(positive, negative, None)
    assert (loss.rows(positive + 0.1, negative, None) < before).all()
    assert (loss.rows(positive, negative + 0.1, None) > before).all()


@pytest.mark.parametrize(("name", "options"), _cases(SAMPLING))
def test_a_sampling_loss_stays_finite_at_extreme_scores(name: str, options: Options) -> None:
    loss = _sampling(name, options)
    positive = torch.tensor([-1e4, 1e4]).requires_grad_()
    negative = torch.tensor([[1e4, -1e4], [-1e4, 0.0]]).requires_grad_()
    rows = loss.rows(positive, negative, None)
    rows.sum().backward()
    assert torch.isfinite(rows).all()
    assert positive.grad is not None
    assert negative.grad is not None
    assert torch.isfinite(positive.grad).all()
    assert torch.isfinite(negative.grad).all()


@pytest.mark.parametrize(("name", "options"), _cases(SOFTMAX))
def test_softmax_rows_follow_the_formula(name: str, options: Options) -> None:
    loss = _softmax(name, options)
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    rows = loss.rows(scores, target)
    for row in range(B):
        expected = SOFTMAX[name](scores[row].tolist(), int(target[row]), options)
        assert rows[row].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "options"), _cases(SOFTMAX))
def test_softmax_gradients_are_finite_differences(name: str, options: Options) -> None:
    loss, target = _softmax(name, options), torch.tensor([0, 4, 2, 2])
    assert gradcheck(lambda scores: loss.rows(scores, target), (_draw(B, K).requires_grad_(),))


@pytest.mark.parametrize("name", SOFTMAX)
def test_row_weights_come_from_the_counts(name: str) -> None:
    queries, answers = torch.tensor([1, 6, 3]), torch.tensor([4, 2, 3])
    weight = _softmax(name, {}).row_weight(queries, answers)
    expected = [ROW_WEIGHT[name](x, y) for x, y in zip(queries.tolist(), answers.tolist(), strict=True)]
    assert (torch.ones(3) if weight is None else weight).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_softmax_loss_falls_with_the_positive(name: str) -> None:
    loss, scores, target = _softmax(name, {}), _draw(B, K) / 4, torch.tensor([0, 4, 2, 2])
    raised = scores.scatter_add(1, target[:, None], torch.full((B, 1), 0.1))
    assert (loss.rows(raised, target) < loss.rows(scores, target)).all()


def test_no_smoothing_is_plain_cross_entropy() -> None:
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    plain = torch.nn.functional.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(_softmax("sce", {}).rows(scores, target), plain)
    torch.testing.assert_close(_softmax("sce_ls", {"smoothing": 0.0}).rows(scores, target), plain)


def test_smoothing_is_spread_over_the_other_entities_alone() -> None:
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    over_all = 0.3 * K / (K - 1)  # torch spreads over all classes
    other = torch.nn.functional.cross_entropy(scores, target, reduction="none", label_smoothing=over_all)
    torch.testing.assert_close(_softmax("sce_ls", {"smoothing": 0.3}).rows(scores, target), other)


def test_noise_of_each_sampling_loss() -> None:
    noises = {name: _sampling(name, {}).noise for name in SAMPLING}
    assert noises == {"ns": "uniform", "ns_freq": "weighted", "sans": "uniform"}
    assert _sampling("ns_freq", {"noise": "sampled"}).noise == "sampled"
    assert set(noises.values()) <= set(get_args(Noise))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("ns", {"normalize": "avg"}, r"^loss\.normalize: must be 'sum' or 'mean', got 'avg'$"),
        ("ns_freq", {"noise": "uniform"}, r"^loss\.noise: must be 'weighted' or 'sampled', got 'uniform'$"),
        ("sans", {"temperature": -1.0}, r"^loss\.temperature: must be >= 0, got -1\.0$"),
        ("sce_ls", {"smoothing": 1.0}, r"^loss\.smoothing: must be in \[0, 1\), got 1\.0$"),
    ],
)
def test_an_option_that_means_nothing_is_refused(name: str, options: Options, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LOSSES[name](**options)


def test_abstract_losses_cannot_be_made() -> None:
    for class_ in (AbstractSamplingLoss, AbstractSoftmaxLoss):
        assert issubclass(class_, AbstractLoss)
        with pytest.raises(TypeError, match="abstract"):
            class_()
