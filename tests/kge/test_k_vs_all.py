"""k_vs_all: distinct queries with all their answers, in the same sum as one_vs_all or with equal weights."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from kge.batches import AbstractTrainingType
from kge.building import build_model, build_training_type, generator
from kge.config import TrainingConfig
from kge.data import Side
from kge.losses import LOSSES
from kge.losses.base import AbstractBlockLoss
from kge.models.base import AbstractModel
from kge.training import Training
from tests.kge import graphs
from tests.kge.row_weights import row_weights

pytestmark = pytest.mark.usefixtures("float64")

GRAPH = graphs.random_graph()  # some of its triples occur twice
ANSWERS = {
    Side.HEAD: [((t, r), h) for h, r, t in GRAPH.train.tolist()],
    Side.TAIL: [((h, r), t) for h, r, t in GRAPH.train.tolist()],
}
QUERIES = {side: sorted({query for query, _ in pairs}) for side, pairs in ANSWERS.items()}
SIZE = sum(map(len, QUERIES.values()))
DROPOUT = {"model.dropout.entity": 0.3, "model.dropout.relation": 0.2, "model.dropout.query": 0.1}
LOSSES_BY_QUERY = [name for name, class_ in LOSSES.items() if "k_vs_all" in class_.training_types]


def _config(paths: dict[str, object] | None = None, *, model: str = "complex", loss: str = "sce") -> TrainingConfig:
    return graphs.config({"training.type": "k_vs_all"} | (paths or {}), model=model, loss=loss)


def _type(config: TrainingConfig, *, fused: bool = True) -> AbstractTrainingType:
    return build_training_type(config, GRAPH, device="cpu", fused=fused)


def _model(config: TrainingConfig) -> AbstractModel:
    return build_model(config, num_entities=GRAPH.num_entities, num_relations=GRAPH.num_relations).train()


def _step(config: TrainingConfig, rows: Tensor, *, fused: bool = True) -> tuple[Tensor, list[Tensor]]:
    model = _model(config)
    model.use_generator(generator(config.seed, "dropout"))
    value = _type(config, fused=fused).backward(model, rows)
    gradients = [parameter.grad for parameter in model.parameters()]
    return value, [each for each in gradients if each is not None]


def _some(count: int = 23) -> Tensor:
    return torch.randperm(SIZE, generator=torch.Generator().manual_seed(4))[:count]


def _query(position: int) -> tuple[Side, tuple[int, int]]:
    heads = len(QUERIES[Side.HEAD])
    return (
        (Side.HEAD, QUERIES[Side.HEAD][position])
        if position < heads
        else (Side.TAIL, QUERIES[Side.TAIL][position - heads])
    )


def test_a_triple_twice_in_train_is_in_the_graph_of_these_tests() -> None:
    assert max(Counter(map(tuple, GRAPH.train.tolist())).values()) > 1


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("query_weight", [None, "answers", "equal"])
@pytest.mark.parametrize("loss", LOSSES_BY_QUERY)
def test_the_value_is_twice_the_weighted_mean_over_queries(
    loss: str, query_weight: str | None, reciprocal: bool
) -> None:
    config = _config({"training.query_weight": query_weight, "model.reciprocal": reciprocal}, loss=loss)
    model, rule, rows = _model(config), LOSSES[loss](), _some()
    assert isinstance(rule, AbstractBlockLoss)
    weighted = (query_weight or rule.query_weight) == "answers"
    mean, weights = 2 * len(GRAPH.train) / SIZE, row_weights(loss, GRAPH.train)
    total = torch.zeros(())
    for position in rows.tolist():
        side, (anchor, relation) = _query(position)
        answers = Counter[int]()
        for query, answer in ANSWERS[side]:
            if query == (anchor, relation):
                triple = (anchor, relation, answer) if side is Side.TAIL else (answer, relation, anchor)
                answers[answer] += weights[side, *triple]
        count = sum(answers.values())
        scores = model.score(side, torch.tensor([anchor]), torch.tensor([relation]))
        if loss == "bce":
            labels = torch.zeros_like(scores)
            labels[0, list(answers)] = 1
            row = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum")
        else:
            parts = [rule.rows(scores, torch.tensor([each]))[0] * n / count for each, n in answers.items()]
            row = torch.stack(parts).sum()
        total = total + row * (count / mean if weighted else 1.0)
    value, gradients = _step(config, rows)
    (2 * total / len(rows)).backward()
    torch.testing.assert_close(value, (2 * total / len(rows)).detach())
    for mine, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad)


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("loss", [name for name in LOSSES_BY_QUERY if name != "bce"])
def test_over_all_queries_it_is_one_vs_all(loss: str, reciprocal: bool) -> None:
    by_query, by_triple = (
        graphs.config({"training.type": type_, "model.reciprocal": reciprocal}, loss=loss)
        for type_ in ("k_vs_all", "one_vs_all")
    )
    mine, gradients = _step(by_query, torch.arange(SIZE))
    theirs, expected = _step(by_triple, torch.arange(len(GRAPH.train)))
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("model", ["complex", "rescal", "simple", "transe", "conve"])
@pytest.mark.parametrize("loss", LOSSES_BY_QUERY)
def test_fused_equals_unfused(model: str, loss: str) -> None:
    config = _config(DROPOUT, model=model, loss=loss)
    torch.testing.assert_close(_step(config, _some()), _step(config, _some(), fused=False))


@pytest.mark.parametrize("size", [1, 5, 23, 1000])
@pytest.mark.parametrize("model", ["complex", "rotate", "conve"])
@pytest.mark.parametrize("loss", ["sce_ls", "sce_cw", "bce"])
def test_a_sub_batch_changes_nothing(model: str, loss: str, size: int) -> None:
    whole = _step(_config(DROPOUT, model=model, loss=loss), _some())
    cut = _step(_config(DROPOUT | {"training.sub_batch_size": size}, model=model, loss=loss), _some())
    torch.testing.assert_close(cut, whole)


@pytest.mark.parametrize("side", list(Side))
def test_a_batch_may_hold_one_side_alone(side: Side) -> None:
    heads = len(QUERIES[Side.HEAD])
    rows = torch.arange(heads)[:4] if side is Side.HEAD else torch.arange(heads, SIZE)[:4]
    value, gradients = _step(_config(), rows)
    assert torch.isfinite(value)
    assert all(torch.isfinite(each).all() for each in gradients)


def test_its_triples_are_those_of_its_queries() -> None:
    rows = _some()
    wanted = Counter[tuple[int, ...]]()
    for position in rows.tolist():
        side, (anchor, relation) = _query(position)
        answers = [answer for query, answer in ANSWERS[side] if query == (anchor, relation)]  # as often as in train
        wanted.update((anchor, relation, a) if side is Side.TAIL else (a, relation, anchor) for a in answers)
    assert Counter(map(tuple, _type(_config()).triples(rows).tolist())) == wanted


def test_every_query_is_seen_once_an_epoch() -> None:
    training = Training(_config({"training.batch_size": 7}), GRAPH)
    seen: list[Tensor] = []
    type_ = training._type
    backward = type_.backward

    def spy(model: AbstractModel, rows: Tensor) -> Tensor:
        seen.append(rows)
        return backward(model, rows)

    type_.backward = spy  # type: ignore[method-assign]
    next(training.epochs())
    assert sorted(torch.cat(seen).tolist()) == list(range(SIZE))


def test_the_epoch_loss_is_that_of_one_vs_all_at_fixed_parameters() -> None:
    still = {"optimizer.lr": 1e-12, "training.max_epochs": 1, "training.batch_size": 7}
    losses = [
        next(Training(graphs.config(still | {"training.type": type_}), GRAPH).epochs()).loss
        for type_ in ("k_vs_all", "one_vs_all")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


TERMS = [
    ("complex", {"regularizer": {"name": "n3", "weight": 0.3}}),
    ("rescal", {"regularizer": {"name": "dura", "weight": 0.3}}),
    ("transe", {"regularizer": {"name": "lp", "weighted": True, "entity_weight": 0.3, "relation_weight": 0.2}}),
    ("complex", {"auxiliary.relation_weight": 2.0}),
]


# A query with many answers brings all its triples at once: they count for no less than in batches of triples.
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("model", "term"), TERMS, ids=["n3", "dura", "lp", "relations"])
def test_penalties_and_tasks_of_an_epoch_are_those_of_one_vs_all(
    model: str, term: dict[str, object], *, reciprocal: bool
) -> None:
    once = [tuple(triple) for triple in GRAPH.train.unique(dim=0).tolist()]
    graph = graphs.dataset(train=once, valid=GRAPH.valid.tolist(), test=GRAPH.test.tolist())
    still = {"optimizer.lr": 1e-12, "training.max_epochs": 1, "training.batch_size": 7, "model.reciprocal": reciprocal}

    def added(type_: str) -> float:
        paths = still | {"training.type": type_}
        with_it, without = (
            next(Training(graphs.config(each, model=model), graph).epochs()).loss for each in (paths | term, paths)
        )
        return with_it - without

    assert added("k_vs_all") == pytest.approx(added("one_vs_all"), rel=1e-7)


WHOLE = ("transe", {"regularizer": {"name": "lp", "entity_weight": 0.3, "relation_weight": 0.2}})


@pytest.mark.parametrize(("model", "term"), [*TERMS, WHOLE], ids=["n3", "dura", "lp", "relations", "lp of tables"])
def test_penalties_and_tasks_in_parts_are_those_of_the_whole(model: str, term: dict[str, object]) -> None:
    found = []
    for size in (4, 1000):  # more triples than the four are made part by part
        training = Training(_config(term | {"training.batch_size": size}, model=model), GRAPH)
        value = training._gradients(_some())
        found.append([value, *(each.grad for each in training.model.parameters())])
    for mine, whole in zip(*found, strict=True):
        torch.testing.assert_close(mine, whole)


def test_penalties_and_tasks_see_the_triples_of_the_queries() -> None:
    paths = {"regularizer": {"name": "n3", "weight": 0.1}, "auxiliary.relation_weight": 1.0, "training.max_epochs": 8}
    losses = [report.loss for report in Training(_config(paths), GRAPH).epochs()]
    assert losses[-1] < losses[0]
    assert losses[0] > 2 * math.log(GRAPH.num_entities) * 0.9
