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
from kge.losses.against_all import AgainstAll
from kge.losses.base import (
    AbstractBlockLoss,
    AbstractLoss,
    AbstractSamplingLoss,
    AbstractSoftmaxLoss,
    Answers,
    Noise,
    Objective,
)
from kge.losses.logistic import AbstractLogisticLoss, query_weights
from kge.losses.ns import NS
from kge.losses.sans import SANS
from kge.losses.sce_ls import SCELabelSmoothing
from kge.losses.tans import TANS
from study.report import tables

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
    "sce_cw": [{}, {"floor": 0.0}],
    "tans": [{}, {"margin": 2.0, "temperature": 0.5, "query_temperature": 1.0}],
    "bce": [{}, {"margin": 2.0}, {"smoothing": 0.3}],
    "margin_ranking": [{"margin": 9.0}, {}],  # with the first no pair is ever far enough apart
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


def _hinge(positive: float, negative: list[float], weights: list[float], _: list[float], options: Options) -> float:
    margin = options.get("margin", 1.0)
    return sum(w * max(0.0, margin - positive + s) for w, s in zip(weights, negative, strict=True))


# A row of a sampling loss: (positive, negatives, weights, scores that adversarial weights are made from, options).
SAMPLING: dict[str, Callable[[float, list[float], list[float], list[float], Options], float]] = {
    "ns": _ns,
    "ns_freq": _ns_freq,
    "sans": _sans,
    "tans": _sans,
    "margin_ranking": _hinge,
}
SMOOTH = [name for name in SAMPLING if name != "margin_ranking"]  # never satisfied, so never flat


def _log_p(scores: list[float]) -> list[float]:
    total = math.log(sum(math.exp(score) for score in scores))
    return [score - total for score in scores]


def _sce(scores: list[float], target: int, _: Options) -> float:
    return -_log_p(scores)[target]


def _sce_ls(scores: list[float], target: int, options: Options) -> float:
    smoothing = options.get("smoothing", 0.1)
    others = [each for position, each in enumerate(_log_p(scores)) if position != target]
    return -(1 - smoothing) * _log_p(scores)[target] - smoothing / len(others) * sum(others)


def _bce(scores: list[float], answers: set[int], options: Options) -> float:
    smoothing, margin = options.get("smoothing", 0.0), options.get("margin", 0.0)
    total = 0.0
    for position, score in enumerate(scores):
        label = (1 - smoothing) * (position in answers) + (1 / len(scores) if smoothing else 0.0)
        total -= label * _log_sigmoid(score + margin) + (1 - label) * _log_sigmoid(-(score + margin))
    return total


# A row of a loss over all entities, with one answer.
BLOCK: dict[str, Callable[[list[float], int, Options], float]] = {
    "sce": _sce,
    "sce_ls": _sce_ls,
    "sce_bc": _sce,
    "sce_cw": _sce,
    "bce": lambda scores, target, options: _bce(scores, {target}, options),
}


def _by_degree(rows: list[tuple[int, int, int]], options: Options) -> list[float]:
    floor, largest = options.get("floor", 0.1), max(degree for _, _, degree in rows)
    weights = [floor + (1 - floor) * degree / largest for _, _, degree in rows]
    return [weight * len(rows) / sum(weights) for weight in weights]


# Weights of rows from #x, #y and the degree of y, where they are not all 1.
ROW_WEIGHTS: dict[str, Callable[[list[tuple[int, int, int]], Options], list[float]]] = {
    "sce_bc": lambda rows, _: [query / answer for query, answer, _ in rows],
    "sce_cw": _by_degree,
}


def _cases(names: Any) -> list[Any]:
    return [pytest.param(name, options, id=f"{name}{options or ''}") for name in names for options in OPTIONS[name]]


def _sampling(name: str, options: Options) -> AbstractSamplingLoss:
    loss = LOSSES[name](**options)
    assert isinstance(loss, AbstractSamplingLoss)
    return loss


