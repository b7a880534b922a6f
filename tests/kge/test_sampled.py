"""Sampled triples and sampled candidates against plain loops over the same draws, and against the full ranking."""

from collections import Counter

import numpy as np
import pytest
import torch

from kge import sampled
from kge.data import Dataset, Side
from kge.evaluation import rank
from kge.filters import filter_from
from kge.metrics import metrics
from kge.models.base import AbstractModel
from kge.sampled import SampledRanks, full_estimates, mrr_standard_error, rank_among_sampled, sample_triples
from tests.kge import graphs

GRAPH = graphs.random_graph()
E, R = GRAPH.num_entities, GRAPH.num_relations
KNOWN = filter_from(GRAPH, ("train", "valid"))


def _model(*, values: int = 9, reciprocal: bool = False) -> AbstractModel:
    rows = 2 * R if reciprocal else R
    scores = torch.randint(values, (rows, E, E), generator=torch.Generator().manual_seed(4))
    return graphs.free_scores(scores.float())


def _left(graph: Dataset, side: Side, triple: list[int]) -> list[int]:
    """Entities that are neither the answer nor a known one."""
    facts = {tuple(fact) for split in (graph.train, graph.valid) for fact in split.tolist()}
    h, r, t = triple
    every = range(graph.num_entities)
    if side is Side.TAIL:
        return [each for each in every if each != t and (h, r, each) not in facts]
    return [each for each in every if each != h and (each, r, t) not in facts]


def _naive(model: AbstractModel, side: Side, *, count: int, seed: int) -> list[tuple[int, int, int]]:
    """(optimistic rank, pessimistic rank, candidates of the full ranking), with the draws of the module."""
    generator = np.random.default_rng([seed, list(Side).index(side)])
    rows = []
    for h, r, t in GRAPH.valid.tolist():
        left = _left(GRAPH, side, [h, r, t])
        drawn = [left[int(fraction * len(left))] for fraction in generator.random(count)]
        anchor, answer = (h, t) if side is Side.TAIL else (t, h)
        scores = model.score(side, torch.tensor([anchor]), torch.tensor([r]))[0].tolist()
        better = sum(scores[each] > scores[answer] for each in drawn)
        tied = sum(scores[each] == scores[answer] for each in drawn)
        rows.append((1 + better, 1 + better + tied, 1 + len(left)))
    return rows


def _rows(found: SampledRanks) -> list[tuple[int, int, int]]:
    columns = (found.ranks.optimistic, found.ranks.pessimistic, found.population)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("gathered", [1, 300, 10**9])
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("count", "seed"), [(1, 0), (5, 1), (40, 2)])
def test_ranks_equal_those_of_plain_loops(
    count: int, seed: int, reciprocal: bool, gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled, "_GATHERED", gathered)
    model = _model(reciprocal=reciprocal)
    found = rank_among_sampled(model, GRAPH.valid, KNOWN, count=count, seed=seed)
    assert [each.ranks.side for each in found] == list(Side)
    for each in found:
        assert _rows(each) == _naive(model, each.ranks.side, count=count, seed=seed)
        assert each.ranks.candidates.tolist() == [count + 1] * len(GRAPH.valid)
        assert (
            np.stack([each.ranks.head, each.ranks.relation, each.ranks.tail], axis=1).tolist() == GRAPH.valid.tolist()
        )


def test_the_population_is_that_of_the_full_ranking() -> None:
    full = rank(_model(), GRAPH.valid, KNOWN, block_size=4)
    few = rank_among_sampled(_model(), GRAPH.valid, KNOWN, count=2, seed=0)
    for mine, theirs in zip(few, full, strict=True):
        assert mine.population.tolist() == theirs.candidates.tolist()


