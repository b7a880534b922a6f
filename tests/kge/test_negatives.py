"""Where negatives come from, how they are weighted, and the counts and known answers behind that."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from kge.data import Side
from kge.errors import DataError
from kge.filters import FilterIndex, filter_from
from kge.frequencies import Frequencies
from kge.losses.base import Noise
from kge.negatives import Negatives, NegativeSampler
from tests.kge import graphs

GRAPH = graphs.random_graph()
TRAIN = [tuple(triple) for triple in GRAPH.train.tolist()]
DRAWN = 4000


def _draw(noise: Noise, side: Side, *, filtered: bool = False, seed: int = 0) -> Negatives:
    known = filter_from(GRAPH, ("train",)) if filtered else None
    generator = torch.Generator().manual_seed(seed)
    sampler = NegativeSampler(noise=noise, frequencies=Frequencies(GRAPH), known=known, generator=generator)
    return sampler.draw(side, side.anchors(GRAPH.train), GRAPH.train[:, 1], DRAWN)


def _chi_square(ids: Tensor, share: Tensor) -> float:
    """Pearson's statistic over its degrees of freedom; about 1 when the shares are right."""
    counts = torch.bincount(ids.flatten(), minlength=len(share)).double()
    expected = share.double() * ids.numel()
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    return float(statistic / (possible.sum() - 1))


def _answers(side: Side) -> Counter[int]:
    return Counter(t if side is Side.TAIL else h for h, _, t in TRAIN)


@pytest.mark.parametrize("side", Side)
def test_uniform_noise_is_over_all_entities_with_replacement(side: Side) -> None:
    ids, weight = _draw("uniform", side)
    uniform = torch.full((GRAPH.num_entities,), 1 / GRAPH.num_entities)
    assert weight is None
    assert ids.shape == (len(TRAIN), DRAWN)
    assert _chi_square(ids, uniform) < 2.5
    assert all(_chi_square(row, uniform) < 4.5 for row in ids)  # true answers of the row included
    assert (ids[0] == GRAPH.num_entities - 1).any()  # an entity that training never saw
    assert DRAWN > GRAPH.num_entities  # so each row repeats itself


@pytest.mark.parametrize("side", Side)
def test_rows_and_sides_are_drawn_independently(side: Side) -> None:
    ids, _ = _draw("uniform", side)
    agreement = (ids[:-1] == ids[1:]).double().mean().item()
    assert agreement == pytest.approx(1 / GRAPH.num_entities, abs=0.01)


@pytest.mark.parametrize("side", Side)
def test_weighted_noise_is_uniform_with_the_share_of_the_slot_as_weight(side: Side) -> None:
    ids, weight = _draw("weighted", side)
    uniform, _ = _draw("uniform", side)
    assert torch.equal(ids, uniform)
    assert weight is not None
    counts = _answers(side)
    expected = torch.tensor([counts[entity] / len(TRAIN) for entity in range(GRAPH.num_entities)])
    torch.testing.assert_close(weight, expected[ids])


@pytest.mark.parametrize("side", Side)
def test_sampled_noise_is_the_unigram_of_the_slot(side: Side) -> None:
    ids, weight = _draw("sampled", side)
    counts = _answers(side)
    assert weight is None
    assert _chi_square(ids, torch.tensor([counts[entity] / len(TRAIN) for entity in range(GRAPH.num_entities)])) < 2.5


@pytest.mark.parametrize("noise", ["uniform", "weighted", "sampled"])
@pytest.mark.parametrize("side", Side)
def test_filtering_gives_weight_zero_to_known_training_answers_alone(noise: Noise, side: Side) -> None:
    plain, unfiltered = _draw(noise, side)
    ids, weight = _draw(noise, side, filtered=True)
    assert torch.equal(ids, plain)
    assert weight is not None
    facts = set(TRAIN)
    for row, (h, r, t) in enumerate(TRAIN):
        known = torch.tensor(
            [((h, r, each) if side is Side.TAIL else (each, r, t)) in facts for each in range(GRAPH.num_entities)]
        )
        expected = torch.ones(DRAWN) if unfiltered is None else unfiltered[row].clone()
        expected[known[ids[row]]] = 0
        assert torch.equal(weight[row], expected)


