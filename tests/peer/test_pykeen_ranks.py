"""PyKEEN's evaluator beside ours: the same parameters give the same ranks and metrics, ties and filters included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kge import catalog
from kge.data import Dataset
from kge.errors import DivergenceError
from kge.evaluation import rank
from kge.filters import filter_from
from kge.fitting import BEST, fit, load_model
from kge.metrics import metrics
from kge.models.base import AbstractModel
from tests.kge import graphs
from tests.peer.shared import ABSENT, GRAPH, Close

evaluation = pytest.importorskip("pykeen.evaluation", reason=ABSENT)
twins = pytest.importorskip("tests.peer.twins", reason=ABSENT)

pytestmark = pytest.mark.peer

SYNTHETIC = catalog.load("synthetic")
E, R = GRAPH.num_entities, GRAPH.num_relations
FILTERS = {"valid": ("train", "valid"), "test": ("train", "valid", "test")}
METRICS = {
    "mrr": "both.realistic.inverse_harmonic_mean_rank",
    "mrr_optimistic": "both.optimistic.inverse_harmonic_mean_rank",
    "mrr_pessimistic": "both.pessimistic.inverse_harmonic_mean_rank",
    "hits_at_1": "both.realistic.hits_at_1",
    "hits_at_3": "both.realistic.hits_at_3",
    "hits_at_10": "both.realistic.hits_at_10",
    "mean_rank": "both.realistic.arithmetic_mean_rank",
    "amri": "both.realistic.adjusted_arithmetic_mean_rank_index",
    "adjusted_mrr": "both.realistic.adjusted_inverse_harmonic_mean_rank",
    "mrr_head": "head.realistic.inverse_harmonic_mean_rank",
    "mrr_tail": "tail.realistic.inverse_harmonic_mean_rank",
}
EXACT: dict[str, dict[str, Any]] = {
    "rescal": {},
    "tucker": {"relation_dim": 3},
    "distmult": {},
    "complex": {},
    "cp": {},
    "simple": {},
    "conve": {"padding": 0, "batch_norm": False},
    "transe": {"norm": 1},
}


def _evaluate(peer: Any, triples: Tensor, known: list[Tensor]) -> tuple[Any, dict[str, float]]:
    """The evaluator with its ranks, and its metrics."""
    evaluator = evaluation.RankBasedEvaluator(clear_on_finalize=False)
    found = evaluator.evaluate(peer, triples, batch_size=64, additional_filter_triples=known, use_tqdm=False)
    return evaluator, found.to_flat_dict()


def _metrics_close(close: Close, kind: str, model: AbstractModel, peer: Any, graph: Dataset, split: str) -> None:
    """Every metric; of exact scores every rank too."""
    triples, filters = graph.split(split), FILTERS[split]
    ranks = rank(model, triples, filter_from(graph, filters), block_size=64)
    evaluator, found = _evaluate(peer, triples, [graph.split(each) for each in filters])
    for metric, value in metrics(ranks).items():
        # Trained scores of float32 may differ in their last digit and change places, as one rank in a thousand does.
        tolerance = 5e-5 if kind == "trained" else 1e-6
        close(f"{metric}, {kind} scores", value, found[METRICS[metric]], tolerance=tolerance)
    for side in ranks if kind == "exact" else ():
        assert np.concatenate(evaluator.num_candidates[side.side]).tolist() == side.candidates.tolist()
        for which in ("optimistic", "realistic", "pessimistic"):
            assert np.concatenate(evaluator.ranks[side.side, which]).tolist() == getattr(side, which).tolist()


@pytest.mark.parametrize("split", FILTERS)
@pytest.mark.parametrize("graph", [GRAPH, SYNTHETIC], ids=["random", "synthetic"])
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_scores_full_of_ties_are_ranked_alike(
    name: str, reciprocal: bool, graph: Dataset, split: str, close: Close
) -> None:
    """Parameters of -1, 0 and 1 make scores that neither library rounds."""
    sizes = {"entities": graph.num_entities, "relations": graph.num_relations, "dim": 8}
    model = graphs.build(name, **sizes, reciprocal=reciprocal, **EXACT[name]).eval()
    for parameter in model.parameters():
        parameter.data.random_(-1, 2, generator=torch.Generator().manual_seed(7))
    peer = twins.twin(name, model)
    if name == "simple":
        peer = twins.with_tails_exchanged(peer)
    _metrics_close(close, "exact", model, peer, graph, split)


TRAINED = {  # every model, every loss
    "rescal": "sce_ls",
    "tucker": "bce",
    "distmult": "sce_bc",
    "complex": "sce",
    "cp": "ns",
    "simple": "tans",
    "conve": "bce",
    "transe": "sans",
    "rotate": "ns_freq",
}
SIZES = {"rotate": 2}  # of one complex number, PyKEEN's norm of the moduli is our sum of them


@pytest.mark.parametrize("split", FILTERS)
@pytest.mark.parametrize(("name", "loss"), [*TRAINED.items(), ("complex", "margin_ranking")])
def test_a_checkpoint_is_ranked_alike(name: str, loss: str, split: str, tmp_path: Path, close: Close) -> None:
    values = {"model.dim": SIZES.get(name, 16), "training.batch_size": 128}
    values |= {f"model.{option}": value for option, value in EXACT.get(name, {}).items()}
    values |= {"model.reciprocal": name == "conve", "optimizer.name": "adam", "optimizer.lr": 0.01}
    config = graphs.config(values, model=name, loss=loss, name="synthetic")
    assert len(list(fit(config, SYNTHETIC.sealed(), directory=tmp_path))) == config.training.max_epochs
    model, _ = load_model(tmp_path / BEST, SYNTHETIC)
    peer = twins.twin(name, model)
    peer = twins.with_tails_exchanged(peer) if name == "simple" else peer
    _metrics_close(close, "trained", model, peer, SYNTHETIC, split)


def _free_scores(values: Tensor) -> tuple[AbstractModel, Any]:
    model = graphs.free_scores(values)
    return model, twins.twin("rescal", model)


def test_their_filter_always_holds_the_ranked_triples() -> None:
    """Here only the splits that are named: without valid, its other answers are candidates."""
    model, peer = _free_scores(torch.randint(4, (R, E, E), generator=torch.Generator().manual_seed(2)).float())
    _, found = _evaluate(peer, GRAPH.valid, [GRAPH.train])
    without, with_valid = (
        metrics(rank(model, GRAPH.valid, filter_from(GRAPH, splits), block_size=8))["mrr"]
        for splits in (("train",), ("train", "valid"))
    )
    assert found[METRICS["mrr"]] == pytest.approx(with_valid, abs=1e-6)
    assert without < with_valid


def test_their_evaluator_cannot_rank_without_a_filter() -> None:
    _, peer = _free_scores(torch.zeros(R, E, E))
    with pytest.raises(ValueError, match="needs the true scores"):
        evaluation.RankBasedEvaluator(filtered=False).evaluate(peer, GRAPH.valid, batch_size=64, use_tqdm=False)


def test_a_score_that_is_no_number_is_an_error_here_and_ranks_before_the_first_there() -> None:
    """Nothing exceeds NaN and nothing equals it, the answer included."""
    model, peer = _free_scores(torch.full((R, E, E), float("nan")))
    with pytest.raises(DivergenceError):
        rank(model, GRAPH.valid, filter_from(GRAPH, ("train", "valid")), block_size=8)
    scores = peer.predict_t(GRAPH.valid[:, :2])
    found = evaluation.ranks.Ranks.from_scores(true_score=scores[:, :1], all_scores=scores)
    assert set(found.realistic.tolist()) == {0.5}
