"""How strongly and how fast each loss fits the distribution of train, on the free scores of test_theory.py.

Bregman's view: the excess of a loss over its minimum is a divergence of exp(score) from its optimum, and the one
of softmax cross-entropy is the larger for every mismatch. That is a claim about penalties. The order of speeds is
that of plain gradient descent; with Adam the losses are about level.
"""

import itertools
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from kge.losses.ns import NS
from kge.losses.sans import SANS
from kge.losses.sce import SCE
from kge.losses.sce_ls import SCELabelSmoothing
from tests.kge.test_theory import X, Y, _joint, _p_d, _smoothed, _tempered
from tests.kge.test_theory_extended import Loss, _divergence, _over_all, _sampled, _side_by_side

pytestmark = pytest.mark.usefixtures("float64")


def _bregman(psi: Callable[[Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
    point = q.clone().requires_grad_()
    (slope,) = torch.autograd.grad(psi(point).sum(), point)
    return psi(p) - psi(q) - slope * (p - q)


def _entropy(z: Tensor) -> Tensor:
    return z * z.log()


def _logistic(z: Tensor) -> Tensor:
    return z * z.log() - _convex(z)


def _convex(z: Tensor) -> Tensor:
    return (1 + z) * torch.log1p(z)


def test_the_excess_of_ns_is_the_bregman_divergence_that_theory_gives() -> None:
    """Of a label with a positives and b negatives: b D(a / b, e^s), zero at s = log(a / b)."""
    rule, scores = NS(), torch.linspace(-6, 6, 49)
    for a, b in ((0.3, 2.0), (1.0, 1.0), (5.0, 0.1)):

        def risk(s: Tensor, a: float = a, b: float = b) -> Tensor:
            of_positives, of_negatives = rule.terms(s, s[:, None], None)
            return a * of_positives + b * of_negatives

        best = torch.full_like(scores, math.log(a / b))
        excess = risk(scores) - risk(best)
        torch.testing.assert_close(excess, b * _bregman(_logistic, torch.full_like(scores, a / b), scores.exp()))


def test_the_excess_of_sce_is_the_bregman_divergence_that_theory_gives() -> None:
    scores = torch.randn(X, Y, generator=torch.Generator().manual_seed(0))
    risk = _over_all(SCE())
    divergence = _bregman(_entropy, _p_d(), scores.softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(risk(scores) - risk(_p_d().log()), divergence @ _joint().sum(dim=1))


def test_sce_penalises_every_mismatch_at_least_as_much_as_ns() -> None:
    """What is between them is the divergence of (1 + z) log (1 + z): never negative, and zero for a match alone.

    That of ns is the excess of the loss itself, with p positives and one negative at the score log q.
    """
    values = torch.logspace(-6, 6, 601)
    p, q = (each.reshape(-1) for each in torch.meshgrid(values, values, indexing="ij"))
    of_positives, of_negatives = NS().terms(values.log(), values.log()[:, None], None)
    risk = values[:, None] * of_positives + of_negatives
    excess = (risk - risk.diagonal()[:, None]).reshape(-1)
    gap = _bregman(_entropy, p, q) - excess
    error = (gap - _bregman(_convex, p, q)).abs() / (1 + p + q)  # the terms of all three are of this size
    assert error.max() < 1e-13
    assert gap.min() == 0
    assert gap[p != q].min() > 0
    assert excess.min() == 0


def _losses(joint: Tensor) -> Mapping[str, Loss]:
    return {
        "sce": _over_all(SCE(), joint),
        "ns": _sampled(NS(), joint, negatives=1),
        "ns_12": _sampled(NS(), joint, negatives=12),
        "sce_ls": _over_all(SCELabelSmoothing(smoothing=0.3), joint),
        "sans": _sampled(SANS(), joint),
    }


def test_with_equal_steps_sce_fits_faster_than_ns() -> None:
    """Plain gradient descent at rate 1, each query alike; the smoothed ones stay where their optimum is."""
    weights = _p_d()  # each query's sum to 1
    found = _side_by_side(_losses(weights), lambda scores: torch.optim.SGD(scores, lr=1.0), at=(10, 50, 200, 1000))
    curves = {name: [_divergence(_p_d(), each.softmax(dim=1)) for each in scores] for name, scores in found.items()}
    for name in ("ns", "ns_12"):
        assert all(sce < ns for sce, ns in zip(curves["sce"], curves[name], strict=True))
        assert curves[name][-1] < 1e-5
    assert curves["sce"][-1] < 1e-5
    for name, optimum in {"sce_ls": _smoothed(0.3), "sans": _tempered(1)}.items():
        plateau = _divergence(_p_d(), optimum)
        assert plateau > 0.05
        assert curves[name][-1] == pytest.approx(plateau, abs=1e-3)
        assert all(later < earlier for earlier, later in itertools.pairwise(curves[name][:-1]))
        assert min(curves[name]) > plateau - 1e-6


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
    """Which of ns with many negatives and label smoothing fits more is the table's doing."""
    found = {name: _rank_two(rule, steps=steps) for name, rule in _losses(_joint()).items()}
    assert found["sce"] < found["ns"]
    assert found["ns"] < min(found["ns_12"], found["sce_ls"])
    assert max(found["ns_12"], found["sce_ls"]) < found["sans"]
