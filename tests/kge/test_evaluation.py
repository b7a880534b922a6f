"""Filtered ranks against a ranker of plain loops and sets, on scores with many ties."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from kge import evaluation
from kge.data import Dataset, Side
from kge.errors import DivergenceError
from kge.evaluation import rank, rank_by_filters
from kge.filters import FilterIndex, filter_from
from kge.metrics import metrics
from kge.models.base import AbstractModel
from kge.ranks import Ranks
from tests.kge import graphs

GRAPH = graphs.random_graph()
E, R = GRAPH.num_entities, GRAPH.num_relations


def _scores(*, reciprocal: bool, values: int = 4) -> Tensor:
    """Few distinct values, so that ties are everywhere."""
    rows = 2 * R if reciprocal else R
    return torch.randint(values, (rows, E, E), generator=torch.Generator().manual_seed(2)).float()


def _naive(
    scores: Tensor, triples: Tensor, known: Sequence[Tensor], side: Side, *, reciprocal: bool
) -> list[tuple[int, int, int]]:
    """(optimistic rank, pessimistic rank, candidates) of each triple."""
    facts = {tuple(triple) for split in known for triple in split.tolist()}
    ranks = []
    for h, r, t in triples.tolist():
        better = tied = others = 0
        for entity in range(E):
            other = (h, r, entity) if side is Side.TAIL else (entity, r, t)
            if other == (h, r, t) or other in facts:
                continue
            if side is Side.TAIL:
                mine, true = scores[r, h, entity], scores[r, h, t]
            elif reciprocal:
                mine, true = scores[r + R, t, entity], scores[r + R, t, h]
            else:
                mine, true = scores[r, entity, t], scores[r, h, t]
            better += bool(mine > true)
            tied += bool(mine == true)
            others += 1
        ranks.append((1 + better, 1 + better + tied, 1 + others))
    return ranks


def _rows(ranks: Ranks) -> list[tuple[int, int, int]]:
    return list(zip(ranks.optimistic.tolist(), ranks.pessimistic.tolist(), ranks.candidates.tolist(), strict=True))


def _constant() -> AbstractModel:
    return graphs.free_scores(torch.zeros(R, E, E))


@pytest.mark.parametrize("held", [1, 37, 1_000_000])
@pytest.mark.parametrize("block_size", [1, 3, 7, 1000])
@pytest.mark.parametrize("reciprocal", [False, True])
def test_ranks_equal_those_of_plain_loops(
    reciprocal: bool, block_size: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_COMPARED", held)
    monkeypatch.setattr(evaluation, "SCORED", {"cpu": held})
    scores = _scores(reciprocal=reciprocal)
    model = graphs.free_scores(scores)
    assert model.reciprocal == reciprocal
    for split, filters in (("valid", ("train", "valid")), ("test", ("train", "valid", "test")), ("train", ("train",))):
        triples = GRAPH.split(split)
        found = rank(model, triples, filter_from(GRAPH, filters), block_size=block_size)
        assert [each.side for each in found] == list(Side)
        for ranks in found:
            known = [GRAPH.split(name) for name in filters]
            naive = _naive(scores, triples, known, ranks.side, reciprocal=reciprocal)
            assert _rows(ranks) == naive
            assert ranks.realistic.tolist() == [(best + worst) / 2 for best, worst, _ in naive]
            columns = np.stack([ranks.head, ranks.relation, ranks.tail], axis=1)
            assert columns.tolist() == triples.tolist()


def test_several_filters_are_ranked_from_one_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graphs.free_scores(_scores(reciprocal=True))
    filters = [filter_from(GRAPH, splits) for splits in (("train",), ("train", "valid"), ("train", "valid", "test"))]
    expected = [rank(model, GRAPH.valid, known, block_size=4) for known in filters]
    rows = []
    compare = type(model).compare

    def counted(self: AbstractModel, query: Tensor, candidates: Tensor) -> Tensor:
        rows.append(len(query))
        return compare(self, query, candidates)

    monkeypatch.setattr(type(model), "compare", counted)
    found = rank_by_filters(model, GRAPH.valid, filters, block_size=4)
    queries = {(side, *query) for side in Side for query in _queries(side)}
    assert sum(rows) == len(queries) < 2 * len(GRAPH.valid)
    assert [[_rows(side) for side in ranks] for ranks in found] == [
        [_rows(side) for side in ranks] for ranks in expected
    ]


def _queries(side: Side) -> list[tuple[int, int]]:
    return list(zip(side.anchors(GRAPH.valid).tolist(), GRAPH.valid[:, 1].tolist(), strict=True))


def test_a_constant_scorer_ranks_in_the_middle_of_the_remaining_candidates() -> None:
    facts = {tuple(triple) for split in (GRAPH.train, GRAPH.valid) for triple in split.tolist()}
    for ranks in rank(_constant(), GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=4):
        for position, (h, r, t) in enumerate(GRAPH.valid.tolist()):
            others = [(h, r, each) if ranks.side is Side.TAIL else (each, r, t) for each in range(E)]
            remaining = 1 + sum(other not in facts for other in others)
            assert ranks.realistic[position] == (remaining + 1) / 2
            assert ranks.optimistic[position] == 1
            assert ranks.pessimistic[position] == ranks.candidates[position] == remaining


def test_a_perfect_scorer_ranks_first() -> None:
    scores = torch.zeros(R, E, E)
    for h, r, t in (*GRAPH.train.tolist(), *GRAPH.valid.tolist()):
        scores[r, h, t] = 1.0
    found = metrics(rank(graphs.free_scores(scores), GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=4))
    assert found["mrr"] == found["mrr_pessimistic"] == found["hits_at_1"] == found["mean_rank"] == 1.0
    assert found["amri"] == found["adjusted_mrr"] == 1.0


def test_repeated_triples_in_the_filter_change_nothing() -> None:
    model = graphs.free_scores(_scores(reciprocal=False))
    once = filter_from(GRAPH, ("train", "valid"))
    triples = torch.cat([GRAPH.train, GRAPH.valid, GRAPH.train[:9], GRAPH.valid, GRAPH.valid])
    often = FilterIndex(triples, num_entities=E, num_relations=R)
    for mine, theirs in zip(*(rank(model, GRAPH.valid, known, block_size=4) for known in (once, often)), strict=True):
        assert _rows(mine) == _rows(theirs)


def test_a_true_answer_outside_the_filter_is_ranked_too() -> None:
    scores = _scores(reciprocal=False)
    known = filter_from(GRAPH, ("train",))
    for ranks in rank(graphs.free_scores(scores), GRAPH.valid, known, block_size=4):
        assert _rows(ranks) == _naive(scores, GRAPH.valid, [GRAPH.train], ranks.side, reciprocal=False)


def test_the_test_split_filters_only_where_it_is_named() -> None:
    scores = torch.zeros(1, 4, 4)
    scores[0, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    graph = graphs.dataset(train=[(0, 0, 0)], valid=[(0, 0, 1)], test=[(0, 0, 2), (3, 0, 3)])
    model = graphs.free_scores(scores)

    def tail_rank(*splits: str) -> int:
        found = rank(model, graph.valid, filter_from(graph, splits), block_size=4)
        return int(next(each for each in found if each.side is Side.TAIL).optimistic[0])

    assert tail_rank("train", "valid") == 3
    assert tail_rank("train", "valid", "test") == 2


def test_an_entity_that_training_never_saw_is_a_query_an_answer_and_a_candidate() -> None:
    unseen = E - 1
    assert unseen not in GRAPH.train[:, [0, 2]]
    about = (GRAPH.valid[:, 0] == unseen) | (GRAPH.valid[:, 2] == unseen)
    assert about.sum() == 2
    found = rank(_constant(), GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=4)
    assert all(len(each.optimistic) == len(GRAPH.valid) for each in found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("reciprocal", [False, True])
def test_a_score_that_is_not_finite_is_divergence(value: float, reciprocal: bool) -> None:
    model = graphs.free_scores(_scores(reciprocal=reciprocal))
    h, r, t = GRAPH.valid[11].tolist()
    with torch.no_grad():
        model.relations[r, h * E + (t + 1) % E] = value
    with pytest.raises(DivergenceError, match=r"^a score of a (head|tail) query is not finite$"):
        rank(model, GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=4)


def test_scores_whose_sum_alone_is_too_large_are_ranked() -> None:
    scores = _scores(reciprocal=False)
    huge = graphs.free_scores(scores / scores.abs().max() * 3e38 / 4 + 2e38)
    known = filter_from(GRAPH, ("train", "valid"))
    found, plain = (rank(model, GRAPH.valid, known, block_size=4) for model in (huge, graphs.free_scores(scores)))
    for mine, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(mine.realistic, expected.realistic)


def test_ranking_uses_no_dropout_and_gives_the_mode_back() -> None:
    config = graphs.config({"model.dropout.entity": 0.9}).model
    known = filter_from(GRAPH, ("train", "valid"))
    model = graphs.free_scores(_scores(reciprocal=False))
    plain = metrics(rank(model, GRAPH.valid, known, block_size=4))
    model.entity_dropout.rate = config.dropout.entity
    for training in (True, False):
        model.train(training)
        assert metrics(rank(model, GRAPH.valid, known, block_size=4)) == plain
        assert model.training == training


def test_ranks_are_made_in_float32_without_gradients() -> None:
    scores = _scores(reciprocal=False)
    model = graphs.free_scores(scores).double()
    found = rank(model, GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=4)
    for ranks in found:
        assert _rows(ranks) == _naive(scores, GRAPH.valid, [GRAPH.train, GRAPH.valid], ranks.side, reciprocal=False)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_model_ranks_its_own_scores() -> None:
    """The rank is read off the very scores that the model gives for all entities."""
    known = filter_from(GRAPH, ("train", "valid"))
    for name in ("complex", "transe", "rotate"):
        model = graphs.build(name, entities=E, relations=R, dim=4, reciprocal=True).eval()
        every = torch.arange(E)
        scores = torch.stack([model.score_tails(every, torch.full((E,), r)).detach() for r in range(2 * R)])
        for ranks in rank(model, GRAPH.valid, known, block_size=E * R):
            naive = _naive(scores, GRAPH.valid, [GRAPH.train, GRAPH.valid], ranks.side, reciprocal=True)
            assert _rows(ranks) == naive


def _mrr(graph: Dataset) -> float:
    model = graphs.build("distmult", entities=E, relations=R, dim=4)
    return metrics(rank(model, graph.valid, filter_from(graph, ("train", "valid")), block_size=8))["mrr"]


def test_validation_never_looks_at_test() -> None:
    other = dataclasses.replace(GRAPH, test=torch.tensor([[0, 0, 0]]))
    assert _mrr(GRAPH) == _mrr(GRAPH.sealed()) == _mrr(other)
