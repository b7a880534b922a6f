"""PyKEEN beside kge: the same parameters score, lose and step alike, up to the conventions of docs/peers.md.

`make test-peer` installs PyKEEN where it disturbs nothing, and runs this.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import default_collate

from kge.building import build_training_type, generator
from kge.losses import LOSSES
from kge.losses.against_all import AgainstAll
from kge.losses.base import Answers
from kge.models import MODELS
from kge.models.base import AbstractModel
from tests.kge import graphs
from tests.peer.shared import ABSENT, GRAPH, Close

losses = pytest.importorskip("pykeen.losses", reason=ABSENT)
lcwa = pytest.importorskip("pykeen.training.lcwa", reason=ABSENT)
slcwa = pytest.importorskip("pykeen.training.slcwa", reason=ABSENT)
triples_factory = pytest.importorskip("pykeen.triples", reason=ABSENT)
twins = pytest.importorskip("tests.peer.twins", reason=ABSENT)

pytestmark = pytest.mark.peer

E, R, D = GRAPH.num_entities, GRAPH.num_relations, 12
B, K = 6, 5
Options = dict[str, Any]
Draws = tuple[Tensor, Tensor, Tensor, Tensor]

OTHERWISE = {"rotate", "simple"}  # PyKEEN's are other models: tests of their own
OPTIONS: dict[str, list[Options]] = {
    "tucker": [{"relation_dim": 5}],
    "transe": [{"norm": 1}, {"norm": 2}],
    "conve": [{"padding": 0}, {"padding": 0, "batch_norm": False}],
}
CASES = [(name, options) for name in twins.TWINS if name not in OTHERWISE for options in OPTIONS.get(name, [{}])]
EVERY_QUERY = torch.cartesian_prod(torch.arange(E), torch.arange(R))
EVERY_TRIPLE = torch.cartesian_prod(torch.arange(E), torch.arange(R), torch.arange(E))


def _model(name: str, options: Options | None = None, *, reciprocal: bool = False) -> AbstractModel:
    """In evaluation mode, with batch normalisations that are not the identity."""
    model = graphs.build(name, entities=E, relations=R, dim=D, reciprocal=reciprocal, **(options or {}))
    for each in getattr(model, "norms", []):
        for values in (each.scale.data, each.shift.data, each.running_mean, each.running_var):
            values.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(9))
    return model.eval()


def _scores(model: AbstractModel) -> dict[str, Tensor]:
    """Of all entities for every query, and of every triple."""
    anchors, relations = EVERY_QUERY.T
    return {
        "tails": model.score_tails(anchors, relations),
        "heads": model.score_heads(relations, anchors),
        "triples": model.score_hrt(*EVERY_TRIPLE.T),
    }


def _their_scores(peer: Any) -> dict[str, Tensor]:
    return {
        "tails": peer.predict_t(EVERY_QUERY),
        "heads": peer.predict_h(EVERY_QUERY.flip(1)),
        "triples": peer.predict_hrt(EVERY_TRIPLE).squeeze(1),
    }


def _all_close(close: Close, name: str, mine: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    for kind, scores in mine.items():
        close(name, scores, others[kind])


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.usefixtures("float64")
def test_scores_are_the_same(name: str, options: Options, reciprocal: bool, close: Close) -> None:
    model = _model(name, options, reciprocal=reciprocal)
    _all_close(close, f"scores of {name}", _scores(model), _their_scores(twins.twin(name, model)))


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.usefixtures("float64")
def test_rotate_sums_the_moduli_here_and_takes_a_euclidean_norm_there(reciprocal: bool, close: Close) -> None:
    """The paper sums them. Over a single complex number both are the same."""
    model = _model("rotate", reciprocal=reciprocal)
    numbers = [_their_scores(peer) for peer in twins.rotate_by_number(model)]
    stacked = {kind: torch.stack([each[kind] for each in numbers]) for kind in numbers[0]}
    _all_close(close, "scores of rotate", _scores(model), {kind: each.sum(dim=0) for kind, each in stacked.items()})
    norms = {kind: -each.norm(dim=0) for kind, each in stacked.items()}
    _all_close(close, "PyKEEN's rotate as a norm", norms, _their_scores(twins.twin("rotate", model)))


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.usefixtures("float64")
def test_simple_is_symmetric_there_until_the_halves_of_the_tail_are_exchanged(reciprocal: bool, close: Close) -> None:
    model = _model("simple", reciprocal=reciprocal)
    peer = twins.twin("simple", model)
    torch.testing.assert_close(peer.predict_hrt(EVERY_TRIPLE), peer.predict_hrt(EVERY_TRIPLE.flip(1)))
    _all_close(close, "scores of simple", _scores(model), _their_scores(twins.with_tails_exchanged(peer)))
    head, tail = (half.tolist() for half in model.entities.chunk(2, dim=1))
    forwards, inverse = (half.tolist() for half in model.relations.chunk(2, dim=1))
    for score, (h, r, t) in zip(model.score_hrt(*EVERY_TRIPLE.T).tolist(), EVERY_TRIPLE.tolist(), strict=True):
        one = sum(a * b * c for a, b, c in zip(head[h], forwards[r], tail[t], strict=True))
        other = sum(a * b * c for a, b, c in zip(head[t], inverse[r], tail[h], strict=True))
        assert score == pytest.approx((one + other) / 2, abs=1e-12)


@pytest.mark.usefixtures("float64")
def test_conve_normalises_batches_alike(close: Close) -> None:
    options = {"padding": 0, "feature_dropout": 0.0, "hidden_dropout": 0.0}
    model = _model("conve", options, reciprocal=True).train()
    peer = twins.twin("conve", model).train()
    scores = peer.score_t(EVERY_QUERY * torch.tensor([1, 2]))  # relation r is row 2 r
    close("scores of conve in training", model.score_tails(*EVERY_QUERY.T), scores)
    for mine, other in zip(model.norms, twins.batch_norms(peer), strict=True):
        kept = slice(len(mine.scale))
        close("running statistics of conve", mine.running_mean, other.running_mean[kept])
        close("running statistics of conve", mine.running_var, other.running_var[kept])


def _draw(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def draws(float64: None) -> Draws:
    """Scores of answers and of negatives; scores of all entities, and the answer of each row."""
    target = torch.randint(E, (B,), generator=torch.Generator().manual_seed(3))
    return _draw(B, 1, seed=0), _draw(B, K, seed=1), _draw(B, E, seed=2), target


@pytest.mark.parametrize("margin", [0.0, 2.5])
def test_negative_sampling_is_binary_cross_entropy_of_shifted_scores(margin: float, draws: Draws, close: Close) -> None:
    positive, negative, _, _ = draws
    summed = losses.BCEWithLogitsLoss(reduction="sum")
    rows = LOSSES["ns"](margin=margin).rows(positive[:, 0], negative, None)
    close("ns", rows.sum(), summed.process_slcwa_scores(positive + margin, negative + margin))
    weight = torch.rand(B, K, generator=torch.Generator().manual_seed(4))
    rows = LOSSES["ns_freq"](margin=margin).rows(positive[:, 0], negative, weight)
    weights = {"pos_weights": torch.ones(B, 1), "neg_weights": weight}
    close("ns_freq", 2 * rows.sum(), summed.process_slcwa_scores(positive + margin, negative + margin, **weights))


def test_a_margin_shifts_all_scores_here_and_parts_answers_from_negatives_there(draws: Draws, close: Close) -> None:
    positive, negative, _, _ = draws
    rows = LOSSES["ns"]().rows(positive[:, 0], negative, None)
    close("ns, as softplus", rows.sum(), losses.SoftplusLoss(reduction="sum").process_slcwa_scores(positive, negative))
    hinge = losses.SoftPointwiseHingeLoss(margin=2.5, reduction="sum")
    rows = LOSSES["ns"]().rows(positive[:, 0] - 2.5, negative + 2.5, None)
    close("ns, as soft pointwise hinge", rows.sum(), hinge.process_slcwa_scores(positive, negative))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_self_adversarial_losses_are_the_same(temperature: float, draws: Draws, close: Close) -> None:
    positive, negative, _, _ = draws
    mine = LOSSES["sans"](margin=2.5, temperature=temperature)
    other = losses.NSSALoss(margin=2.5, adversarial_temperature=temperature)
    rows = mine.rows(positive[:, 0], negative, None)
    close("sans", rows.mean(), other.process_slcwa_scores(positive, negative))
    kept = torch.tensor([[True, False, True, True, False]]).repeat(B, 1)
    rows = mine.rows(positive[:, 0], negative, kept.to(negative.dtype))
    close("sans, filtered", rows.mean(), other.process_slcwa_scores(positive, negative[kept], batch_filter=kept))


def test_mean_negative_sampling_is_self_adversarial_without_temperature(draws: Draws, close: Close) -> None:
    """With filtered negatives PyKEEN's is NaN at this temperature: minus infinity times 0."""
    positive, negative, _, _ = draws
    other = losses.NSSALoss(margin=2.5, adversarial_temperature=0.0)
    rows = LOSSES["ns"](margin=2.5, normalize="mean").rows(positive[:, 0], negative, None)
    close("ns, mean", rows.mean(), other.process_slcwa_scores(positive, negative))
    kept = torch.tensor([[True, False, True, True, False]]).repeat(B, 1)
    assert other.process_slcwa_scores(positive, negative[kept], batch_filter=kept).isnan()