def _block(name: str, options: Options) -> AbstractBlockLoss:
    loss = LOSSES[name](**options)
    assert isinstance(loss, AbstractBlockLoss)
    return loss


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_loss_has_a_formula_and_options() -> None:
    assert SAMPLING.keys() | BLOCK.keys() == LOSSES.keys() == OPTIONS.keys()
    assert BLOCK.keys() > ROW_WEIGHTS.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_declares_its_objective_and_training_types(name: str) -> None:
    loss = LOSSES[name]
    assert loss.objective in get_args(Objective)
    assert {loss().objective_with(each) for each in loss.training_types} <= set(get_args(Objective))
    assert loss().objective_with(loss.training_types[0]) == loss.objective
    assert loss.training_types
    assert set(loss.training_types) <= set(get_args(TrainingType))
    sampled = loss.training_types[0] == "negative_sampling"
    assert issubclass(loss, AbstractSamplingLoss if sampled else AbstractBlockLoss)


def test_a_report_explains_every_objective() -> None:
    assert tables.OBJECTIVES.keys() - {"unknown"} == set(get_args(Objective))


def test_losses_that_theory_compares_declare_the_same_objective() -> None:
    def objectives(*names: str) -> set[str]:
        return {LOSSES[name].objective for name in names}

    assert objectives("ns", "sce") == {"p_d"}
    assert objectives("ns_freq", "sce_bc") == {"p_d/p_y"}
    assert objectives("sans", "sce_ls", "tans") == {"smoothed"}


def test_options_and_rows_decide_the_objective_too() -> None:
    assert NS(subsampling="uniq").objective == NS().objective == "p_d"
    assert NS(subsampling="base").objective == NS(subsampling="freq").objective == "subsampled"
    assert NS(subsampling="base", alpha=0.0).objective == "p_d", "all weights are 1"
    assert {SCELabelSmoothing(smoothing=0.0).objective, SANS(temperature=0.0).objective} == {"p_d"}
    assert (TANS(temperature=0.0).objective, SANS(temperature=0.0).objective_with("one_vs_all")) == ("p_d", "odds")
    over_all = {name: LOSSES[name]().objective_with("one_vs_all") for name in ("ns", "bce", "sans", "sce")}
    assert over_all == {"ns": "odds", "bce": "odds", "sans": "smoothed odds", "sce": "p_d"}
    by_query = {name: LOSSES[name]().objective_with("k_vs_all") for name in ("bce", "sce", "sce_ls")}
    assert by_query == {"bce": "answers", "sce": "p_d", "sce_ls": "smoothed"}


@pytest.mark.parametrize("name", LOSSES)
def test_known_answers_that_are_no_negatives_leave_no_optimum(name: str) -> None:
    loss = LOSSES[name]()
    types = loss.training_types
    found = {each: loss.objective_with(each, filtered=True) for each in types}
    without = {each: loss.objective_with(each) for each in types}
    sampled = {"negative_sampling": "order" if loss.objective == "order" else "unbounded"}
    assert found == {**without, **{each: sampled[each] for each in types if each in sampled}}


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


@pytest.mark.parametrize(("name", "options"), _cases(SMOOTH))
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


@pytest.mark.parametrize(("name", "options"), [*_cases(SMOOTH), ("margin_ranking", {"margin": 20.0})])
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


@pytest.mark.parametrize(("name", "options"), _cases(BLOCK))
def test_rows_over_all_entities_follow_the_formula(name: str, options: Options) -> None:
    loss = _block(name, options)
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    rows = loss.rows(scores, target)
    for row in range(B):
        expected = BLOCK[name](scores[row].tolist(), int(target[row]), options)
        assert rows[row].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "options"), _cases(BLOCK))
def test_gradients_over_all_entities_are_finite_differences(name: str, options: Options) -> None:
    loss, target = _block(name, options), torch.tensor([0, 4, 2, 2])
    assert gradcheck(lambda scores: loss.rows(scores, target), (_draw(B, K).requires_grad_(),))


@pytest.mark.parametrize(("name", "options"), _cases(BLOCK))
def test_row_weights_come_from_the_counts(name: str, options: Options) -> None:
    rows = [(1, 4, 5), (6, 2, 8), (3, 3, 3)]
    queries, answers, degrees = map(torch.tensor, zip(*rows, strict=True))
    weights = _block(name, options).row_weights(queries=queries, answers=answers, degrees=degrees)
    if name in ROW_WEIGHTS:
        assert weights is not None
        assert weights.tolist() == pytest.approx(ROW_WEIGHTS[name](rows, options))
    else:
        assert weights is None


