"""What every registered model promises, against a formula per triple that is written here anew."""

import cmath
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call

from kge.config import DropoutConfig
from kge.data import Side
from kge.errors import ConfigError
from kge.models import MODELS, AbstractModel
from kge.models.base import AbstractBilinear, ModelSpec
from kge.models.multilinear import AbstractMultilinear
from tests.kge import graphs

E, R, D, B = 7, 2, 4, 5
Vector = list[float]


def _complex(vector: Vector) -> list[complex]:
    half = len(vector) // 2
    return [complex(re, im) for re, im in zip(vector[:half], vector[half:], strict=True)]


def _rescal(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    return sum(h[i] * r[i * D + j] * t[j] for i in range(D) for j in range(D))


def _tucker(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    core = model.core.tolist()
    return sum(core[k][i * D + j] * r[k] * h[i] * t[j] for k in range(len(r)) for i in range(D) for j in range(D))


def _distmult(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    return sum(a * b * c for a, b, c in zip(h, r, t, strict=True))


def _complex_score(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    factors = zip(_complex(h), _complex(r), _complex(t), strict=True)
    return sum((a * b * c.conjugate()).real for a, b, c in factors)


def _transe(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    differences = [abs(a + b - c) for a, b, c in zip(h, r, t, strict=True)]
    return -sum(differences) if model.norm == 1 else -math.sqrt(sum(each**2 for each in differences))


def _rotate(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    factors = zip(_complex(h), r, _complex(t), strict=True)
    return -sum(abs(a * cmath.exp(1j * phase) - c) for a, phase, c in factors)


def _cp(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    half = len(h) // 2
    return sum(a * b * c for a, b, c in zip(h[:half], r, t[half:], strict=True))


def _simple(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    half = len(h) // 2
    forwards = sum(a * b * c for a, b, c in zip(h[:half], r[:half], t[half:], strict=True))
    backwards = sum(a * b * c for a, b, c in zip(t[:half], r[half:], h[half:], strict=True))
    return (forwards + backwards) / 2


def _conve(model: Any, h: Vector, r: Vector, t: Vector) -> float:
    """As it is in ranking: no dropout, and new running statistics, which divide by sqrt(1 + 1e-5)."""
    rows, columns = model.image
    pixels = [*h[:-1], 0.0, *r]
    norm = 1 / math.sqrt(1 + 1e-5) if model.norms else 1.0
    image = {(i, j): norm * pixels[i * columns + j] for i in range(rows) for j in range(columns)}
    kernel, pad = model.filters.shape[2], model.padding
    hidden = []
    for filter_, bias in zip(model.filters[:, 0].tolist(), model.filter_bias.tolist(), strict=True):
        for i in range(-pad, rows + pad - kernel + 1):
            for j in range(-pad, columns + pad - kernel + 1):
                window = [(a, b) for a in range(kernel) for b in range(kernel)]
                total = sum(filter_[a][b] * image.get((i + a, j + b), 0.0) for a, b in window)
                hidden.append(max(0.0, norm * (total + bias)))
    query = [
        max(0.0, norm * (sum(w * x for w, x in zip(weights, hidden, strict=True)) + bias))
        for weights, bias in zip(model.weight.tolist(), model.bias.tolist(), strict=True)
    ]
    return sum(a * b for a, b in zip(query, t[:-1], strict=True)) + t[-1]


FORMULAS: dict[str, Callable[[Any, Vector, Vector, Vector], float]] = {
    "rescal": _rescal,
    "tucker": _tucker,
    "distmult": _distmult,
    "complex": _complex_score,
    "cp": _cp,
    "simple": _simple,
    "conve": _conve,
    "transe": _transe,
    "rotate": _rotate,
}
OPTIONS: dict[str, list[dict[str, object]]] = {
    "transe": [{"norm": 1}, {"norm": 2}],
    "tucker": [{}, {"relation_dim": 3}],
    # Batch normalisation makes a row depend on its batch: tests/kge/test_conve.py. Dropout is tested below.
    "conve": [
        {"batch_norm": False, "feature_dropout": 0.0, "hidden_dropout": 0.0, "filters": 3},
        {"batch_norm": False, "feature_dropout": 0.0, "hidden_dropout": 0.0, "height": 1, "kernel": 2, "padding": 0},
    ],
}
VARIANTS = [
    pytest.param(name, options, reciprocal, id=f"{name}{options or ''}{'-reciprocal' if reciprocal else ''}")
    for name in MODELS
    for options in OPTIONS.get(name, [{}])
    for reciprocal in ((True,) if MODELS[name].reciprocal_only else (False, True))
]


def _ids() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    h, t = torch.randint(E, (2, B), generator=generator)
    return h, torch.randint(R, (B,), generator=generator), t


def _build(name: str, options: dict[str, Any], *, reciprocal: bool) -> AbstractModel:
    return graphs.build(name, entities=E, relations=R, dim=D, reciprocal=reciprocal, **options)


def test_every_model_has_a_formula() -> None:
    assert FORMULAS.keys() == MODELS.keys()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "options", "reciprocal"), VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_scores_follow_the_formula(name: str, options: dict[str, object], reciprocal: bool, training: bool) -> None:
    model = _build(name, options, reciprocal=reciprocal).train(training)
    entities, relations = model.entities.tolist(), model.relations.tolist()
    tolerance = 1e-6 if training else 1e-12  # training may take an L2 distance through a product, which cancels

    def naive(head: int, relation: int, tail: int) -> float:
        return FORMULAS[name](model, entities[head], relations[relation], entities[tail])

    h, r, t = _ids()
    tails, heads, triples = model.score_tails(h, r), model.score_heads(r, t), model.score_hrt(h, r, t)
    for row, (head, relation, tail) in enumerate(zip(h.tolist(), r.tolist(), t.tolist(), strict=True)):
        assert triples[row].item() == pytest.approx(naive(head, relation, tail), abs=tolerance)
        for entity in range(E):
            assert tails[row, entity].item() == pytest.approx(naive(head, relation, entity), abs=tolerance)
            expected = naive(tail, relation + R, entity) if reciprocal else naive(entity, relation, tail)
            assert heads[row, entity].item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "options", "reciprocal"), VARIANTS)
def test_named_candidates_are_columns_of_all_scores(name: str, options: dict[str, object], reciprocal: bool) -> None:
    model = _build(name, options, reciprocal=reciprocal).eval()
    h, r, t = _ids()
    shared = torch.tensor([4, 0, 4])
    own = torch.arange(B * 3).view(B, 3) % E
    for side, anchors in ((Side.TAIL, h), (Side.HEAD, t)):
        scores = model.score(side, anchors, r)
        assert scores.shape == (B, E)
        torch.testing.assert_close(model.score(side, anchors, r, shared), scores[:, shared])
        torch.testing.assert_close(model.score(side, anchors, r, own), scores.gather(1, own))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "options", "reciprocal"), VARIANTS)
def test_reciprocal_heads_are_tails_of_the_inverse(name: str, options: dict[str, object], reciprocal: bool) -> None:
    model = _build(name, options, reciprocal=reciprocal).eval()
    h, r, t = _ids()
    if reciprocal:
        assert len(model.relations) == 2 * R
        torch.testing.assert_close(model.score_heads(r, t), model.score_tails(t, r + R), rtol=0, atol=0)
    else:
        assert len(model.relations) == R
        mine = model.score_heads(r, t).gather(1, h[:, None]).squeeze(1)
        torch.testing.assert_close(mine, model.score_hrt(h, r, t))


class _Scores(nn.Module):
    """All that a model scores, as one function of its parameters."""

    def __init__(self, model: AbstractModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
        own = torch.stack([h, t], dim=1)
        parts = [self.model.score_tails(h, r), self.model.score_heads(r, t), self.model.score_tails(h, r, own)]
        return torch.cat(parts, dim=1)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "options", "reciprocal"), VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_finite_differences(
    name: str, options: dict[str, object], reciprocal: bool, training: bool
) -> None:
    scores = _Scores(_build(name, options, reciprocal=reciprocal).train(training))
    parameters = dict(scores.named_parameters())
    h, r, t = (ids[:2] for ids in _ids())

    def function(*values: Tensor) -> Tensor:
        result: Tensor = functional_call(scores, dict(zip(parameters, values, strict=True)), (h, r, t))
        return result

    assert gradcheck(function, tuple(value.detach().requires_grad_() for value in parameters.values()))


@pytest.mark.parametrize("name", MODELS)
def test_a_zero_difference_has_a_finite_gradient(name: str) -> None:
    for options in OPTIONS.get(name, [{}]):
        model = _build(name, options, reciprocal=False)
        with torch.no_grad():
            model.entities.zero_()
            model.relations.zero_()
        zero = torch.zeros(1, dtype=torch.int64)
        for candidates in (None, zero[:, None]):
            model.zero_grad()
            model.score_tails(zero, zero, candidates).sum().backward()
            assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", [name for name in MODELS if issubclass(MODELS[name], AbstractMultilinear)])
def test_relations_are_scored_as_their_triples(name: str, reciprocal: bool) -> None:
    model = _build(name, {}, reciprocal=reciprocal).eval()
    assert isinstance(model, AbstractMultilinear)
    h, _, t = _ids()
    scores = model.score_relations(model.entities[h], model.entities[t])
    assert scores.shape == (B, 2 * R if reciprocal else R)
    for r in range(R):
        relation = torch.full((B,), r)
        torch.testing.assert_close(scores[:, r], model.score_hrt(h, relation, t))
        if reciprocal:
            inverse = model.score_heads(relation, h).gather(1, t[:, None]).squeeze(1)
            torch.testing.assert_close(scores[:, r + R], inverse)


@pytest.mark.parametrize("name", MODELS)
def test_dim_counts_real_numbers_per_entity(name: str) -> None:
    model = graphs.build(name, entities=E, relations=R, dim=6)
    assert model.entities.shape == (E, 6)
    assert model.queries(Side.TAIL, torch.tensor([0, 1]), torch.tensor([0, 1])).shape == (2, 6)


@pytest.mark.parametrize("name", ["complex", "rotate", "cp", "simple"])
def test_models_of_two_halves_refuse_an_odd_dim(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.dim: must be even for {name} .*, got 5$"):
        graphs.build(name, entities=E, relations=R, dim=5)


@pytest.mark.parametrize("name", MODELS)
def test_initial_tables_follow_the_seed_and_the_initialiser(name: str) -> None:
    one, same, other = (graphs.build(name, entities=E, relations=R, dim=D, seed=seed) for seed in (0, 0, 1))
    pairs = zip(one.parameters(), same.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) and (not torch.equal(a, c) or len(a.unique()) == 1) for a, b, c in pairs)
    assert not torch.equal(one.entities, other.entities)
    assert not torch.equal(one.relations, other.relations)

    init = graphs.config({"model.init.name": "uniform", "model.init.low": 2.0, "model.init.high": 3.0}).model.init
    reciprocal = MODELS[name].reciprocal_only
    uniform = MODELS[name](ModelSpec(num_entities=E, num_relations=R, dim=D, init=init, reciprocal=reciprocal))
    assert uniform.entities.min() >= 2
    assert uniform.entities.max() <= 3


@pytest.mark.parametrize("name", MODELS)
def test_dropout_acts_in_training_only_and_follows_its_generator(name: str) -> None:
    dropout = DropoutConfig(entity=0.4, relation=0.3, query=0.2)
    size = {"num_entities": E, "num_relations": R, "dim": D, "reciprocal": MODELS[name].reciprocal_only}
    model = MODELS[name](ModelSpec(**size, dropout=dropout, generator=torch.Generator().manual_seed(0)))
    plain = MODELS[name](ModelSpec(**size, generator=torch.Generator().manual_seed(0)))
    h, r, _ = _ids()

    def trained(seed: int) -> Tensor:
        model.train().use_generator(torch.Generator().manual_seed(seed))
        return model.score_tails(h, r)

    torch.testing.assert_close(model.eval().score_tails(h, r), plain.eval().score_tails(h, r), rtol=0, atol=0)
    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    assert not torch.equal(trained(1), plain.train().score_tails(h, r))


@pytest.mark.parametrize("name", MODELS)
def test_only_inner_products_take_the_fused_loss(name: str) -> None:
    model = graphs.build(name, entities=E, relations=R, dim=D).eval()
    query = model.queries(Side.TAIL, *(ids for ids in _ids()[:2]))
    inner = torch.allclose(model.compare(query, model.entities), query @ model.entities.T, atol=1e-5)
    assert isinstance(model, AbstractBilinear) == inner
