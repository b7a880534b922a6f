"""The training types of triples: the sum over naive rows, whatever the sub-batch, with the same random draws."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from kge import precision
from kge.batches import AbstractTrainingType
from kge.building import build_model, build_training_type, generator
from kge.config import TrainingConfig
from kge.data import Side
from kge.losses import LOSSES
from kge.losses.base import AbstractBlockLoss, AbstractSamplingLoss, AbstractSoftmaxLoss
from kge.models import MODELS
from kge.models.base import AbstractBilinear, AbstractModel
from tests.kge import graphs
from tests.kge.row_weights import row_weights

pytestmark = pytest.mark.usefixtures("float64")

GRAPH = graphs.random_graph()
DROPOUT = {"model.dropout.entity": 0.3, "model.dropout.relation": 0.2, "model.dropout.query": 0.1}
SOFTMAX = [name for name in LOSSES if issubclass(LOSSES[name], AbstractSoftmaxLoss)]
BLOCK = [name for name in LOSSES if issubclass(LOSSES[name], AbstractBlockLoss)]
SAMPLING = [name for name in LOSSES if issubclass(LOSSES[name], AbstractSamplingLoss)]


class Step:
    """One call of `backward`: its value, gradients and what is left of the random streams."""

    def __init__(self, config: TrainingConfig, *, fused: bool = True) -> None:
        self.model = _model(config)
        masks = generator(config.seed, "dropout")
        self.model.use_generator(masks)
        type_ = _type(config, fused=fused)
        rows = torch.arange(3, 40)
        self.value = type_.backward(self.model, rows)
        self.gradients = [parameter.grad for parameter in self.model.parameters()]
        self.streams = [masks.get_state(), *(each.get_state() for each in type_.generators().values())]


def _model(config: TrainingConfig) -> AbstractModel:
    return build_model(config, num_entities=GRAPH.num_entities, num_relations=GRAPH.num_relations).train()


def _type(config: TrainingConfig, *, fused: bool = True) -> AbstractTrainingType:
    return build_training_type(config, GRAPH, device="cpu", fused=fused)


def _assert_same(one: Step, other: Step) -> None:
    torch.testing.assert_close(one.value, other.value)
    for mine, theirs in zip(one.gradients, other.gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(one.streams, other.streams, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("size", [1, 7, 37, 74, 1000])
@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ("complex", "sce_ls"),
        ("distmult", "sce_bc"),
        ("transe", "sce"),
        ("rotate", "sans"),
        ("tucker", "ns"),
        ("conve", "sce"),
        ("cp", "tans"),
        ("simple", "bce"),
        ("distmult", "margin_ranking"),
    ],
)
def test_a_sub_batch_changes_nothing(model: str, loss: str, size: int) -> None:
    paths = DROPOUT | {"model.reciprocal": True}
    whole = Step(graphs.config(paths, model=model, loss=loss))
    cut = Step(graphs.config(paths | {"training.sub_batch_size": size}, model=model, loss=loss))
    _assert_same(whole, cut)


@pytest.mark.parametrize("loss", SOFTMAX)
@pytest.mark.parametrize("model", [name for name in MODELS if issubclass(MODELS[name], AbstractBilinear)])
def test_fused_equals_unfused(model: str, loss: str) -> None:
    config = graphs.config(DROPOUT, model=model, loss=loss)
    _assert_same(Step(config), Step(config, fused=False))


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("loss", BLOCK)
def test_one_vs_all_is_the_sum_over_triples_and_sides(loss: str, reciprocal: bool) -> None:
    config = graphs.config({"model.reciprocal": reciprocal}, loss=loss)
    step, model, rule = Step(config), _model(config), LOSSES[loss]()
    assert isinstance(rule, AbstractBlockLoss)
    train = [tuple(triple) for triple in GRAPH.train.tolist()]
    weights = row_weights(loss, GRAPH.train)
    total = torch.zeros(())
    for h, r, t in train[3:40]:
        for side, scores, answer in (
            (Side.TAIL, model.score_tails(*_ids(h, r)), t),
            (Side.HEAD, model.score_heads(*_ids(r, t)), h),
        ):
            total = total + weights[side, h, r, t] * rule.rows(scores, torch.tensor([answer]))[0]
    _assert_naive(step, model, total / 37)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("loss", SAMPLING)
def test_negative_sampling_is_the_sum_over_triples_and_sides(loss: str, filtered: bool) -> None:
    config = graphs.config({"negatives": {"head": 3, "tail": 5, "filtered": filtered}}, loss=loss)
    step, model, rule = Step(config), _model(config), LOSSES[loss]()
    assert isinstance(rule, AbstractSamplingLoss)
    type_: Any = _type(config)
    train = [tuple(triple) for triple in GRAPH.train.tolist()]
    heads, tails = Counter(h for h, _, _ in train), Counter(t for _, _, t in train)
    batch = GRAPH.train[3:40]

    total = torch.zeros(())
    for side, count in ((Side.HEAD, 3), (Side.TAIL, 5)):
        ids, _ = type_._sampler.draw(side, side.anchors(batch), batch[:, 1], count)
        losses = []
        for (h, r, t), negatives in zip(batch.tolist(), ids.tolist(), strict=True):
            if side is Side.TAIL:
                positive, others = model.score_hrt(*_ids(h, r, t)), [(h, r, each) for each in negatives]
                weights = [tails[each] / len(train) for each in negatives]
            else:
                positive, others = model.score_heads(*_ids(r, t))[:, h], [(each, r, t) for each in negatives]
                weights = [heads[each] / len(train) for each in negatives]
            weights = weights if loss == "ns_freq" else [1.0] * count
            weights = [w * (not filtered or other not in train) for w, other in zip(weights, others, strict=True)]
            scores = torch.stack([_score(model, side, other) for other in others]).view(1, -1)
            losses.append(rule.rows(positive, scores, torch.tensor([weights]))[0])
        total = total + torch.dot(_query_weights(config, model, side, batch), torch.stack(losses))
    _assert_naive(step, model, total / 37)


def _query_weights(config: TrainingConfig, model: AbstractModel, side: Side, batch: Tensor) -> Tensor:
    """What each row of a side counts: 1, or in tans as the answers of its query in the batch score."""
    temperature = config.loss.options.get("query_temperature", 0.0)
    anchors, answers = side.anchors(batch), side.answers(batch)
    scores = model.score(side, anchors, batch[:, 1], answers[:, None])[:, 0].tolist()
    queries = list(zip(anchors.tolist(), batch[:, 1].tolist(), strict=True))
    mass = Counter[tuple[int, int]]()
    for query, score in zip(queries, scores, strict=True):
        mass[query] += math.exp(score)
    weights = torch.tensor([mass[query] ** temperature for query in queries])
    return weights / weights.mean()


def test_the_official_sub_batch_bug_is_not_reproduced() -> None:
    """The official code divides by the sub-batch in one_vs_all, so its value grows with their number."""
    whole, cut = (Step(graphs.config({"training.sub_batch_size": size})) for size in (1000, 5))
    assert cut.value.item() == pytest.approx(whole.value.item(), rel=1e-9)


def test_bfloat16_changes_the_step_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    exact, rounded = (Step(graphs.config({"training.precision": name})) for name in ("float32", "bfloat16"))
    assert exact.value != rounded.value
    assert rounded.value.item() == pytest.approx(exact.value.item(), rel=0.01)


def test_bfloat16_is_float32_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    exact, asked = (Step(graphs.config({"training.precision": name})) for name in ("float32", "bfloat16"))
    assert torch.equal(asked.value, exact.value)
    assert all(torch.equal(mine, its) for mine, its in zip(asked.gradients, exact.gradients, strict=True))


def _ids(*ids: int) -> tuple[Tensor, ...]:
    return tuple(torch.tensor([each]) for each in ids)


def _score(model: AbstractModel, side: Side, triple: tuple[int, int, int]) -> Tensor:
    h, r, t = triple
    return model.score_hrt(*_ids(h, r, t))[0] if side is Side.TAIL else model.score_heads(*_ids(r, t))[0, h]


def _assert_naive(step: Step, model: AbstractModel, total: Tensor) -> None:
    total.backward()
    torch.testing.assert_close(step.value, total.detach(), rtol=1e-6, atol=1e-9)
    for mine, parameter in zip(step.gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-6, atol=1e-9)
