"""Answers by name: order, marks, blocks, and names that are not known."""

import pytest
import torch

from kge import predict as module
from kge.data import Dataset, Side
from kge.errors import DataError
from kge.labels import Labels
from kge.models.base import AbstractModel
from kge.predict import Answer, Predictor, predict, predict_table
from tests.kge import graphs

GRAPH = graphs.dataset(train=[(0, 0, 1), (2, 0, 2)], valid=[(0, 0, 3)], test=[(0, 0, 4)])
SCORES = torch.zeros(1, 5, 5)
SCORES[0, 0] = torch.tensor([0.0, 5.0, 3.0, 4.0, 1.0])
SCORES[0, :, 2] = torch.tensor([3.0, 2.0, 0.0, 9.0, 1.0])
MODEL = graphs.free_scores(SCORES)


def _names(**options: object) -> list[str]:
    found = predict(MODEL, GRAPH, **{"side": Side.TAIL, "anchor": "e000", "relation": "r0", "top": 3} | options)
    return [f"{each.entity}{'*' if each.known else ''} {each.score:g}" for each in found]


def test_the_best_answers_come_first_and_known_ones_are_marked() -> None:
    assert _names() == ["e001* 5", "e003* 4", "e002 3"]
    assert _names(top=99) == ["e001* 5", "e003* 4", "e002 3", "e004* 1", "e000 0"]


def test_heads_are_answered_too() -> None:
    assert _names(side=Side.HEAD, anchor="e002") == ["e003 9", "e000 3", "e001 2"]


def test_new_only_leaves_known_answers_out() -> None:
    assert _names(new_only=True, top=99) == ["e002 3", "e000 0"]


def test_a_sealed_graph_knows_no_test_answer() -> None:
    found = predict(MODEL, GRAPH.sealed(), side=Side.TAIL, anchor="e000", relation="r0", top=5)
    assert [each.entity for each in found if each.known] == ["e001", "e003"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"anchor": "e0005"}, r"^unknown entity 'e0005' \(5 known; did you mean 'e00\d'\?\)$"),
        ({"relation": "zz"}, r"^unknown relation 'zz' \(1 known; did you mean 'r0'\?\)$"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        _names(**options)


def _random() -> tuple[AbstractModel, Dataset]:
    graph = graphs.random_graph(entities=17)
    model = graphs.build("complex", entities=graph.num_entities, relations=graph.num_relations, dim=8)
    return model, graph


def _naive(model: AbstractModel, graph: Dataset, side: Side, anchor: str, relation: str) -> list[tuple[str, bool]]:
    """Every entity, best first, and whether some split holds the triple."""
    a, r = graph.entities.index(anchor), graph.relations.index(relation)
    scores = model.score(side, torch.tensor([a]), torch.tensor([r]))[0].tolist()
    facts = {tuple(row) for split in ("train", "valid", "test") for row in graph.split(split).tolist()}
    order = sorted(range(graph.num_entities), key=lambda e: -scores[e])
    return [(graph.entities[e], ((a, r, e) if side is Side.TAIL else (e, r, a)) in facts) for e in order]


@pytest.mark.parametrize("scored", [1, 17 * 3, 2**24], ids=["one by one", "threes", "at once"])
@pytest.mark.parametrize("new_only", [False, True])
def test_a_block_answers_as_each_of_its_queries(scored: int, new_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCORED", scored)
    model, graph = _random()
    predictor = Predictor(model, graph)
    queries = [
        predictor.query((Side.TAIL, Side.HEAD)[i % 3 == 0], graph.entities[i % 17], graph.relations[i % 3])
        for i in range(20)
    ]
    answers = list(predictor.answers(queries, top=6, new_only=new_only))
    assert len(answers) == len(queries)
    for query, found in zip(queries, answers, strict=True):
        expected = _naive(model, graph, query.side, query.anchor, query.relation)
        kept = [each for each in expected if not (new_only and each[1])][:6]
        assert [(each.entity, each.known) for each in found] == kept


def test_a_table_of_heads_and_relations_is_answered_row_by_row() -> None:
    model, graph = _random()
    rows = [("e003", "r1"), ("e000", "r0"), ("e003", "r1")]
    first, second, third = predict_table(model, graph, rows, top=4)
    alone = predict(model, graph, side=Side.TAIL, anchor="e003", relation="r1", top=4)
    assert first == third
    assert [each.entity for each in first] == [each.entity for each in alone]
    assert [each.score for each in first] == pytest.approx([each.score for each in alone], rel=1e-6)  # another block
    assert [each.entity for each in second] == [name for name, _ in _naive(model, graph, Side.TAIL, "e000", "r0")][:4]
    (heads,) = predict_table(model, graph, rows[:1], side=Side.HEAD, top=3)
    assert [each.entity for each in heads] == [name for name, _ in _naive(model, graph, Side.HEAD, "e003", "r1")][:3]
    assert list(predict_table(model, graph, [], top=4)) == []


def test_labels_ask_and_are_shown() -> None:
    labels = Labels(entities={"e000": "zero", "e001": "one"}, relations={"r0": "next"})
    ((best, *_),) = predict_table(MODEL, GRAPH, [("zero", "next")], top=2, labels=labels)
    assert best == Answer(entity="e001", label="one", score=5.0, known=True)
