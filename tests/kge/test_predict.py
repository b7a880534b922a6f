"""Answers by name: order, marks, and names that are not known."""

import pytest
import torch

from kge.data import Side
from kge.errors import DataError
from kge.predict import predict
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