@pytest.mark.parametrize("filters", [("train",), ("train", "valid")])
def test_every_entity_that_is_left_is_drawn_as_often(filters: tuple[str, ...]) -> None:
    known = filter_from(GRAPH, filters)
    triples = GRAPH.valid[:6]
    h, r, answers = triples.T
    excluded = sampled._excluded(known.pairs(Side.TAIL, h, r), answers, E)
    fractions = (torch.arange(5040, dtype=torch.float64) + 0.5).expand(6, 5040) / 5040  # divisible by 1 to 10
    drawn, population = sampled._draw(fractions, excluded, E)
    for query, row in enumerate(drawn.tolist()):
        taken = set(excluded[1][excluded[0] == query].tolist())
        left = sorted(set(range(E)) - taken)
        assert answers[query].item() in taken
        assert Counter(row) == dict.fromkeys(left, 5040 // len(left))
        assert population[query] == len(left) + 1


def test_estimates_of_the_full_ranking_have_no_bias() -> None:
    model = _model()
    full = metrics(rank(model, GRAPH.valid, KNOWN, block_size=4))
    runs = [full_estimates(rank_among_sampled(model, GRAPH.valid, KNOWN, count=3, seed=seed)) for seed in range(100)]
    for name, truth in (("mean_rank_estimate", full["mean_rank"]), ("amri_estimate", full["amri"])):
        values = np.array([run[name] for run in runs])
        assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(len(runs))
    among_three = metrics([each.ranks for each in rank_among_sampled(model, GRAPH.valid, KNOWN, count=3, seed=0)])
    assert among_three["mrr"] > 1.2 * full["mrr"]  # why a sampled MRR must never be read as the other


def test_an_answer_without_rivals_is_first_of_one() -> None:
    graph = graphs.dataset(train=[(0, 0, 0), (0, 0, 1)], valid=[(0, 0, 0), (0, 0, 1)])
    model, known = graphs.free_scores(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])), filter_from(graph, ("train", "valid"))
    found = {each.ranks.side: each for each in rank_among_sampled(model, graph.valid, known, count=1, seed=0)}
    assert _rows(found[Side.TAIL]) == [(1, 1, 1), (1, 1, 1)]
    assert _rows(found[Side.HEAD]) == [(1, 2, 2), (1, 2, 2)]
    assert [found[side].ranks.candidates.tolist() for side in Side] == [[2, 2], [1, 1]]
    assert full_estimates([found[Side.TAIL]]) == {"mean_rank_estimate": 1, "amri_estimate": 0}


def test_a_sample_of_triples_is_a_part_in_order() -> None:
    rows = [tuple(each) for each in GRAPH.train.tolist()]
    for count in (2, 10, len(rows)):
        found = [tuple(each) for each in sample_triples(GRAPH.train, count, seed=3).tolist()]
        assert len(found) == count
        assert Counter(found) <= Counter(rows)
    assert torch.equal(sample_triples(GRAPH.train, len(rows), seed=8), GRAPH.train)
    assert torch.equal(sample_triples(GRAPH.train, 9, seed=1), sample_triples(GRAPH.train, 9, seed=1))
    assert not torch.equal(sample_triples(GRAPH.train, 9, seed=1), sample_triples(GRAPH.train, 9, seed=2))


def test_the_standard_error_is_that_of_a_sample_without_replacement() -> None:
    ranks = rank(_model(), GRAPH.valid, KNOWN, block_size=4)
    size = len(GRAPH.valid)
    each = [(1 / head + 1 / tail) / 2 for head, tail in zip(*(side.realistic.tolist() for side in ranks), strict=True)]
    mean = sum(each) / size
    variance = sum((value - mean) ** 2 for value in each) / (size - 1)
    assert mrr_standard_error(ranks, of=100) == pytest.approx(((1 - size / 100) * variance / size) ** 0.5)
    assert mrr_standard_error(ranks, of=size) == 0


def test_the_standard_error_covers_what_samples_do() -> None:
    """Mean over all samples of the squared error of the MRR is the mean of the squared standard error."""
    model, size, count = _model(values=1000), len(GRAPH.valid), 9
    truth = metrics(rank(model, GRAPH.valid, KNOWN, block_size=64))["mrr"]
    errors, claimed = [], []
    for seed in range(200):
        ranks = rank(model, sample_triples(GRAPH.valid, count, seed=seed), KNOWN, block_size=64)
        errors.append((metrics(ranks)["mrr"] - truth) ** 2)
        claimed.append(mrr_standard_error(ranks, of=size) ** 2)
    assert np.mean(errors) == pytest.approx(np.mean(claimed), rel=0.25)