@pytest.mark.parametrize("name", BLOCK)
def test_a_loss_over_all_entities_falls_with_the_positive(name: str) -> None:
    loss, scores, target = _block(name, {}), _draw(B, K) / 4, torch.tensor([0, 4, 2, 2])
    raised = scores.scatter_add(1, target[:, None], torch.full((B, 1), 0.1))
    assert (loss.rows(raised, target) < loss.rows(scores, target)).all()


def test_no_smoothing_is_plain_cross_entropy() -> None:
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    plain = torch.nn.functional.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(_block("sce", {}).rows(scores, target), plain)
    torch.testing.assert_close(_block("sce_ls", {"smoothing": 0.0}).rows(scores, target), plain)


def test_smoothing_is_spread_over_the_other_entities_alone() -> None:
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    over_all = 0.3 * K / (K - 1)  # torch spreads over all classes
    other = torch.nn.functional.cross_entropy(scores, target, reduction="none", label_smoothing=over_all)
    torch.testing.assert_close(_block("sce_ls", {"smoothing": 0.3}).rows(scores, target), other)


# Rows 0 and 2 have one answer, row 1 has three; shares are counts over the count of the query.
ANSWERS = Answers(
    row=torch.tensor([0, 1, 1, 1, 2]),
    entity=torch.tensor([3, 0, 1, 4, 4]),
    share=torch.tensor([1.0, 0.5, 0.25, 0.25, 1.0], dtype=torch.float64),
    counts=torch.tensor([1, 3, 1]),
)


@pytest.mark.parametrize(("name", "options"), [case for case in _cases(BLOCK) if case.values[0] != "bce"])
def test_a_softmax_row_with_several_answers_is_their_mean(name: str, options: Options) -> None:
    scores = _draw(3, K)
    rows = _block(name, options).answer_rows(scores, ANSWERS)
    expected = [0.0, 0.0, 0.0]
    pairs = zip(ANSWERS.row.tolist(), ANSWERS.entity.tolist(), ANSWERS.share.tolist(), strict=True)
    for row, entity, share in pairs:
        expected[row] += share * BLOCK[name](scores[row].tolist(), entity, options)
    assert rows.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", OPTIONS["bce"])
def test_a_binary_row_with_several_answers_has_all_their_labels(options: Options) -> None:
    scores = _draw(3, K)
    rows = _block("bce", options).answer_rows(scores, ANSWERS)
    expected = [
        _bce(scores[row].tolist(), set(ANSWERS.entity[ANSWERS.row == row].tolist()), options) for row in range(3)
    ]
    assert rows.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "options"), _cases(BLOCK))
def test_gradients_with_several_answers_are_finite_differences(name: str, options: Options) -> None:
    loss = _block(name, options)
    assert gradcheck(lambda scores: loss.answer_rows(scores, ANSWERS), (_draw(3, K).requires_grad_(),))


@pytest.mark.parametrize("name", ["ns", "sans"])
def test_against_all_every_other_entity_is_a_negative(name: str) -> None:
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    for options in OPTIONS[name]:
        rows = AgainstAll(_sampling(name, options)).rows(scores, target)
        for row in range(B):
            others = [score for position, score in enumerate(scores[row].tolist()) if position != target[row]]
            own = scores[row, target[row]].item()
            expected = SAMPLING[name](own, others, [1.0] * (K - 1), others, options)
            assert rows[row].item() == pytest.approx(expected, abs=1e-12)


def test_against_all_of_a_single_entity_has_no_negatives() -> None:
    scores = torch.tensor([[0.7]], dtype=torch.float64)
    rows = AgainstAll(NS(normalize="mean")).rows(scores, torch.tensor([0]))
    torch.testing.assert_close(rows, -torch.nn.functional.logsigmoid(scores[:, 0]) / 2)


def test_ns_against_all_is_binary_cross_entropy() -> None:
    scores, target = _draw(B, K), torch.tensor([0, 4, 2, 2])
    against_all = AgainstAll(NS(margin=1.5)).rows(scores, target)
    torch.testing.assert_close(against_all, _block("bce", {"margin": 1.5}).rows(scores, target))


@pytest.mark.parametrize("name", [name for name in LOSSES if issubclass(LOSSES[name], AbstractLogisticLoss)])
def test_the_terms_of_a_row_are_its_positive_and_its_negatives(name: str) -> None:
    loss = LOSSES[name]()
    assert isinstance(loss, AbstractLogisticLoss)
    positive, negative = _draw(B), _draw(B, K, seed=1)
    true, noise = loss.terms(positive, negative, None)
    torch.testing.assert_close(true + noise, loss.rows(positive, negative, None))
    torch.testing.assert_close(loss.terms(positive, -negative, None)[0], true)
    torch.testing.assert_close(loss.terms(-positive, negative, None)[1], noise)


