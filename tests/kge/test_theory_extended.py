"""More of the theory on free scores: losses over all entities, subsampling, sparse tables, bounded scores, speed.

The table is that of test_theory.py: five queries, twelve labels. Tolerances are those worked out on such a
table for Kamigaito & Hayashi (ACL 2021, ICML 2022) and the authors' later work.
"""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kge.building import build_training_type
from kge.losses import LOSSES
from kge.losses.against_all import AgainstAll
from kge.losses.base import AbstractBlockLoss, AbstractSamplingLoss
from kge.losses.logistic import AbstractLogisticLoss, query_weights
from kge.losses.margin_ranking import MarginRanking
from kge.losses.ns import NS
from kge.losses.sans import SANS
from kge.losses.sce import SCE
from kge.losses.sce_ls import SCELabelSmoothing
from kge.losses.tans import TANS
from tests.kge import graphs
from tests.kge.test_theory import COUNTS, X, Y, _graph, _joint, _minimise, _normalised, _p_d, _variation

pytestmark = pytest.mark.usefixtures("float64")

Loss = Callable[[Tensor], Tensor]
CELLS = [(x, y) for x in range(X) for y in range(Y)]


def _descend(loss: Loss, *, start: Tensor | None = None, steps: int = 600, lr: float = 0.1) -> Tensor:
    """Scores after Adam with a rate that falls to zero: for losses whose weights are held constant."""
    scores = (torch.zeros(X, Y) if start is None else start.clone()).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(scores).backward()
        optimizer.step()
        schedule.step()
    return scores.detach()


def _over_all(rule: AbstractBlockLoss, joint: Tensor | None = None) -> Loss:
    """Expectation of a loss over all entities."""
    weight = (_joint() if joint is None else joint).reshape(-1)
    return lambda scores: rule.rows(scores.repeat_interleave(Y, dim=0), torch.arange(Y).repeat(X)) @ weight


def _sampled(rule: AbstractSamplingLoss, joint: Tensor | None = None, *, negatives: float = Y) -> Loss:
    """Expectation of a sampling loss: every label a negative of each row, with its expected number of draws.

    A self-adversarial loss makes its own weights, so that all labels are one set of negatives.
    """
    weight = (_joint() if joint is None else joint).reshape(-1)
    draws = None if isinstance(rule, SANS | TANS) else torch.full((X * Y, Y), negatives / Y)
    return lambda scores: rule.rows(scores.reshape(-1), scores.repeat_interleave(Y, dim=0), draws) @ weight


def _divergence(p: Tensor, q: Tensor) -> float:
    """KL(p || q), mean over queries."""
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(dim=1).mean())


# --- self-adversarial negatives, few at a time


def _sans_with(negatives: int) -> Loss:
    """Expectation of sans over all draws of so many negatives."""
    rule = SANS()
    draws = torch.tensor(list(itertools.product(range(Y), repeat=negatives)))
    p_x = _joint().sum(dim=1)

    def loss(scores: Tensor) -> Tensor:
        block = scores[:, draws].reshape(-1, negatives)
        _, noise = rule.terms(scores.new_zeros(len(block)), block, None)
        true, _ = rule.terms(scores.reshape(-1), scores.new_zeros(X * Y, 1), None)
        return true @ _joint().reshape(-1) + noise.view(X, -1).mean(dim=1) @ p_x

    return loss


def _power(scores: Tensor) -> float:
    """The exponent a for which p_d^a, normalised, is nearest to softmax(scores)."""
    grid = torch.linspace(0.3, 1.2, 901)
    return float(min(grid, key=lambda a: _divergence(_normalised(_p_d() ** a), scores.softmax(dim=1))))


def test_one_self_adversarial_negative_is_plain_negative_sampling() -> None:
    assert _variation(_descend(_sans_with(1)), _p_d()) < 1e-4


def test_two_self_adversarial_negatives_smooth_in_part() -> None:
    assert _power(_descend(_sans_with(2))) == pytest.approx(0.768, abs=0.02)


@pytest.mark.slow
def test_smoothing_grows_with_the_number_of_negatives() -> None:
    powers = [_power(_descend(_sans_with(count), steps=400)) for count in (1, 2, 3, 4)]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] > 0.99
    assert 0.5 < powers[-1] < 0.7


def test_query_weights_of_tans_leave_the_optimum_of_sans() -> None:
    """q_x scales both terms of a query, so free scores go where they would go without it."""
    train = _graph().train
    x, y = train[:, 0], train[:, 2]
    for query_temperature in (-0.5, 1.0):
        rule = TANS(query_temperature=query_temperature)

        def loss(scores: Tensor, rule: TANS = rule) -> Tensor:
            weight = query_weights(scores[x, y], x, rule.query_temperature)
            return torch.dot(weight, rule.rows(scores[x, y], scores[x], None)) / len(train)

        assert _variation(_descend(loss, steps=1000), _normalised(_p_d().sqrt())) < 1e-3


