"""Relation prediction: the cross-entropy of all relations, in one direction or, with reciprocal relations, in both."""

import math

import pytest
import torch
from torch import Tensor

from kge import precision
from kge.auxiliary import RelationPrediction
from kge.models import MODELS
from kge.models.base import AbstractModel
from kge.training import Training
from tests.kge import graphs

pytestmark = pytest.mark.usefixtures("float64")

TRIPLES = torch.tensor([[0, 1, 2], [2, 0, 2], [4, 2, 1]])
R = 3
ABLE = [name for name, class_ in MODELS.items() if issubclass(class_, RelationPrediction.applies_to)]


def _score(model: AbstractModel, h: int, r: int, t: int) -> float:
    """Of any relation of the table: the inverse r + R of (h, ?, t) is r as the head query of t."""
    ids = [torch.tensor([each]) for each in (h, r % R, t)]
    return (model.score_hrt(*ids) if r < R else model.score_heads(ids[1], ids[0])[:, t]).item()


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", ABLE)
def test_it_is_the_cross_entropy_of_the_relation(name: str, reciprocal: bool) -> None:
    model = graphs.build(name, entities=5, relations=R, dim=4, reciprocal=reciprocal)
    count = 2 * R if reciprocal else R
    total = 0.0
    for h, r, t in TRIPLES.tolist():
        for head, relation, tail in ((h, r, t), (t, r + R, h))[: 2 if reciprocal else 1]:
            scores = [_score(model, head, each, tail) for each in range(count)]
            total += math.log(sum(map(math.exp, scores))) - scores[relation]
    assert RelationPrediction(weight=0.7).loss(model, TRIPLES, float(len(TRIPLES))).item() == pytest.approx(
        0.7 * total / 3
    )


@pytest.mark.parametrize("name", ABLE)
def test_in_bfloat16_it_and_its_gradients_are_the_same_to_the_precision(name: str) -> None:
    found = []
    for bfloat16 in (False, True):
        model = graphs.build(name, entities=5, relations=R, dim=4, reciprocal=True)
        value = RelationPrediction(weight=0.7, bfloat16=bfloat16).loss(model, TRIPLES, float(len(TRIPLES)))
        value.backward()
        found.append([value.detach(), *(each.grad for each in model.parameters() if each.grad is not None)])
    for exact, near in zip(*found, strict=True):
        assert near.dtype == exact.dtype
        assert 0 < (near - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float64), ("bfloat16", torch.bfloat16)])
def test_it_has_the_precision_of_the_training(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    training = Training(graphs.config({"auxiliary.relation_weight": 1.0, "training.precision": name}), graphs.ring())
    compare, seen = training.model.compare, []

    def watched(query: Tensor, candidates: Tensor) -> Tensor:
        seen.append((query.dtype, candidates.dtype))
        return compare(query, candidates)

    monkeypatch.setattr(training.model, "compare", watched)
    next(training.steps())
    assert seen == [(dtype, dtype)]


def test_all_bilinear_models_of_the_head_can() -> None:
    assert set(ABLE) == {"rescal", "tucker", "distmult", "complex", "cp", "simple"}


# On the ring every fact holds under an inverse name too: of 2 R relations two are right, in both directions.
@pytest.mark.parametrize(("reciprocal", "least"), [(False, 0.0), (True, 2 * math.log(2))])
def test_training_with_it_learns_which_relation_holds(reciprocal: bool, least: float) -> None:
    graph = graphs.ring()
    paths = {"training.max_epochs": 30, "model.reciprocal": reciprocal}

    def trained(weight: float) -> float:
        training = Training(graphs.config(paths | {"auxiliary.relation_weight": weight}), graph)
        for _ in training.epochs():
            pass
        return RelationPrediction(weight=1.0).loss(training.model.eval(), graph.train, float(len(graph.train))).item()

    assert trained(2.0) < min(least + 0.1, trained(0.0))
