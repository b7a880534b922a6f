"""Free scores trained by each loss reach the distribution that the loss declares as its objective.

Five queries, twelve labels, integer counts with one very popular label. The tests called exact minimise the
expectation of the loss; the sampled ones train with the sampler itself. Numbers and tolerances are those of
Kamigaito & Hayashi (ACL 2021) worked out on such a table.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kge.batches.block import row_weights
from kge.building import build_training_type
from kge.config import NegativesConfig
from kge.data import Dataset, Side
from kge.filters import filter_from
from kge.frequencies import Frequencies
from kge.losses import LOSSES
from kge.losses.base import AbstractLoss, AbstractSamplingLoss, AbstractSoftmaxLoss, Noise
from kge.negatives import NegativeSampler
from tests.kge import graphs

pytestmark = pytest.mark.usefixtures("float64")

COUNTS = [
    [25, 2, 11, 2, 21, 3, 9, 4, 7, 1, 10, 11],
    [90, 3, 5, 1, 5, 4, 14, 1, 5, 5, 5, 1],
    [18, 4, 5, 1, 1, 1, 24, 1, 4, 1, 22, 25],
    [17, 3, 13, 9, 4, 4, 34, 1, 1, 16, 12, 5],
    [21, 9, 1, 1, 1, 13, 1, 2, 10, 3, 20, 2],
]
X, Y = len(COUNTS), len(COUNTS[0])


def _joint() -> Tensor:
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    return counts / counts.sum()


def _normalised(values: Tensor) -> Tensor:
    return values / values.sum(dim=1, keepdim=True)


def _p_y() -> Tensor:
    return _joint().sum(dim=0)


def _p_d() -> Tensor:
    return _normalised(_joint())


def _corrected() -> Tensor:
    """p_d(y|x) / p_d(y), normalised."""
    return _normalised(_p_d() / _p_y())


def _degrees() -> Tensor:
    """Of the labels: query x is asked about the entity of label x."""
    counts = torch.tensor(COUNTS)
    return counts.sum(dim=0) + torch.nn.functional.pad(counts.sum(dim=1), (0, Y - X))


def _smoothed(smoothing: float) -> Tensor:
    """The optimum of label smoothing, whose mass goes to the other labels alone."""
    exact = smoothing * Y / (Y - 1)
    return (1 - exact) * _p_d() + exact / Y


def _tempered(temperature: float) -> Tensor:
    """p_d^(1/(1+temperature)), normalised: the optimum of sans with all labels as negatives."""
    return _normalised(_p_d() ** (1 / (1 + temperature)))


def _by_degree(floor: float) -> Tensor:
    """p_d(y|x) w(y), normalised."""
    return _normalised(_p_d() * (floor + (1 - floor) * _degrees() / _degrees().max()))


def _variation(scores: Tensor, target: Tensor) -> float:
    """The largest total variation between softmax(scores) and the target, over queries."""
    return float(0.5 * (scores.softmax(dim=1) - target).abs().sum(dim=1).max())


def _graph() -> Dataset:
    """The counts as triples: query x is (e_x, r, ?), and every entity is a label."""
    triples = [(x, 0, y) for x, row in enumerate(COUNTS) for y, count in enumerate(row) for _ in range(count)]
    return graphs.dataset(train=triples, valid=triples[:1])


def _minimise(loss: Callable[[Tensor], Tensor], *, start: Tensor | None = None, steps: int = 1500) -> Tensor:
    """Scores at the minimum of a convex loss, by L-BFGS."""
    scores = (torch.zeros(X, Y) if start is None else start.clone()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=steps, tolerance_grad=1e-13, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(scores)
        value.backward()
        return value

    optimizer.step(closure)
    return scores.detach()


def _expectation(loss: AbstractSamplingLoss, scores: Tensor, weight: Tensor | None) -> Tensor:
    """Expected row loss when every label is a negative of each row with its expected weight (Y,)."""
    positive, negative = scores.reshape(-1), scores.repeat_interleave(Y, dim=0)
    rows = loss.rows(positive, negative, None if weight is None else weight.expand(X * Y, Y))
    return rows @ _joint().reshape(-1)


def _sampling(name: str, **options: Any) -> AbstractSamplingLoss:
    loss = LOSSES[name](**options)
    assert isinstance(loss, AbstractSamplingLoss)
    return loss


def _softmax_expectation(name: str, **options: Any) -> Callable[[Tensor], Tensor]:
    loss = LOSSES[name](**options)
    assert isinstance(loss, AbstractSoftmaxLoss)
    counts = torch.tensor(COUNTS)
    queries = counts.sum(dim=1).repeat_interleave(Y)
    answers = counts.sum(dim=0).repeat(X)
    weight = loss.row_weights(queries=queries, answers=answers, degrees=_degrees().repeat(X))

    def expectation(scores: Tensor) -> Tensor:
        rows = loss.rows(scores.repeat_interleave(Y, dim=0), torch.arange(Y).repeat(X))
        return (rows if weight is None else rows * weight) @ _joint().reshape(-1)

    return expectation


def test_the_table_tells_the_objectives_apart() -> None:
    assert _p_y().max() > 0.25
    assert _p_y().min() < 0.03
    assert 0.5 * (_p_d() - _corrected()).abs().sum(dim=1).max() > 0.35


def test_sce_reaches_p_d() -> None:
    assert _variation(_minimise(_softmax_expectation("sce")), _p_d()) < 1e-6


@pytest.mark.parametrize("negatives", [1, 5, 50, 500])
@pytest.mark.parametrize("margin", [0.0, 1.0, 9.0])
def test_ns_reaches_p_d_at_the_score_that_theory_gives(negatives: int, margin: float) -> None:
    loss = _sampling("ns", margin=margin)
    scores = _minimise(lambda scores: _expectation(loss, scores, torch.full((Y,), negatives / Y)))
    assert _variation(scores, _p_d()) < 1e-6
    torch.testing.assert_close(scores, (_p_d() * Y / negatives).log() - margin, rtol=0, atol=1e-4)


def test_ns_as_a_mean_reaches_p_d_at_the_score_of_one_negative() -> None:
    loss = _sampling("ns", margin=2.0, normalize="mean")
    scores = _minimise(lambda scores: _expectation(loss, scores, None))
    assert _variation(scores, _p_d()) < 1e-6
    torch.testing.assert_close(scores, (_p_d() * Y).log() - 2, rtol=0, atol=1e-4)


@pytest.mark.parametrize("negatives", [1, 50])
def test_unigram_noise_reaches_p_d_over_p_y(negatives: int) -> None:
    loss = _sampling("ns_freq", noise="sampled")
    scores = _minimise(lambda scores: _expectation(loss, scores, negatives * _p_y()))
    assert _variation(scores, _corrected()) < 1e-6


def test_uniform_noise_weighted_by_the_unigram_reaches_the_same() -> None:
    loss = _sampling("ns_freq")
    scores = _minimise(lambda scores: _expectation(loss, scores, 50 / Y * _p_y()))
    assert _variation(scores, _corrected()) < 1e-6


def test_backward_correction_reaches_p_d_over_p_y() -> None:
    assert _variation(_minimise(_softmax_expectation("sce_bc")), _corrected()) < 1e-6


def test_the_weight_of_backward_correction_is_the_inverse_transition_up_to_a_factor_of_the_query() -> None:
    """T(x,y) = p(y) sum_i p(y_i|x) / p(y_i)."""
    counts = torch.tensor(COUNTS)
    queries, answers = counts.sum(dim=1).repeat_interleave(Y), counts.sum(dim=0).repeat(X)
    loss = LOSSES["sce_bc"]()
    assert isinstance(loss, AbstractSoftmaxLoss)
    weight = loss.row_weights(queries=queries, answers=answers, degrees=_degrees().repeat(X))
    assert weight is not None
    transition = _p_y() * (_p_d() / _p_y()).sum(dim=1, keepdim=True)
    factor = weight.view(X, Y) * transition
    torch.testing.assert_close(factor, factor[:, :1].expand(X, Y), rtol=1e-14, atol=0)
    torch.testing.assert_close(_p_d() / transition, _corrected(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_class_weights_reach_p_d_times_them(floor: float) -> None:
    scores = _minimise(_softmax_expectation("sce_cw", floor=floor))
    assert _variation(scores, _by_degree(floor)) < 1e-6
    assert (_variation(scores, _p_d()) < 1e-6) is (floor == 1)
    assert LOSSES["sce_cw"](floor=floor).objective == ("p_d" if floor == 1 else "weighted")  # type: ignore[call-arg]


@pytest.mark.parametrize("smoothing", [0.01, 0.3])
def test_label_smoothing_reaches_the_mixture_over_the_other_labels(smoothing: float) -> None:
    scores = _minimise(_softmax_expectation("sce_ls", smoothing=smoothing))
    assert _variation(scores, _smoothed(smoothing)) < 1e-6
    naive = (1 - smoothing) * _p_d() + smoothing / Y
    apart = smoothing / (Y - 1) * _variation(torch.zeros(X, Y), _p_d())
    assert _variation(scores, naive) == pytest.approx(apart, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("margin", [0.0, 9.0])
def test_sans_over_all_labels_reaches_a_power_of_p_d(temperature: float, margin: float) -> None:
    loss = _sampling("sans", temperature=temperature, margin=margin)
    scores = torch.full((X, Y), -margin).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=600)
    for _ in range(600):
        optimizer.zero_grad()
        _expectation(loss, scores, None).backward()
        optimizer.step()
        schedule.step()
    assert _variation(scores.detach(), _tempered(temperature)) < 1e-4


def test_filtering_true_answers_leaves_no_finite_optimum() -> None:
    """All labels of this table are known answers, so nothing holds the positives down.

    Where softmax(scores) goes is then the optimizer's doing: Adam moves all alike, towards the uniform.
    """
    loss = _sampling("ns")
    found: dict[str, list[Tensor]] = {}
    for name, weight in (("filtered", torch.zeros(Y)), ("unfiltered", None)):
        scores = torch.zeros(X, Y).requires_grad_()
        optimizer = torch.optim.Adam([scores], lr=0.1)
        found[name] = []
        for step in range(1, 601):
            optimizer.zero_grad()
            _expectation(loss, scores, weight).backward()
            optimizer.step()
            if step % 200 == 0:
                found[name].append(scores.detach().clone())
    heights = [float(scores.min()) for scores in found["filtered"]]
    assert heights[0] < heights[1] - 0.5 < heights[2] - 1
    assert all(_variation(scores, _p_d()) > 0.3 for scores in found["filtered"])
    assert _variation(found["filtered"][-1], torch.full((X, Y), 1 / Y)) < 0.1
    assert _variation(found["unfiltered"][-1], _p_d()) < 1e-3


def test_true_answers_are_not_filtered_by_default() -> None:
    assert not NegativesConfig().filtered
    assert not graphs.config(loss="ns").negatives.filtered


# --- the same through the training types, on a graph that holds the counts as triples


@pytest.mark.parametrize(
    "rows_of",
    [
        pytest.param({"type": "one_vs_all"}, id="one_vs_all"),
        pytest.param({"type": "k_vs_all"}, id="k_vs_all"),
        pytest.param({"type": "k_vs_all", "query_weight": "equal"}, id="k_vs_all-equal"),
    ],
)
@pytest.mark.parametrize("loss", ["sce", "sce_ls", "sce_bc", "sce_cw"])
def test_all_rows_of_a_graph_reach_the_objective_exactly(loss: str, rows_of: dict[str, object]) -> None:
    graph = _graph()
    model = graphs.free_scores(torch.zeros(2, Y, Y))  # reciprocal: the second matrix asks for heads
    config = graphs.config({f"training.{key}": value for key, value in rows_of.items()}, loss=loss)
    type_ = build_training_type(config, graph, device="cpu", fused=True)
    rows = torch.arange(type_.size)

    def value_and_gradient(scores: Tensor) -> Tensor:
        return _Tabled.apply(scores)

    class _Tabled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor) -> Tensor:
            model.zero_grad()
            with torch.no_grad():
                model.relations[0].view(Y, Y)[:X] = scores
            with torch.enable_grad():
                value = type_.backward(model, rows)
            assert model.relations.grad is not None
            ctx.save_for_backward(model.relations.grad[0].view(Y, Y)[:X].clone())
            return value

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (gradient,) = ctx.saved_tensors
            return gradient * grad

    target = {
        "sce": _p_d(),
        "sce_bc": _corrected(),
        "sce_ls": _smoothed(0.1),
        "sce_cw": _by_degree(0.1),
    }[loss]
    assert _variation(_minimise(value_and_gradient), target) < 1e-6


def _train(loss: AbstractLoss, *, negatives: int = 1, steps: int, batch: int = 512, filtered: bool = False) -> Tensor:
    """Scores after training on mini-batches of shuffled epochs, averaged over the last half of the steps."""
    graph = _graph()
    generator = torch.Generator().manual_seed(0)
    epochs = math.ceil(steps * batch / len(graph.train))
    order = torch.cat([torch.randperm(len(graph.train), generator=generator) for _ in range(epochs)])
    batch_loss = _batch_loss(loss, graph, negatives=negatives, filtered=filtered)
    scores, mean = torch.zeros(X, Y).requires_grad_(), torch.zeros(X, Y)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=steps)
    for step in range(steps):
        optimizer.zero_grad()
        batch_loss(scores, order[step * batch : (step + 1) * batch]).backward()
        optimizer.step()
        schedule.step()
        if step >= steps // 2:
            mean += scores.detach()
    return mean / (steps - steps // 2)


def _batch_loss(
    loss: AbstractLoss, graph: Dataset, *, negatives: int, filtered: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean loss of rows of train, of tails alone: with the project's own sampler, or over all labels."""
    if isinstance(loss, AbstractSamplingLoss):
        known = filter_from(graph, ("train",)) if filtered else None
        sampler = _sampler(graph, loss.noise, known=known)

        def against_drawn(scores: Tensor, rows: Tensor) -> Tensor:
            x, r, y = graph.train[rows].T
            ids, weight = sampler.draw(Side.TAIL, x, r, negatives)
            return loss.rows(scores[x, y], scores[x[:, None], ids], weight).mean()

        return against_drawn

    assert isinstance(loss, AbstractSoftmaxLoss)
    weights = row_weights(loss, graph.train, Frequencies(graph))

    def against_all(scores: Tensor, rows: Tensor) -> Tensor:
        x, _, y = graph.train[rows].T
        values = loss.rows(scores[x], y)
        return (values if weights is None else values * weights[Side.TAIL][rows]).mean()

    return against_all


