"""The Lp penalty against loops over numbers."""

import pytest
import torch

from kge.config import RegularizerConfig
from kge.models.base import AbstractModel
from kge.regularizers import build_regularizer
from kge.training import Training
from tests.kge import graphs

pytestmark = pytest.mark.usefixtures("float64")

TRIPLES = torch.tensor([[0, 1, 2], [2, 1, 2], [4, 0, 1], [0, 1, 2]])
ENTITY, RELATION = 0.3, 0.7


def _model(*, reciprocal: bool) -> AbstractModel:
    return graphs.build("complex", entities=5, relations=2, dim=4, reciprocal=reciprocal)


def _power(vector: list[float], p: int) -> float:
    return sum(abs(number) ** p for number in vector)


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_whole_tables_with_the_entities_twice(p: int, reciprocal: bool) -> None:
    model = _model(reciprocal=reciprocal)
    rule = build_regularizer(RegularizerConfig(name="lp", p=p, entity_weight=ENTITY, relation_weight=RELATION))
    assert rule is not None
    entities = sum(_power(row, p) for row in model.entities.tolist())
    relations = sum(_power(row, p) for row in model.relations.tolist())
    expected = ENTITY / p * 2 * entities + RELATION / p * relations
    assert rule.penalty(model, TRIPLES, float(len(TRIPLES))).item() == pytest.approx(expected)


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_weighted_counts_every_occurrence_in_the_batch(p: int, reciprocal: bool) -> None:
    model = _model(reciprocal=reciprocal)
    rule = build_regularizer(
        RegularizerConfig(name="lp", p=p, weighted=True, entity_weight=ENTITY, relation_weight=RELATION)
    )
    assert rule is not None
    expected = 0.0
    for h, r, t in TRIPLES.tolist():
        used = [r, r + 2] if reciprocal else [r]
        expected += ENTITY / p * (_power(model.entities[h].tolist(), p) + _power(model.entities[t].tolist(), p))
        expected += RELATION / p * sum(_power(model.relations[each].tolist(), p) for each in used)
    assert rule.penalty(model, TRIPLES, float(len(TRIPLES))).item() == pytest.approx(expected / len(TRIPLES))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_gradient_at_zero_is_zero(p: int, weighted: bool) -> None:
    model = _model(reciprocal=False)
    with torch.no_grad():
        model.entities.zero_()
    rule = build_regularizer(RegularizerConfig(name="lp", p=p, weighted=weighted, entity_weight=1.0))
    assert rule is not None
    rule.penalty(model, TRIPLES, float(len(TRIPLES))).backward()
    assert model.entities.grad is not None
    assert (model.entities.grad == 0).all()


def test_no_penalty_is_no_work() -> None:
    assert build_regularizer(RegularizerConfig(name="none", entity_weight=1.0)) is None
    assert build_regularizer(RegularizerConfig(name="lp")) is None


def test_the_penalty_is_added_once_a_batch_and_is_in_the_reported_loss() -> None:
    graph = graphs.ring()
    paths = {"training.max_epochs": 1, "training.batch_size": len(graph.train)}
    penalty = {"regularizer": {"name": "lp", "p": 2, "entity_weight": 0.5, "relation_weight": 0.1}}
    plain, penalised = (Training(graphs.config(each), graph) for each in (paths, paths | penalty))
    tables = [table.detach().square().sum().item() for table in penalised.model.parameters()]
    (before,), (after,) = list(plain.epochs()), list(penalised.epochs())
    assert after.loss - before.loss == pytest.approx(0.5 / 2 * 2 * tables[0] + 0.1 / 2 * tables[1])