def test_self_adversarial_against_all_entities_is_the_same(draws: Draws, close: Close) -> None:
    _, _, scores, target = draws
    rows = AgainstAll(LOSSES["sans"](margin=2.5)).rows(scores, target)
    other = losses.NSSALoss(margin=2.5).process_lcwa_scores(scores, one_hot(target, E).double())
    close("sans, one_vs_all", rows.mean(), other)


def test_a_row_without_negatives_has_no_second_term_here_and_a_constant_one_there(draws: Draws, close: Close) -> None:
    positive, negative, _, _ = draws
    none = torch.zeros(B, K, dtype=torch.bool)
    rows = LOSSES["sans"](margin=2.5).rows(positive[:, 0], negative, none.to(negative.dtype))
    other = losses.NSSALoss(margin=2.5).process_slcwa_scores(positive, negative[none], batch_filter=none)
    constant = torch.nn.functional.softplus(torch.tensor(2.5)) / 2
    close("sans, all negatives filtered, less a constant", rows.mean(), other - constant)


def test_margin_ranking_is_summed_here_and_a_mean_of_pairs_there(draws: Draws, close: Close) -> None:
    positive, negative, _, _ = draws
    rows = LOSSES["margin_ranking"](margin=1.5).rows(positive[:, 0], negative, None)
    other = losses.MarginRankingLoss(margin=1.5).process_slcwa_scores(positive, negative)
    close("margin_ranking", rows.mean(), K * other)