def _sampler(graph: Dataset, noise: Noise, *, known: Any = None) -> NegativeSampler:
    generator = torch.Generator().manual_seed(1)
    return NegativeSampler(noise=noise, frequencies=Frequencies(graph), known=known, generator=generator)


@pytest.mark.parametrize("steps", [800, pytest.param(12_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "options", "negatives", "target"),
    [
        pytest.param("ns", {}, 16, _p_d, id="ns"),
        pytest.param("ns", {"normalize": "mean", "margin": 1.0}, 16, _p_d, id="ns-mean"),
        pytest.param("ns_freq", {}, 155, _corrected, id="ns_freq-weighted"),
        pytest.param("ns_freq", {"noise": "sampled"}, 16, _corrected, id="ns_freq-sampled"),
        pytest.param("sce", {}, 1, _p_d, id="sce"),
        pytest.param("sce_bc", {}, 1, _corrected, id="sce_bc"),
        pytest.param("sce_ls", {"smoothing": 0.3}, 1, lambda: _smoothed(0.3), id="sce_ls"),
        pytest.param("sans", {}, 155, lambda: _tempered(1), id="sans"),
        pytest.param("sans", {"temperature": 0.5}, 155, lambda: _tempered(0.5), id="sans-half"),
    ],
)
def test_mini_batches_reach_the_objective(
    name: str, options: dict[str, Any], negatives: int, target: Callable[[], Tensor], steps: int
) -> None:
    scores = _train(LOSSES[name](**options), negatives=negatives, steps=steps)
    assert _variation(scores, target()) < 0.01


def test_one_sampled_self_adversarial_negative_is_plain_negative_sampling() -> None:
    """A single negative has weight 1 whatever its score."""
    assert _variation(_train(_sampling("sans"), negatives=1, steps=800), _p_d()) < 0.02


def test_sampled_and_filtered_negatives_diverge() -> None:
    short, long = (_train(_sampling("ns"), negatives=5, steps=steps, batch=128, filtered=True) for steps in (150, 300))
    assert 1 < short.min() < long.min()
    assert min(_variation(short, _p_d()), _variation(long, _p_d())) > 0.3
    assert math.isfinite(float(long.max()))