@pytest.mark.parametrize("name", ["ns", "sans", "tans"])
@pytest.mark.parametrize(("variant", "kinds"), [("base", "pp"), ("freq", "pq"), ("uniq", "qq")])
def test_subsampling_weighs_by_a_power_of_the_counts(name: str, variant: str, kinds: str) -> None:
    loss = LOSSES[name](subsampling=variant, alpha=0.7)
    assert isinstance(loss, AbstractLogisticLoss)
    counts = {"p": torch.tensor([7, 2, 2, 9]), "q": torch.tensor([1, 1, 3, 4])}
    emphasis = loss.emphasis(counts["p"], counts["q"])
    assert emphasis is not None
    for mine, kind in zip(emphasis, kinds, strict=True):
        powers = [count**-0.7 for count in counts[kind].tolist()]
        assert mine.tolist() == pytest.approx([4 * each / sum(powers) for each in powers])


def test_without_subsampling_every_row_counts_once() -> None:
    assert NS().emphasis(torch.tensor([3, 1]), torch.tensor([2, 1])) is None
    flat = NS(subsampling="base", alpha=0.0).emphasis(torch.tensor([3, 1]), torch.tensor([2, 1]))
    assert flat is not None
    assert [each.tolist() for each in flat] == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("temperature", [-2.0, -0.5, 1.0])
def test_queries_are_weighed_by_a_power_of_their_answers_scores(temperature: float) -> None:
    scores, queries = [0.5, -1.0, 2.0, 0.0], [8, 3, 8, 5]
    masses = {query: sum(math.exp(s) for s, q in zip(scores, queries, strict=True) if q == query) for query in queries}
    powers = [masses[query] ** temperature for query in queries]
    weights = query_weights(torch.tensor(scores), torch.tensor(queries), temperature)
    assert weights.tolist() == pytest.approx([4 * each / sum(powers) for each in powers])


def test_query_weights_stay_finite_at_extreme_scores() -> None:
    weights = query_weights(torch.tensor([-1e6, 1e6, 0.0]), torch.tensor([0, 0, 1]), -0.5)
    assert weights.tolist() == pytest.approx([0.0, 0.0, 3.0])


def test_noise_of_each_sampling_loss() -> None:
    noises = {name: _sampling(name, {}).noise for name in SAMPLING}
    assert noises == {name: "weighted" if name == "ns_freq" else "uniform" for name in SAMPLING}
    assert _sampling("ns_freq", {"noise": "sampled"}).noise == "sampled"
    assert set(noises.values()) <= set(get_args(Noise))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("ns", {"normalize": "avg"}, r"^loss\.normalize: must be 'sum' or 'mean', got 'avg'$"),
        ("ns_freq", {"noise": "uniform"}, r"^loss\.noise: must be 'weighted' or 'sampled', got 'uniform'$"),
        ("sans", {"temperature": -1.0}, r"^loss\.temperature: must be >= 0, got -1\.0$"),
        ("tans", {"temperature": -1.0}, r"^loss\.temperature: must be >= 0, got -1\.0$"),
        ("ns", {"alpha": -0.5}, r"^loss\.alpha: must be >= 0, got -0\.5$"),
        ("margin_ranking", {"margin": 0.0}, r"^loss\.margin: must be > 0, got 0\.0$"),
        ("bce", {"smoothing": 1.0}, r"^loss\.smoothing: must be in \[0, 1\), got 1\.0$"),
        ("sce_ls", {"smoothing": 1.0}, r"^loss\.smoothing: must be in \[0, 1\), got 1\.0$"),
    ],
)
def test_an_option_that_means_nothing_is_refused(name: str, options: Options, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LOSSES[name](**options)


def test_abstract_losses_cannot_be_made() -> None:
    for class_ in (AbstractSamplingLoss, AbstractLogisticLoss, AbstractBlockLoss, AbstractSoftmaxLoss):
        assert issubclass(class_, AbstractLoss)
        with pytest.raises(TypeError, match="abstract"):
            class_()
