"""More of the theory on free scores: losses over all entities, subsampling, sparse tables, bounded scores.

The table is that of test_theory.py: five queries, twelve labels. Tolerances are those worked out on such a
table for Kamigaito & Hayashi (ACL 2021, ICML 2022) and the authors' later work.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor

from kge.building import build_training_type
from kge.errors import ConfigError
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
from tests.kge.test_theory import (
    COUNTS,
    X,
    Y,
    _graph,
    _joint,
    _minimise,
    _normalised,
    _p_d,
    _tempered,
    _variation,
)

pytestmark = pytest.mark.usefixtures("float64")

Loss = Callable[[Tensor], Tensor]


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


def _side_by_side(
    rules: Mapping[str, Loss], optimizer: Callable[[list[Tensor]], torch.optim.Optimizer], *, at: Sequence[int]
) -> dict[str, list[Tensor]]:
    """Scores of each loss after so many steps from zero, each loss with scores of its own."""
    scores = {name: torch.zeros(X, Y).requires_grad_() for name in rules}
    stepper = optimizer(list(scores.values()))
    found: dict[str, list[Tensor]] = {name: [] for name in rules}
    for step in range(1, max(at) + 1):
        stepper.zero_grad()
        torch.stack([rule(scores[name]) for name, rule in rules.items()]).sum().backward()
        stepper.step()
        if step in at:
            for name, each in scores.items():
                found[name].append(each.detach().clone())
    return found


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


# --- what self-adversarial negatives smooth to


def _power(found: Tensor) -> float:
    """The exponent a for which p_d^a, normalised, is nearest to a distribution."""
    grid = torch.linspace(0.3, 1.2, 901)
    return float(min(grid, key=lambda a: _divergence(found, _normalised(_p_d() ** a))))


def _mixture(found: Tensor) -> tuple[float, float]:
    """The lambda for which (1 - lambda) p_d + lambda u is nearest to a distribution, and the KL that is left."""
    grid = torch.linspace(0, 1, 1001)
    left = [_divergence(found, (1 - share) * _p_d() + share / Y) for share in grid]
    best = min(range(len(grid)), key=left.__getitem__)
    return float(grid[best]), left[best]


@pytest.mark.parametrize(
    ("temperature", "share", "left"), [(0.5, 0.27, 0.0079), (1.0, 0.46, 0.0107), (2.0, 0.67, 0.0090)]
)
def test_what_sans_reaches_is_near_a_mixture_with_the_uniform(temperature: float, share: float, left: float) -> None:
    """That is, near to what label smoothing reaches; its lambda grows with the temperature."""
    found = _descend(_sampled(SANS(temperature=temperature))).softmax(dim=1)
    nearest, divergence = _mixture(found)
    assert nearest == pytest.approx(share, abs=0.02)
    assert divergence == pytest.approx(left, abs=2e-4)
    assert divergence < _divergence(found, _p_d()) / 7
    assert _variation(found.log(), (1 - nearest) * _p_d() + nearest / Y) > 0.01


Draws = tuple[Tensor, Tensor]  # how often each label is among the negatives (N, Y), and how probable that is (N,)


def _all_draws(negatives: int) -> Draws:
    """All draws of so many uniform negatives."""
    drawn = torch.tensor(list(itertools.combinations_with_replacement(range(Y), negatives)))
    counts = torch.nn.functional.one_hot(drawn, Y).sum(dim=1).to(torch.get_default_dtype())
    orders = math.lgamma(negatives + 1) - torch.lgamma(counts + 1).sum(dim=1)
    return counts, (orders - negatives * math.log(Y)).exp()


def _some_draws(negatives: int, size: int = 500) -> Draws:
    """A sample of them, where all are too many."""
    drawn = torch.randint(Y, (size, negatives), generator=torch.Generator().manual_seed(0))
    counts = torch.nn.functional.one_hot(drawn, Y).sum(dim=1).to(torch.get_default_dtype())
    return counts, torch.full((size,), 1 / size)


def _sans_with(draws: Draws) -> Loss:
    """Expectation of sans over draws of negatives; a label that is drawn twice weighs twice."""
    rule, (counts, probability) = SANS(), draws
    p_x = _joint().sum(dim=1)

    def loss(scores: Tensor) -> Tensor:
        block = scores.repeat_interleave(len(counts), dim=0)
        _, of_negatives = rule.terms(scores.new_zeros(len(block)), block, counts.repeat(X, 1))
        of_positives, _ = rule.terms(scores.reshape(-1), scores.new_zeros(X * Y, 1), None)
        return of_positives @ _joint().reshape(-1) + of_negatives.view(X, -1) @ probability @ p_x

    return loss


def test_the_smoothing_of_sans_grows_with_the_number_of_negatives() -> None:
    """From none with one negative to that of all labels at once."""
    draws = {1: _all_draws(1), 2: _all_draws(2), 5: _some_draws(5), 20: _some_draws(20), 100: _some_draws(100)}
    scores = {count: _descend(_sans_with(each), steps=300) for count, each in draws.items()}
    powers = [_power(each.softmax(dim=1)) for each in scores.values()]
    assert powers == pytest.approx([0.996, 0.768, 0.589, 0.518, 0.504], abs=0.02)
    assert powers == sorted(powers, reverse=True)
    shares = [_mixture(each.softmax(dim=1))[0] for each in scores.values()]
    assert shares == pytest.approx([0.001, 0.17, 0.36, 0.44, 0.46], abs=0.02)
    assert _variation(scores[1], _p_d()) < 1e-4
    assert _variation(scores[100], _tempered(1)) < 0.01


def test_query_weights_of_tans_leave_the_optimum_of_sans() -> None:
    """q_x scales both terms of a query, so free scores go where they would go without it."""
    train = _graph().train
    x, y = train[:, 0], train[:, 2]
    for query_temperature in (-0.5, 1.0):
        rule = TANS(query_temperature=query_temperature)

        def loss(scores: Tensor, rule: TANS = rule) -> Tensor:
            weight = query_weights(scores[x, y], x, rule.query_temperature)
            return torch.dot(weight, rule.rows(scores[x, y], scores[x], None)) / len(train)

        assert _variation(_descend(loss, steps=1000), _tempered(1)) < 1e-3


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


def test_binary_cross_entropy_without_a_minimum_is_refused() -> None:
    rule = LOSSES["bce"](smoothing=0.99 / Y)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=rf"loss\.smoothing: must be 0 or at least 1 / {Y} "):
        rule.check_size(Y)


def test_sans_over_all_lies_between_the_odds_and_their_root() -> None:
    scores = _descend(_over_all(AgainstAll(SANS())))
    raised = scores.exp()
    rest = raised.sum(dim=1, keepdim=True) - raised  # of each label z: S - e^f_z
    others = (_p_d() / rest).sum(dim=1, keepdim=True) - _p_d() / rest
    torch.testing.assert_close(raised**2 * others, _p_d(), rtol=0, atol=1e-6)
    odds = _normalised(_p_d() / (1 - _p_d()))
    assert _variation(scores, _normalised(odds.sqrt())) == pytest.approx(0.052, abs=1e-3)
    assert _variation(scores, _tempered(1)) == pytest.approx(0.166, abs=1e-3)
    assert _variation(scores, odds) > 0.1


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
    found = _side_by_side(rules, lambda scores: torch.optim.Adam(scores, lr=0.05), at=(50, 200, 1000, 4000))
    mass = {name: [_unseen(each, joint) for each in scores] for name, scores in found.items()}
    for name in ("sce", "ns", "sans"):
        assert all(later < earlier / 2 for earlier, later in itertools.pairwise(mass[name]))
    assert all(sce < min(ns, sans) for sce, ns, sans in zip(mass["sce"], mass["ns"], mass["sans"], strict=True))
    assert mass["sans"][0] < mass["ns"][0]  # with a dozen negatives ns starts slowly, and then overtakes
    assert mass["ns"][2] < mass["sans"][2]
    share = float((joint == 0).double().mean())
    assert mass["sce_ls"][1:] == pytest.approx([smoothing * Y / (Y - 1) * share] * 3, abs=1e-3)
    assert mass["sce"][-1] < 1e-4
    assert mass["ns"][-1] < 1e-3
    assert mass["sans"][-1] < 1e-2


def test_filtered_negatives_leave_the_seen_answers_alike() -> None:
    """Unseen labels are pushed down and nothing else is, so the counts of the seen ones are lost."""
    joint, rule = _sparse(), NS()
    unseen = (joint == 0).double().repeat_interleave(Y, dim=0)

    def filtered(scores: Tensor) -> Tensor:
        return rule.rows(scores.reshape(-1), scores.repeat_interleave(Y, dim=0), unseen) @ joint.reshape(-1)

    rules = {"filtered": filtered, "unfiltered": _sampled(NS(), joint)}
    found = _side_by_side(rules, lambda scores: torch.optim.Adam(scores, lr=0.1), at=(100, 300, 900))
    heights = [float(scores[joint > 0].min()) for scores in found["filtered"]]
    assert 3 < heights[0] < heights[1] - 1 < heights[2] - 2
    assert all(_variation(scores, _normalised(joint)) > 0.2 for scores in found["filtered"])
    assert _variation(found["filtered"][-1], _normalised((joint > 0).double())) < 0.02
    assert _variation(found["unfiltered"][-1], _normalised(joint)) < 0.02


# --- a table as graphs are: each triple once, so that p_d is flat on the seen answers, and its root too


def _flat() -> Tensor:
    seen = (_sparse() > 0).double()
    return seen / seen.sum()


def _within_support(scores: Tensor, target: Tensor) -> float:
    """The total variation of softmax(scores) to the target among the labels that the target has."""
    return _variation(scores.masked_fill(target == 0, -math.inf), target)


def test_there_ns_sans_and_sce_share_their_limit() -> None:
    joint = _flat()
    start = torch.randn(X, Y, generator=torch.Generator().manual_seed(0))
    for rule in (_over_all(SCE(), joint), _sampled(NS(), joint)):
        assert _within_support(_minimise(rule, start=start), _normalised(joint)) < 1e-6
    sans = _descend(_sampled(SANS(), joint), start=start, steps=2000)
    assert _within_support(sans, _normalised(joint)) < 1e-5


@pytest.mark.parametrize("steps", [1000, pytest.param(5000, marks=pytest.mark.slow)])
def test_there_the_smoothing_of_sans_is_mass_that_leaves_unseen_labels_slowly(steps: int) -> None:
    joint = _flat()
    rules = {"sce": _over_all(SCE(), joint), "ns": _sampled(NS(), joint), "sans": _sampled(SANS(), joint)}
    found = {name: _descend(rule, steps=steps) for name, rule in rules.items()}
    for scores in found.values():  # from zero, nothing tells the seen ones apart
        assert _within_support(scores, _normalised(joint)) < 1e-12
    mass = {name: _unseen(scores, joint) for name, scores in found.items()}
    assert mass["sce"] < mass["ns"] / 5 < mass["sans"] / 10
    if steps == 5000:
        assert mass["sce"] < 1e-4
        assert mass["ns"] < 1e-3
        assert mass["sans"] < 1e-2


def test_there_backward_correction_goes_to_the_inverse_frequency_of_the_answers() -> None:
    seen = (_flat() > 0).double()
    queries, answers = seen.sum(dim=1), seen.sum(dim=0).clamp_min(1)  # a label that nobody has is in no row
    x, y = seen.nonzero(as_tuple=True)
    rule = LOSSES["sce_bc"]()
    assert isinstance(rule, AbstractBlockLoss)
    weight = rule.row_weights(queries=queries[x].long(), answers=answers[y].long(), degrees=answers[y].long())
    assert weight is not None
    scores = _minimise(lambda scores: rule.rows(scores[x], y) @ weight / len(weight))
    target = _normalised(seen / answers)
    assert _within_support(scores, target) < 1e-6
    assert _variation(scores, target) < 1e-6
    assert _variation(target.log(), _normalised(seen)) > 0.1


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
        of_positives, of_negatives = rule.terms(scores[x, y], scores[x], None)
        return (torch.dot(emphasis[0], of_positives) + torch.dot(emphasis[1], of_negatives)) / len(train)

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
        of_positives, of_negatives = rule.terms(scores[x, y], scores[x], None)
        return (torch.dot(emphasis[0], of_positives) + torch.dot(emphasis[1], of_negatives)) / len(train)

    found, target = _descend(loss, steps=1500), _normalised((_p_d() * counts**-power).sqrt())
    assert _variation(found, target) < 1e-3
    assert rule.objective == ("subsampled, smoothed" if power else "smoothed")
    if power:
        assert _variation(_p_d().sqrt().log(), target) > 0.02


# --- scores that cannot rise above zero


LEAST = math.log(Y * max(max(row) / sum(row) for row in COUNTS))  # log(Y max p_d)


@pytest.mark.parametrize("margin", [0.0, LEAST / 2, LEAST, math.log(Y), math.log(Y) + 2])
def test_scores_below_zero_fit_where_the_margin_is_large_enough(margin: float) -> None:
    """The optimal score is log(p_d Y) - margin: reachable by -distances from margin log(Y max p_d) on."""
    rule = _sampled(NS(margin=margin, normalize="mean"), negatives=Y)
    scores = -(_minimise(lambda root: rule(-root.square()), start=torch.ones(X, Y)).square())
    distance = _variation(scores, _p_d())
    assert distance < 1e-3 if margin >= LEAST else distance > 0.1


# --- an order and no distribution


def test_margin_ranking_orders_labels_by_frequency_and_no_more() -> None:
    scores = _descend(_sampled(MarginRanking()), steps=1500)
    for x in range(X):
        for y, z in itertools.permutations(range(Y), 2):
            if _p_d()[x, y] > _p_d()[x, z]:
                assert scores[x, y] > scores[x, z] - 0.05
    assert _variation(scores, _p_d()) > 0.1