def test_cross_entropies_are_the_same(draws: Draws, close: Close) -> None:
    """Smoothing is spread over the other entities here and over all of them there."""
    _, _, scores, target = draws
    labels, mean = one_hot(target, E).double(), losses.CrossEntropyLoss()
    close("sce", LOSSES["sce"]().rows(scores, target).mean(), mean.process_lcwa_scores(scores, labels))
    rows = LOSSES["sce_ls"](smoothing=0.3).rows(scores, target)
    close("sce_ls", rows.mean(), mean.process_lcwa_scores(scores, labels, label_smoothing=0.3 * E / (E - 1)))
    counts = torch.arange(1, B + 1)
    weight = LOSSES["sce_bc"]().row_weights(queries=counts, answers=counts.flip(0), degrees=counts)
    rows = weight * LOSSES["sce_bc"]().rows(scores, target)
    summed, weights = losses.CrossEntropyLoss(reduction="sum"), labels * weight[:, None]
    close("sce_bc", rows.sum(), summed.process_lcwa_scores(scores, labels, weights=weights))


def test_binary_cross_entropies_are_the_same(draws: Draws, close: Close) -> None:
    _, _, scores, target = draws
    other = losses.BCEWithLogitsLoss().process_lcwa_scores(scores + 2.5, one_hot(target, E).double())
    close("bce", LOSSES["bce"](margin=2.5).rows(scores, target).mean(), E * other)
    close("ns, one_vs_all", AgainstAll(LOSSES["ns"](margin=2.5)).rows(scores, target).mean(), E * other)