# --- every other entity a negative


@pytest.mark.parametrize("rule", [LOSSES["bce"](), AgainstAll(NS())], ids=["bce", "ns"])
@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_binary_cross_entropy_over_all_reaches_the_odds(rule: AbstractBlockLoss, margin: float) -> None:
    if margin:
        rule = AgainstAll(NS(margin=margin)) if isinstance(rule, AgainstAll) else LOSSES["bce"](margin=margin)  # type: ignore[assignment, call-arg]
    scores = _minimise(_over_all(rule))
    torch.testing.assert_close(torch.sigmoid(scores + margin), _p_d(), rtol=0, atol=1e-6)
    assert _variation(scores, _normalised(_p_d() / (1 - _p_d()))) < 1e-6
    assert _variation(scores, _p_d()) > 0.1


def test_binary_cross_entropy_of_softened_labels_reaches_the_odds_of_the_softened_distribution() -> None:
    rule = LOSSES["bce"](smoothing=0.3)  # type: ignore[call-arg]
    softened = 0.7 * _p_d() + 1 / Y
    scores = _minimise(_over_all(rule))
    torch.testing.assert_close(torch.sigmoid(scores), softened, rtol=0, atol=1e-6)
    assert _variation(scores, _normalised(_p_d() / (1 - _p_d()))) > 0.1
    assert (rule.objective_with("one_vs_all"), rule.objective_with("k_vs_all")) == ("smoothed odds", "answers")


def test_sans_over_all_lies_between_the_odds_and_their_root() -> None:
    scores = _descend(_over_all(AgainstAll(SANS())), steps=1500)
    raised = scores.exp()
    rest = raised.sum(dim=1, keepdim=True) - raised  # of each label z: S - e^f_z
    others = (_p_d() / rest).sum(dim=1, keepdim=True) - _p_d() / rest
    torch.testing.assert_close(raised**2 * others, _p_d(), rtol=0, atol=1e-5)
    odds = _normalised(_p_d() / (1 - _p_d()))
    assert _variation(scores, _normalised(odds.sqrt())) < 0.1 < _variation(scores, odds)
    assert _variation(scores, _normalised(_p_d().sqrt())) > 0.1


# --- the rows of k_vs_all, on a graph that holds the counts as triples


