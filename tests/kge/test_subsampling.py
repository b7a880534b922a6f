"""Subsampling and query weights inside a training step: each row's two terms count what the counts say."""

from collections import Counter
from typing import Any

import pytest
import torch

from kge.building import build_model, build_training_type
from kge.data import Side
from kge.frequencies import Frequencies
from kge.losses import LOSSES
from kge.losses.logistic import AbstractLogisticLoss, query_weights
from tests.kge import graphs

pytestmark = pytest.mark.usefixtures("float64")

GRAPH = graphs.random_graph()
TRAIN = [tuple(triple) for triple in GRAPH.train.tolist()]
BY_QUERY = {
    Side.TAIL: Counter((h, r) for h, r, _ in TRAIN),
    Side.HEAD: Counter((t, r) for _, r, t in TRAIN),
}
ROWS = torch.arange(3, 40)


def _count(side: Side, triple: tuple[int, ...]) -> int:
    return BY_QUERY[side][(triple[0 if side is Side.TAIL else 2], triple[1])]


def test_a_triple_counts_as_both_its_queries_do() -> None:
    counts = Frequencies(GRAPH).triples().tolist()
    assert counts == [_count(Side.TAIL, triple) + _count(Side.HEAD, triple) for triple in TRAIN]


@pytest.mark.parametrize("loss", ["ns", "sans", "tans"])
@pytest.mark.parametrize("variant", ["base", "freq", "uniq"])
@pytest.mark.parametrize("size", [None, 5])
def test_rows_of_a_step_are_weighed_over_the_whole_of_train(loss: str, variant: str, size: int | None) -> None:
    alpha = 0.7
    paths = {"loss.subsampling": variant, "loss.alpha": alpha, "training.sub_batch_size": size}
    config = graphs.config(paths, loss=loss)
    rule = LOSSES[loss](**config.loss.options)
    assert isinstance(rule, AbstractLogisticLoss)
    model = build_model(config, num_entities=GRAPH.num_entities, num_relations=GRAPH.num_relations).train()
    type_: Any = build_training_type(config, GRAPH, device="cpu", fused=True)
    value = type_.backward(model, ROWS)

    sampler = build_training_type(config, GRAPH, device="cpu", fused=True)._sampler  # type: ignore[attr-defined]
    batch, total = GRAPH.train[ROWS], torch.zeros(())
    for side in Side:
        pairs = [(_count(Side.TAIL, triple) + _count(Side.HEAD, triple)) ** -alpha for triple in TRAIN]
        queries = [_count(side, triple) ** -alpha for triple in TRAIN]
        anchors = side.anchors(batch)
        ids, _ = sampler.draw(side, anchors, batch[:, 1], 4)
        positive = model.score(side, anchors, batch[:, 1], side.answers(batch)[:, None])[:, 0]
        true, noise = rule.terms(positive, model.score(side, anchors, batch[:, 1], ids), None)
        chosen = {"base": (pairs, pairs), "freq": (pairs, queries), "uniq": (queries, queries)}[variant]
        a, b = (torch.tensor(each)[ROWS] / (sum(each) / len(TRAIN)) for each in chosen)
        if loss == "tans":
            extra = query_weights(positive, anchors * GRAPH.num_relations + batch[:, 1], rule.query_temperature)
            a, b = a * extra, b * extra
        total = total + (a * true + b * noise).sum()
    torch.testing.assert_close(value, (total / len(ROWS)).detach())
