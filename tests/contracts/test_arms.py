"""Every model trains with every loss: the loss falls, and known facts come to rank above chance."""

from typing import Any

import pytest

from kge.fitting import fit
from kge.losses import LOSSES
from kge.losses.logistic import AbstractLogisticLoss
from kge.models import MODELS
from tests.kge import graphs

FACTS = [tuple(fact) for fact in graphs.ring().train.tolist()]
GRAPH = graphs.dataset(train=FACTS, valid=FACTS)
CHANCE = sum(1 / rank for rank in range(1, GRAPH.num_entities + 1)) / GRAPH.num_entities
ARMS: list[Any] = [
    pytest.param(model, loss, MODELS[model].reciprocal_only, id=f"{model}-{loss}")
    for model in MODELS
    for loss in LOSSES
]
ARMS += [pytest.param(model, loss, True, id=f"{model}-{loss}-reciprocal") for model in MODELS for loss in ("ns", "sce")]


@pytest.mark.parametrize(("model", "loss", "reciprocal"), ARMS)
def test_an_arm_learns_its_facts(model: str, loss: str, reciprocal: bool) -> None:
    paths: dict[str, object] = {"training.max_epochs": 24, "validation.every": 6, "model.reciprocal": reciprocal}
    if issubclass(LOSSES[loss], AbstractLogisticLoss):
        paths["loss.margin"] = 3.0 if model in ("transe", "rotate") else 0.0  # a distance cannot score above zero
    curve = list(fit(graphs.config(paths, model=model, loss=loss), GRAPH, directory=None))
    assert [each.epoch for each in curve] == [6, 12, 18, 24]
    assert curve[-1].loss < curve[0].loss
    assert curve[-1].best_mrr > 1.3 * CHANCE
