"""N3 and DURA against sums over rows that are written here anew, in the conventions of their authors' code."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from kge.config import RegularizerConfig
from kge.models import MODELS
from kge.models.base import AbstractModel
from kge.models.multilinear import AbstractMultilinear, AbstractTrilinear
from kge.regularizers import REGULARIZERS, build_regularizer
from tests.kge import graphs

pytestmark = pytest.mark.usefixtures("float64")

TRIPLES = torch.tensor([[0, 0, 1], [2, 1, 2], [0, 0, 4]])
Vector = list[float]
Row = tuple[Vector, Vector, Vector]


def _model(name: str, *, reciprocal: bool) -> AbstractModel:
    return graphs.build(name, entities=5, relations=2, dim=4, reciprocal=reciprocal)


def _rows(model: AbstractModel) -> Iterator[Row]:
    """What the authors' code would iterate: each triple, and its inverse or itself again."""
    entities, relations = model.entities.tolist(), model.embed_relation(torch.arange(len(model.relations))).tolist()
    for h, r, t in TRIPLES.tolist():
        yield entities[h], relations[r], entities[t]
        if model.reciprocal:
            yield entities[t], relations[r + 2], entities[h]
        else:
            yield entities[h], relations[r], entities[t]


def _moduli(vector: Vector) -> Vector:
    half = len(vector) // 2
    return [abs(complex(re, im)) for re, im in zip(vector[:half], vector[half:], strict=True)]


def _whole(vector: Vector) -> Vector:
    return vector


# Model -> the numbers of head, relation and tail that the factors are.
FACTORS: dict[str, tuple[Callable[[Vector], Vector], ...]] = {
    "distmult": (_whole, _whole, _whole),
    "simple": (_whole, _whole, _whole),
    "complex": (_moduli, _moduli, _moduli),
    "cp": (lambda head: head[:2], _whole, lambda tail: tail[2:]),
}


def _penalty(model: AbstractModel, **options: object) -> Tensor:
    regularizer = build_regularizer(RegularizerConfig(**options))  # type: ignore[arg-type]
    assert regularizer is not None
    return regularizer.penalty(model, TRIPLES, float(len(TRIPLES)))


def test_every_model_that_is_a_sum_of_products_of_three_has_its_factors_here() -> None:
    assert FACTORS.keys() == {name for name, class_ in MODELS.items() if issubclass(class_, AbstractTrilinear)}
    assert REGULARIZERS.keys() == {"lp", "n3", "dura"}


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", FACTORS)
def test_n3_sums_the_cubes_of_the_factors_of_all_rows(name: str, reciprocal: bool) -> None:
    model = _model(name, reciprocal=reciprocal)
    total = sum(
        abs(number) ** 3
        for row in _rows(model)
        for view, vector in zip(FACTORS[name], row, strict=True)
        for number in view(vector)
    )
    assert _penalty(model, name="n3", weight=0.3).item() == pytest.approx(0.3 * total / 3, rel=1e-12)


@pytest.mark.parametrize("relations", [2, 9])  # fewer than rows, more than rows
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", FACTORS)
def test_the_gradient_of_n3_is_that_of_its_formula(name: str, reciprocal: bool, relations: int) -> None:
    mine, twin = (graphs.build(name, entities=5, relations=relations, dim=4, reciprocal=reciprocal) for _ in range(2))
    _penalty(mine, name="n3", weight=0.3).backward()
    vectors, total = twin.embed_relation(torch.arange(len(twin.relations))), torch.zeros(())
    for h, r, t in TRIPLES.tolist():
        for head, relation, tail in ((h, r, t), (t, r + relations, h) if twin.reciprocal else (h, r, t)):
            factors = twin.entities[head], vectors[relation], twin.entities[tail]
            for view, vector in zip(FACTORS[name], factors, strict=True):
                numbers = torch.complex(*vector.chunk(2)) if view is _moduli else view(vector)
                total = total + numbers.abs().pow(3).sum()
    (0.3 * total / 3).backward()
    for parameter, other in zip(mine.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize(("share", "entities", "queries"), [(0.5, 1.0, 1.0), (0.25, 0.5, 1.5)])
def test_dura_is_that_of_the_paper(name: str, reciprocal: bool, share: float, entities: float, queries: float) -> None:
    model = _model(name, reciprocal=reciprocal)
    half = 0.5 if name == "simple" else 1.0  # its queries carry the 1/2 of the score
    total = 0.0
    for row in _rows(model):
        h, r, t = (view(vector) for view, vector in zip(FACTORS[name], row, strict=True))
        if name == "simple":
            t = [*t[2:], *t[:2]]
        total += entities * sum(x**2 for x in (*h, *t))
        total += queries * sum((half * a * b) ** 2 for a, b in (*zip(h, r, strict=True), *zip(t, r, strict=True)))
    penalty = _penalty(model, name="dura", weight=0.3, entity_share=share)
    assert penalty.item() == pytest.approx(0.3 * total / 3, rel=1e-12)


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", ["rescal", "tucker"])
def test_dura_of_matrices_multiplies_both_entities(name: str, reciprocal: bool) -> None:
    model = _model(name, reciprocal=reciprocal)
    total = torch.zeros(())
    for h, r, t in _rows(model):
        head, matrix, tail = torch.tensor(h), torch.tensor(r).view(4, 4), torch.tensor(t)
        total += head @ head + tail @ tail + (matrix.T @ head).square().sum() + (matrix @ tail).square().sum()
    torch.testing.assert_close(_penalty(model, name="dura", weight=0.3).detach(), 0.3 * total / 3)


@pytest.mark.parametrize("name", ["n3", "dura"])
def test_the_gradient_at_zero_is_zero(name: str) -> None:
    for model_name, class_ in MODELS.items():
        if issubclass(class_, REGULARIZERS[name].applies_to):
            model = _model(model_name, reciprocal=True)
            with torch.no_grad():
                model.entities.zero_()
                model.relations.zero_()
            _penalty(model, name=name, weight=1.0).backward()
            assert (model.entities.grad == 0).all()


def test_a_weight_of_zero_is_no_regularizer() -> None:
    for name in ("n3", "dura", "lp", "none"):
        assert build_regularizer(RegularizerConfig(name=name)) is None  # type: ignore[arg-type]


def test_which_models_each_applies_to() -> None:
    applies = {
        name: {model for model, class_ in MODELS.items() if issubclass(class_, each.applies_to)}
        for name, each in REGULARIZERS.items()
    }
    assert applies["lp"] == MODELS.keys()
    assert applies["n3"] == {"distmult", "complex", "cp", "simple"}
    assert applies["dura"] == {*applies["n3"], "rescal", "tucker"}
    assert {name for name, class_ in MODELS.items() if issubclass(class_, AbstractMultilinear)} == applies["dura"]
