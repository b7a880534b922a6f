"""Queries of matrices with these where they lie, against gathering a matrix for each row."""

import pytest
import torch

from kge.config import DropoutConfig
from kge.data import Side
from kge.models import MODELS
from kge.models.base import ModelSpec
from kge.models.matrices import AbstractMatrixModel

B, E, R = 53, 11, 7  # rows are no multiple of those taken at a time


@pytest.mark.parametrize("name", [name for name, class_ in MODELS.items() if issubclass(class_, AbstractMatrixModel)])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float64"])  # compiled loops take the first alone
def test_fused_queries_and_gradients_are_those_of_the_formula(
    name: str,
    side: Side,
    reciprocal: bool,
    rate: float,
    training: bool,
    precision: str,
    request: pytest.FixtureRequest,
) -> None:
    if precision == "float64":
        request.getfixturevalue("float64")
    drawn = torch.Generator().manual_seed(0)
    dropout = DropoutConfig(entity=rate, relation=rate, query=rate)
    model = MODELS[name](
        ModelSpec(num_entities=E, num_relations=R, dim=6, reciprocal=reciprocal, dropout=dropout, generator=drawn)
    ).train(training)
    anchors = torch.randint(E, (B,), generator=drawn)
    r = torch.randint(R - 1, (B,), generator=drawn)  # one relation has no row
    weight = torch.randn(B, 6, generator=drawn)
    found = []
    for fused in (True, False):
        model.fused = fused
        model.use_generator(torch.Generator().manual_seed(1))
        queries = model.queries(side, anchors, r)
        model.zero_grad()
        (queries * weight).sum().backward()
        found.append((queries, *(parameter.grad for parameter in model.parameters())))
    for fast, naive in zip(*found, strict=True):
        torch.testing.assert_close(fast, naive)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_matrices_that_are_held_fixed_get_no_gradient(rate: float) -> None:
    spec = ModelSpec(num_entities=E, num_relations=R, dim=6, dropout=DropoutConfig(relation=rate))
    model = MODELS["rescal"](spec).train()
    model.use_generator(torch.Generator())
    model.relations.requires_grad_(False)
    model.queries(Side.TAIL, torch.arange(3), torch.arange(3) % R).sum().backward()
    assert model.relations.grad is None
    assert model.entities.grad is not None