def test_binary_labels_are_smoothed_by_other_formulas(draws: Draws, close: Close) -> None:
    """(1 - s) l + 1 / E here, as in ConvE; (1 - s) l + s / (E - 1) (1 - l) there. A loss is linear in its labels."""
    _, _, scores, target = draws
    labels, smoothing = one_hot(target, E).double(), 0.2
    difference = 1 / E - smoothing / (E - 1) * (1 - labels)
    rows = LOSSES["bce"](smoothing=smoothing).rows(scores, target) + (difference * scores).sum(dim=1)
    options = {"label_smoothing": smoothing, "num_entities": E}
    other = losses.BCEWithLogitsLoss().process_lcwa_scores(scores, labels, **options)
    close("bce, smoothed, with their labels", rows.mean(), E * other)


def test_losses_of_several_answers_are_the_same(draws: Draws, close: Close) -> None:
    scores, labels = draws[2], torch.zeros(B, E)
    for row in range(B):
        labels[row, torch.arange(row % 3 + 1) * 3] = 1
    row, entity = labels.nonzero().T
    counts = labels.sum(dim=1).long()
    answers = Answers(row=row, entity=entity, share=1 / counts[row], counts=counts)
    rows = LOSSES["sce"]().answer_rows(scores, answers)
    close("sce, k_vs_all", rows.mean(), losses.CrossEntropyLoss().process_lcwa_scores(scores, labels))
    rows = LOSSES["bce"]().answer_rows(scores, answers)
    close("bce, k_vs_all", rows.mean(), E * losses.BCEWithLogitsLoss().process_lcwa_scores(scores, labels))


def _step(name: str, loss: str, values: Options, rows: Tensor, *, reciprocal: bool = False) -> tuple[Any, Tensor]:
    """A model that holds the gradients of a batch, and the batch's value."""
    model = _model(name, reciprocal=reciprocal).train()
    config = graphs.config(values, model=name, loss=loss)
    return model, build_training_type(config, GRAPH, device="cpu", fused=True).backward(model, rows)


def _gradients_close(close: Close, name: str, model: AbstractModel, peer: Any, factor: float) -> None:
    """A model whose parameters are our gradients has a twin whose parameters are theirs."""
    gradients = _model(name, reciprocal=model.reciprocal)
    for mine, parameter in zip(gradients.parameters(), model.parameters(), strict=True):
        assert parameter.grad is not None
        mine.data = parameter.grad
    for mine, other in zip(twins.twin(name, gradients).parameters(), peer.parameters(), strict=True):
        close("gradients of these steps, float32", mine, factor * other.grad, tolerance=1e-5)


def _factory(*, inverse: bool = False) -> Any:
    return triples_factory.CoreTriplesFactory(GRAPH.train, E, R, create_inverse_triples=inverse)