def test_draws_follow_the_generator() -> None:
    assert torch.equal(_draw("uniform", Side.TAIL, seed=1)[0], _draw("uniform", Side.TAIL, seed=1)[0])
    assert not torch.equal(_draw("uniform", Side.TAIL, seed=1)[0], _draw("uniform", Side.TAIL, seed=2)[0])


def test_frequencies_are_counts_of_training_by_slot() -> None:
    frequencies = Frequencies(GRAPH)
    for side in Side:
        counts = _answers(side)
        assert frequencies.answers(side).tolist() == [counts[entity] for entity in range(GRAPH.num_entities)]
        assert float(frequencies.noise(side).sum()) == pytest.approx(1)
    tails, heads = Counter((h, r) for h, r, _ in TRAIN), Counter((r, t) for _, r, t in TRAIN)
    assert frequencies.queries(Side.TAIL).tolist() == [tails[h, r] for h, r, _ in TRAIN]
    assert frequencies.queries(Side.HEAD).tolist() == [heads[r, t] for _, r, t in TRAIN]


@pytest.mark.parametrize("side", Side)
def test_known_answers_of_every_query(side: Side) -> None:
    index = filter_from(GRAPH, ("train", "valid"))
    facts = {tuple(triple) for triple in (*TRAIN, *GRAPH.valid.tolist())}
    anchors, relations = (each.flatten() for each in torch.meshgrid(torch.arange(10), torch.arange(3), indexing="ij"))

    def known(anchor: int, relation: int) -> list[int]:
        slot = 0 if side is Side.TAIL else 2
        return sorted(fact[2 - slot] for fact in facts if fact[1] == relation and fact[slot] == anchor)

    naive = [known(*query) for query in zip(anchors.tolist(), relations.tolist(), strict=True)]
    rows, answers = index.pairs(side, anchors, relations)
    pairs = list(zip(rows.tolist(), answers.tolist(), strict=True))
    assert pairs == [(row, answer) for row, all_ in enumerate(naive) for answer in all_]
    every = torch.arange(10).expand(len(anchors), 10)
    contained = index.contains(side, anchors, relations, every)
    assert contained.tolist() == [[entity in all_ for entity in range(10)] for all_ in naive]
    assert any(not all_ for all_ in naive)  # a query that no split holds


def test_repeated_and_reordered_triples_leave_a_filter_as_it_is() -> None:
    once = FilterIndex(GRAPH.train, num_entities=10, num_relations=3)
    often = FilterIndex(torch.cat([GRAPH.train.flip(0), GRAPH.train[:5]]), num_entities=10, num_relations=3)
    anchors, relations = torch.arange(10), torch.arange(10) % 3
    for side in Side:
        for mine, theirs in zip(
            once.pairs(side, anchors, relations), often.pairs(side, anchors, relations), strict=True
        ):
            assert torch.equal(mine, theirs)


def test_a_filter_never_reads_a_sealed_split() -> None:
    sealed = GRAPH.sealed()
    filter_from(sealed, ("train", "valid"))
    with pytest.raises(DataError, match=r"^toy: the test split is sealed$"):
        filter_from(sealed, ("train", "valid", "test"))


def test_a_graph_whose_triples_do_not_fit_into_64_bits_is_refused() -> None:
    FilterIndex(GRAPH.train, num_entities=80_000_000, num_relations=1_400)
    with pytest.raises(DataError, match=r"below 2\^63 .* got 80,000,000 entities, 1,500 relations"):
        FilterIndex(GRAPH.train, num_entities=80_000_000, num_relations=1_500)