def test_binary_rows_of_k_vs_all_score_all_answers_alike() -> None:
    graph = graphs.dataset(train=[(0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 1), (1, 0, 2), (2, 0, 3)], valid=[(3, 0, 0)])
    paths = {"training.type": "k_vs_all", "loss.smoothing": 0.4}
    model = graphs.free_scores(torch.zeros(2, 4, 4))
    type_ = build_training_type(graphs.config(paths, loss="bce"), graph, device="cpu", fused=True)
    optimizer = torch.optim.LBFGS([model.relations], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        model.zero_grad()
        return type_.backward(model, torch.arange(type_.size))

    optimizer.step(closure)  # type: ignore[arg-type]
    found = torch.sigmoid(model.relations.detach()[0].view(4, 4)[0])
    torch.testing.assert_close(found, torch.tensor([0.85, 0.85, 0.25, 0.25]), rtol=0, atol=1e-4)


# --- sparse tables: labels that a query never has


def _sparse() -> Tensor:
    """The joint distribution without the rarer half of each query's labels."""
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    kept = counts * (counts > counts.median(dim=1, keepdim=True).values)
    return kept / kept.sum()


def _unseen(scores: Tensor, joint: Tensor) -> float:
    return float((scores.softmax(dim=1) * (joint == 0)).sum(dim=1).mean())


def test_mass_on_unseen_labels_goes_to_zero_except_with_label_smoothing() -> None:
    joint, smoothing = _sparse(), 0.3
    rules = {
        "sce": _over_all(SCE(), joint),
        "ns": _sampled(NS(), joint),
        "sans": _sampled(SANS(), joint),
        "sce_ls": _over_all(SCELabelSmoothing(smoothing=smoothing), joint),
    }
    early, late = (
        {name: _unseen(_descend(rule, steps=steps, lr=0.05), joint) for name, rule in rules.items()}
        for steps in (100, 800)
    )
    assert late["sce"] < late["ns"] < late["sans"]
    assert all(late[name] < early[name] / 3 for name in ("sce", "ns", "sans"))
    share = float((joint == 0).double().mean())
    assert late["sce_ls"] == pytest.approx(smoothing * Y / (Y - 1) * share, abs=1e-3)


def test_where_train_holds_each_triple_once_ns_sans_and_sce_share_their_limit() -> None:
    """p_d is flat on the seen answers, and so is its root: what sans smooths shows only while training."""
    joint = (_sparse() > 0).double()
    joint = joint / joint.sum()
    start = torch.randn(X, Y, generator=torch.Generator().manual_seed(0))
    for rule in (_over_all(SCE(), joint), _sampled(NS(), joint), _sampled(SANS(), joint)):
        scores = _descend(rule, start=start, steps=2000)
        seen = scores.softmax(dim=1) * (joint > 0)
        assert 0.5 * (_normalised(seen) - _normalised(joint)).abs().sum(dim=1).max() < 1e-3


def test_there_backward_correction_goes_to_the_inverse_frequency_of_the_answers() -> None:
    joint = (_sparse() > 0).double()
    queries, answers = joint.sum(dim=1), joint.sum(dim=0)
    rule = LOSSES["sce_bc"]()
    assert isinstance(rule, AbstractBlockLoss)
    x, y = (torch.tensor(each) for each in zip(*CELLS, strict=True))
    counts = answers[y].clamp_min(1).long()
    weight = rule.row_weights(queries=queries[x].long(), answers=counts, degrees=counts)
    assert weight is not None
    scores = _descend(_over_all(SCE(), joint * weight.view(X, Y) / joint.sum()), steps=2000)
    seen = _normalised(scores.softmax(dim=1) * joint)
    target = _normalised(joint / answers.clamp_min(1))
    assert 0.5 * (seen - target).abs().sum(dim=1).max() < 1e-3


# --- how strongly and how fast each loss fits


def _bregman(psi: Callable[[Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
    point = q.clone().requires_grad_()
    (slope,) = torch.autograd.grad(psi(point).sum(), point)
    return psi(p) - psi(q) - slope * (p - q)


def _entropy(z: Tensor) -> Tensor:
    return z * z.log()


def _logistic(z: Tensor) -> Tensor:
    return z * z.log() - (1 + z) * torch.log1p(z)


def test_the_excess_of_ns_is_the_bregman_divergence_that_theory_gives() -> None:
    """Of a label with a positives and b negatives: b D(a / b, e^s), zero at s = log(a / b)."""
    rule, scores = NS(), torch.linspace(-6, 6, 49)
    for a, b in ((0.3, 2.0), (1.0, 1.0), (5.0, 0.1)):

        def risk(s: Tensor, a: float = a, b: float = b) -> Tensor:
            true, noise = rule.terms(s, s[:, None], None)
            return a * true + b * noise

        best = torch.full_like(scores, math.log(a / b))
        excess = risk(scores) - risk(best)
        torch.testing.assert_close(excess, b * _bregman(_logistic, torch.full_like(scores, a / b), scores.exp()))


def test_sce_penalises_every_mismatch_at_least_as_much_as_ns() -> None:
    """D of z log z minus D of the logistic form is the D of (1 + z) log (1 + z), which is convex."""
    values = torch.logspace(-6, 6, 201)
    p, q = (each.reshape(-1) for each in torch.meshgrid(values, values, indexing="ij"))
    difference = _bregman(_entropy, p, q) - _bregman(_logistic, p, q)
    convex = _bregman(lambda z: (1 + z) * torch.log1p(z), p, q)
    torch.testing.assert_close(difference, convex, rtol=1e-9, atol=1e-3)
    small = (p < 1e3) & (q < 1e3)  # beyond, rounding is larger than the difference of near values
    torch.testing.assert_close(difference[small], convex[small], rtol=1e-6, atol=1e-9)
    assert difference[small].min() > -1e-9


def test_with_equal_steps_sce_fits_faster_than_ns() -> None:
    """Plain gradient descent at rate 1, each query alike; with Adam the two are about level."""
    flat = _p_d()  # a distribution over labels for each query: weights that sum to 1 in each row
    rules = {"sce": _over_all(SCE(), flat), "ns": _sampled(NS(), flat, negatives=1)}
    curves: dict[str, list[float]] = {}
    for name, rule in rules.items():
        scores = torch.zeros(X, Y).requires_grad_()
        optimizer = torch.optim.SGD([scores], lr=1.0)
        curves[name] = []
        for step in range(1, 1001):
            optimizer.zero_grad()
            rule(scores).backward()
            optimizer.step()
            if step in (10, 50, 200, 1000):
                curves[name].append(_divergence(_p_d(), scores.detach().softmax(dim=1)))
    assert all(sce < ns for sce, ns in zip(curves["sce"], curves["ns"], strict=True))
    assert curves["sce"][0] == pytest.approx(0.07, abs=0.05)
    assert curves["sce"][-1] < 1e-4


def _rank_two(rule: Loss, *, steps: int) -> float:
    """KL(p_d || p) of scores that are inner products of vectors of two numbers."""
    generator = torch.Generator().manual_seed(0)
    factors = [torch.randn(size, 2, generator=generator).mul(0.5).requires_grad_() for size in (X, Y)]
    optimizer = torch.optim.Adam(factors, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        rule(factors[0] @ factors[1].T).backward()
        optimizer.step()
    return _divergence(_p_d(), (factors[0] @ factors[1].T).detach().softmax(dim=1))


@pytest.mark.parametrize("steps", [800, pytest.param(4000, marks=pytest.mark.slow)])
def test_a_model_that_cannot_fit_all_fits_most_with_sce(steps: int) -> None:
    rules = {
        "sce": _over_all(SCE()),
        "ns": _sampled(NS(), negatives=1),
        "ns_12": _sampled(NS(), negatives=12),
        "sce_ls": _over_all(SCELabelSmoothing(smoothing=0.3)),
        "sans": _sampled(SANS()),
    }
    found = {name: _rank_two(rule, steps=steps) for name, rule in rules.items()}
    assert min(found, key=lambda name: found[name]) == "sce"


# --- subsampling


@pytest.mark.parametrize(("variant", "power"), [("base", 0.5), ("freq", 0.5), ("uniq", 0.0)])
@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_subsampling_takes_a_power_of_the_counts_from_the_optimum(variant: str, power: float, normalize: str) -> None:
    rule = LOSSES["ns"](subsampling=variant, normalize=normalize)  # type: ignore[call-arg]
    assert isinstance(rule, AbstractLogisticLoss)
    counts = torch.tensor(COUNTS)
    train = _graph().train
    x, y = train[:, 0], train[:, 2]
    emphasis = rule.emphasis(counts[x, y], counts.sum(dim=1)[x])
    assert emphasis is not None

    def loss(scores: Tensor) -> Tensor:
        true, noise = rule.terms(scores[x, y], scores[x], None)
        return (torch.dot(emphasis[0], true) + torch.dot(emphasis[1], noise)) / len(train)

    target = _normalised(_p_d() * counts**-power)
    assert _variation(_minimise(loss), target) < 1e-6
    assert rule.objective == ("subsampled" if power else "p_d")
    if power:
        assert _variation(_p_d().log(), target) > 0.05


@pytest.mark.parametrize("name", ["sans", "tans"])
@pytest.mark.parametrize(("variant", "power"), [("base", 0.5), ("freq", 0.5), ("uniq", 0.0)])
def test_subsampled_self_adversarial_losses_reach_the_root_of_that(name: str, variant: str, power: float) -> None:
    rule = LOSSES[name](subsampling=variant)
    assert isinstance(rule, AbstractLogisticLoss)
    counts = torch.tensor(COUNTS)
    train = _graph().train
    x, y = train[:, 0], train[:, 2]
    emphasis = rule.emphasis(counts[x, y], counts.sum(dim=1)[x])
    assert emphasis is not None

    def loss(scores: Tensor) -> Tensor:
        true, noise = rule.terms(scores[x, y], scores[x], None)
        return (torch.dot(emphasis[0], true) + torch.dot(emphasis[1], noise)) / len(train)

    found, target = _descend(loss, steps=1500), _normalised((_p_d() * counts**-power).sqrt())
    assert _variation(found, target) < 1e-3
    assert rule.objective == ("subsampled, smoothed" if power else "smoothed")
    if power:
        assert _variation(_p_d().sqrt().log(), target) > 0.02


# --- scores that cannot rise above zero


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 1.22, 2.2])
def test_scores_below_zero_fit_where_the_margin_is_large_enough(share: float) -> None:
    """The optimal score is log(p_d Y) - margin: reachable by -distances from margin log(Y max p_d) on."""
    least = math.log(Y * float(_p_d().max()))
    rule = _sampled(NS(margin=share * least, normalize="mean"), negatives=Y)
    scores = -(_minimise(lambda root: rule(-root.square()), start=torch.ones(X, Y)).square())
    distance = _variation(scores, _p_d())
    assert distance < 1e-3 if share >= 1 else distance > 0.1


# --- an order and no distribution


def test_margin_ranking_orders_labels_by_frequency_and_no_more() -> None:
    scores = _descend(_sampled(MarginRanking()), steps=1500)
    for x in range(X):
        for y, z in itertools.permutations(range(Y), 2):
            if _p_d()[x, y] > _p_d()[x, z]:
                assert scores[x, y] > scores[x, z] - 0.05
    assert _variation(scores, _p_d()) > 0.1
