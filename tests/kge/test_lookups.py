"""Lookups whose gradients are added to the table's own: the same as by autograd, whatever was there before."""

import pytest
import torch
from torch import Tensor, nn

from kge.models.lookups import backward, lookup

IDS = torch.tensor([[4, 0], [4, 2], [4, 4]])  # one of them four times


def _table(*, is_leaf: bool, grad: bool) -> tuple[Tensor, Tensor]:
    """A parameter, with a gradient or without, and the table that is looked up: the parameter or made from it."""
    drawn = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(6, 3, generator=drawn))
    if grad:
        parameter.grad = torch.randn(6, 3, generator=drawn)
    return parameter, parameter if is_leaf else 2 * parameter


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("is_leaf", [False, True])
def test_rows_and_their_gradients_are_those_of_indexing(is_leaf: bool, grad: bool) -> None:
    weight = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for look in (lookup, lambda table, ids: table[ids]):
        parameter, table = _table(is_leaf=is_leaf, grad=grad)
        rows = [look(table, IDS), look(table, IDS[0])]  # two lookups of one table
        ((rows[0] * weight).sum() + rows[1].square().sum()).backward()
        found.append((*rows, parameter.grad))
    for mine, twin in zip(*found, strict=True):
        torch.testing.assert_close(mine, twin)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("is_leaf", [False, True])
def test_a_gradient_reaches_the_parameter_as_by_backward(is_leaf: bool, grad: bool) -> None:
    gradient = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    (mine, table), (twin, other) = (_table(is_leaf=is_leaf, grad=grad) for _ in range(2))
    backward(table, gradient.clone())
    other.backward(gradient)
    assert mine.grad is not None
    assert twin.grad is not None
    assert torch.equal(mine.grad, twin.grad)


def test_nothing_flows_where_gradients_are_off() -> None:
    parameter, table = _table(is_leaf=True, grad=False)
    with torch.no_grad():
        rows = lookup(table, IDS)
    assert not rows.requires_grad
    assert parameter.grad is None


def test_a_parameter_keeps_its_gradient_where_it_is() -> None:
    parameter, table = _table(is_leaf=True, grad=True)
    before = parameter.grad
    lookup(table, IDS).sum().backward()
    assert parameter.grad is before
    other, table = _table(is_leaf=True, grad=False)
    gradient = torch.ones(6, 3)
    backward(table, gradient)
    assert other.grad is gradient


def test_what_is_saved_elsewhere_finds_the_parameter() -> None:
    parameter, table = _table(is_leaf=True, grad=False)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda saved: saved):
        rows = lookup(table, IDS)
    rows.sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.sum() == rows.numel()


def test_what_is_no_parameter_has_its_gradient_from_autograd() -> None:
    table = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: lookup(values, IDS), (table,))
