"""Gradients that negative sampling adds up row by row, against those that autograd finds by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding

from kge.building import build_model, build_training_type, generator
from kge.config import TrainingConfig
from kge.data import Side
from kge.models.base import AbstractModel
from tests.kge import graphs

pytestmark = pytest.mark.usefixtures("float64")

GRAPH = graphs.random_graph()
ROWS = torch.arange(3, 40)
DROPOUT = {"model.dropout.entity": 0.3, "model.dropout.relation": 0.2, "model.dropout.query": 0.1}


def _model(config: TrainingConfig) -> AbstractModel:
    model = build_model(config, num_entities=GRAPH.num_entities, num_relations=GRAPH.num_relations).train()
    model.use_generator(generator(config.seed, "dropout"))
    return model


def _type(config: TrainingConfig) -> Any:
    return build_training_type(config, GRAPH, device="cpu", fused=True)


def _gradients(model: AbstractModel) -> list[Tensor]:
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(each is not None for each in gradients)
    return [each.clone() for each in gradients if each is not None]


def _by_autograd(config: TrainingConfig) -> list[Tensor]:
    """The same draws in the same order: the candidates' dropout, then each side's queries and negatives."""
    model, type_, batch = _model(config), _type(config), GRAPH.train[ROWS]
    table, total = model.candidates(), torch.zeros(())
    for side in Side:
        anchors, relations, answers = side.anchors(batch), batch[:, 1], side.answers(batch)
        query = model.queries(side, anchors, relations)
        ids, weight = type_._sampler.draw(side, anchors, relations, 4)
        positive = model.compare(query, embedding(answers[:, None], table)).squeeze(1)
        total = total + type_._loss.rows(positive, model.compare(query, embedding(ids, table)), weight).sum()
    (total / len(ROWS)).backward()
    return _gradients(model)


@pytest.mark.parametrize("dropout", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("loss", ["ns", "ns_freq", "sans", "margin_ranking"])
@pytest.mark.parametrize("model", ["complex", "transe", "rotate"])
def test_gradients_are_those_of_autograd(model: str, loss: str, dropout: dict[str, float]) -> None:
    config = graphs.config({**dropout, "training.sub_batch_size": 10}, model=model, loss=loss)
    mine = _model(config)
    _type(config).backward(mine, ROWS)
    for gradient, expected in zip(_gradients(mine), _by_autograd(config), strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dropout", [{}, DROPOUT], ids=["plain", "dropout"])
def test_a_gradient_that_is_there_is_added_to(dropout: dict[str, float]) -> None:
    config = graphs.config(dropout, loss="sans")
    once, after = _model(config), _model(config)
    _type(config).backward(once, ROWS)
    for parameter in after.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    _type(config).backward(after, ROWS)
    for gradient, expected in zip(_gradients(after), _gradients(once), strict=True):
        torch.testing.assert_close(gradient, expected + 0.5)


@pytest.mark.parametrize("dropout", [{}, DROPOUT], ids=["plain", "dropout"])
def test_a_step_knows_nothing_of_the_one_before(dropout: dict[str, float]) -> None:
    config = graphs.config(dropout, loss="sans")
    first, second, type_ = _model(config), _model(config), _type(config)
    type_.backward(first, ROWS)
    type_.generators()["negatives"].manual_seed(1)
    type_.backward(second, ROWS)
    fresh, other = _type(config), _model(config)
    fresh.generators()["negatives"].manual_seed(1)
    fresh.backward(other, ROWS)
    for gradient, expected in zip(_gradients(second), _gradients(other), strict=True):
        torch.testing.assert_close(gradient, expected)