@pytest.mark.parametrize("loss", ["sce", "sce_ls", "bce"])
@pytest.mark.parametrize("name", ["rescal", "tucker", "distmult", "complex", "cp", "transe"])
def test_a_step_of_one_vs_all_is_one_of_symmetric_lcwa(name: str, loss: str, close: Close) -> None:
    rows, smoothing = torch.arange(4, 20), 0.3 if loss == "sce_ls" else 0.0
    values = {"training.type": "one_vs_all"} | ({"loss.smoothing": smoothing} if smoothing else {})
    model, value = _step(name, loss, values, rows)
    peer = twins.twin(name, model).train()
    peer.loss = losses.BCEWithLogitsLoss() if loss == "bce" else losses.CrossEntropyLoss()
    loop = lcwa.SymmetricLCWATrainingLoop(model=peer, triples_factory=_factory())
    other = loop._process_batch((GRAPH.train[rows],), 0, len(rows), label_smoothing=smoothing * E / (E - 1))
    other.backward()
    factor = E if loss == "bce" else 1
    close(f"a step of one_vs_all, {loss}, float32", value, factor * other, tolerance=1e-5)
    _gradients_close(close, name, model, peer, factor)


@pytest.mark.parametrize("loss", ["sce", "bce"])
@pytest.mark.parametrize("name", ["distmult", "complex", "transe"])
def test_an_epoch_of_k_vs_all_is_one_of_lcwa_with_inverse_triples(name: str, loss: str, close: Close) -> None:
    """There a row is a (head, relation) of train, inverse relations included: the queries of both sides."""
    factory = _factory(inverse=True)
    queries = lcwa.LCWAInstances.from_triples_factory(factory, target=2)
    values = {"training.type": "k_vs_all", "training.query_weight": "equal"}
    model, value = _step(name, loss, values, torch.arange(len(queries)), reciprocal=True)
    peer = twins.twin(name, model).train()
    peer.loss = losses.BCEWithLogitsLoss() if loss == "bce" else losses.CrossEntropyLoss()
    loop = lcwa.LCWATrainingLoop(model=peer, triples_factory=factory)
    batch = default_collate([queries[row] for row in range(len(queries))])
    other = loop._process_batch(batch, 0, len(queries))
    other.backward()
    factor = 2 * E if loss == "bce" else 2
    close(f"an epoch of k_vs_all, {loss}, float32", value, factor * other, tolerance=1e-5)
    _gradients_close(close, name, model, peer, factor)


@pytest.mark.parametrize("loss", ["ns", "sans", "margin_ranking"])
@pytest.mark.parametrize("name", ["distmult", "complex", "transe"])
def test_a_step_of_negative_sampling_is_two_of_slcwa(name: str, loss: str, close: Close) -> None:
    """There a triple is corrupted in one slot or the other; here once in each, with a positive term for each."""
    rows, count = torch.arange(4, 20), 4
    model, value = _step(name, loss, {"negatives.tail": count}, rows)
    peer = twins.twin(name, model).train()
    peer.loss, factor = {
        "ns": (losses.BCEWithLogitsLoss(), 1 + count),
        "sans": (losses.NSSALoss(margin=0.0), 1),
        "margin_ranking": (losses.MarginRankingLoss(margin=1.0), count),
    }[loss]
    loop = slcwa.SLCWATrainingLoop(model=peer, triples_factory=_factory())
    drawn, other = generator(0, "negatives"), torch.zeros(())
    for slot in (0, 2):
        negatives = GRAPH.train[rows][:, None].repeat(1, count, 1)
        negatives[:, :, slot] = torch.randint(E, (len(rows), count), generator=drawn)
        batch = {"positives": GRAPH.train[rows], "negatives": negatives}
        other = other + loop._process_batch(batch, 0, len(rows))
    other.backward()
    close(f"a step of negative_sampling, {loss}, float32", value, factor * other, tolerance=1e-5)
    _gradients_close(close, name, model, peer, factor)


def test_every_model_has_a_twin() -> None:
    """A model that PyKEEN has not is named in docs/peers.md and left out here."""
    assert set(twins.TWINS) == set(MODELS)
