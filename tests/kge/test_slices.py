"""Slices against plain loops, and the categories of relations made for them."""

import dataclasses
from collections import Counter, defaultdict

import pytest
import torch

from kge.data import Dataset, Side
from kge.evaluation import rank
from kge.filters import filter_from
from kge.slices import CATEGORIES, categories, frequencies, slices
from tests.kge import graphs
from tests.kge.test_metrics import naive_metrics

GRAPH = graphs.random_graph(entities=60, sizes=(60, 40, 10))
BINS = {"0": (0, 0), "1-2": (1, 2), "3-9": (3, 9), "10-29": (10, 29), "30-99": (30, 99)}


def _category(graph: Dataset, relation: int) -> str:
    heads, tails = defaultdict(set), defaultdict(set)
    for h, r, t in graph.train.tolist():
        if r == relation:
            heads[t].add(h)
            tails[h].add(t)
    if not heads:
        return "unseen"
    names = ("1" if sum(map(len, each.values())) / len(each) < 1.5 else "N" for each in (heads, tails))
    return "-".join(names)


def _bin(count: int) -> str:
    return next(name for name, (low, high) in BINS.items() if low <= count <= high)


def test_slices_equal_those_of_plain_loops() -> None:
    generator = torch.Generator().manual_seed(2)
    size = GRAPH.num_entities
    model = graphs.free_scores(torch.randint(9, (GRAPH.num_relations, size, size), generator=generator).float())
    ranks = rank(model, GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=8)
    counts = Counter(GRAPH.train[:, [0, 2]].flatten().tolist())
    expected = defaultdict(lambda: {side: [] for side in Side})
    for side in ranks:
        rows = zip(side.optimistic.tolist(), side.pessimistic.tolist(), side.candidates.tolist(), strict=True)
        for (h, r, t), row in zip(GRAPH.valid.tolist(), rows, strict=True):
            asked, given = (t, h) if side.side is Side.TAIL else (h, t)
            names = {
                "side": str(side.side),
                "relation": f"r{r}",
                "category": _category(GRAPH, r),
                "answer_frequency": _bin(counts[asked]),
                "anchor_frequency": _bin(counts[given]),
            }
            for kind, name in names.items():
                expected[kind, name][side.side].append(row)
    found = {(each.by, each.name): each for each in slices(ranks, GRAPH)}
    assert found.keys() == expected.keys()
    assert {"0", "1-2", "3-9"} <= {name for kind, name in found if kind == "answer_frequency"}
    for key, each in found.items():
        by_side = expected[key]
        assert each.queries == len(by_side[Side.HEAD]) + len(by_side[Side.TAIL])
        assert dict(each.metrics) == pytest.approx(naive_metrics(by_side[Side.HEAD], by_side[Side.TAIL]), abs=1e-12)


def test_each_kind_holds_every_query_once_and_relations_come_by_size() -> None:
    size = GRAPH.num_entities
    model = graphs.free_scores(torch.zeros(GRAPH.num_relations, size, size))
    found = list(slices(rank(model, GRAPH.valid, filter_from(GRAPH, ("train",)), block_size=8), GRAPH))
    totals = Counter()
    for each in found:
        totals[each.by] += each.queries
    assert set(totals.values()) == {2 * len(GRAPH.valid)}
    sizes = [each.queries for each in found if each.by == "relation"]
    assert sizes == sorted(sizes, reverse=True)
    bins = [each.name for each in found if each.by == "answer_frequency"]
    assert bins == [name for name in BINS if name in bins]


def _relations() -> Dataset:
    """Relations 0 to 3 of each category, 4 at both thresholds exactly, 5 in valid alone."""
    one_one = [(i, 0, i + 1) for i in range(4)]
    one_many = [(0, 1, i) for i in range(1, 5)]
    many_one = [(i, 2, 0) for i in range(1, 5)]
    many_many = [(h, 3, t) for h in range(3) for t in range(3)]
    threshold = [(0, 4, 1), (0, 4, 2), (3, 4, 2)]
    return graphs.dataset(train=[*one_one, *one_many, *many_one, *many_many, *threshold], valid=[(0, 5, 1)])


def test_categories_by_the_rule_of_one_and_a_half() -> None:
    graph = _relations()
    names = [CATEGORIES[position] for position in categories(graph)]
    assert names == ["1-1", "1-N", "N-1", "N-N", "N-N", "unseen"]
    assert names == [_category(graph, relation) for relation in range(graph.num_relations)]


def test_repeated_facts_change_no_category() -> None:
    graph = _relations()
    repeated = dataclasses.replace(graph, train=torch.cat([graph.train, graph.train[:1].repeat(9, 1)]))
    assert categories(repeated).tolist() == categories(graph).tolist()


def test_valid_and_test_change_neither_category_nor_frequency() -> None:
    graph = _relations()
    other = dataclasses.replace(graph, valid=graph.train, test=graph.train)
    assert categories(other).tolist() == categories(graph).tolist()
    assert frequencies(other).tolist() == frequencies(graph).tolist()


def test_categories_of_random_graphs_equal_those_of_plain_loops() -> None:
    for entities in (5, 10, 40, 200):
        graph = graphs.random_graph(entities=entities, relations=8)
        names = [CATEGORIES[position] for position in categories(graph)]
        assert names == [_category(graph, relation) for relation in range(graph.num_relations)]
