"""PyKEEN's side: its own training loops and its evaluator, as its documentation shows them. See turns.

Written for and run with 1.11.1. Constrainers and penalties that it has by default are off, except that RotatE's
relations are kept on the circle, without which it is another model.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, NSSALoss
from pykeen.models import RESCAL, ComplEx, ConvE, DistMult, Model, RotatE, TransE, TuckER
from pykeen.training import LCWATrainingLoop, SLCWATrainingLoop, SymmetricLCWATrainingLoop, TrainingLoop
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import TriplesFactory

from benchmarks.peers.turns import Job, Turns, serve

_CONVE = {"input_dropout": 0.0, "output_dropout": 0.0, "feature_map_dropout": 0.0}
_TUCKER = {"dropout_0": 0.0, "dropout_1": 0.0, "dropout_2": 0.0, "apply_batch_normalization": False}
MODELS: Mapping[str, tuple[type[Model], int, Mapping[str, Any]]] = {  # class, real numbers in one of its dim, options
    "complex": (ComplEx, 2, {"regularizer": None}),
    "distmult": (DistMult, 1, {"regularizer": None, "entity_constrainer": None}),
    "conve": (ConvE, 1, _CONVE),
    "rescal": (RESCAL, 1, {}),
    "tucker": (TuckER, 1, _TUCKER),
    "transe": (TransE, 1, {"scoring_fct_norm": 1, "entity_constrainer": None}),
    "rotate": (RotatE, 2, {}),
}
LOSSES: Mapping[str, tuple[type[Loss], Mapping[str, Any]]] = {
    "": (CrossEntropyLoss, {}),
    "sce": (CrossEntropyLoss, {}),
    "ns": (BCEWithLogitsLoss, {}),
    "sans": (NSSALoss, {"margin": 9.0}),
}
LOOPS: Mapping[str, type[TrainingLoop[Any]]] = {
    "one_vs_all": SymmetricLCWATrainingLoop,
    "k_vs_all": LCWATrainingLoop,
    "negative_sampling": SLCWATrainingLoop,
}
HELD = 64  # triples of a sub-batch: heads are scored over 64 x entities x dim numbers, 512 of them need 10 GB


class EnoughError(Exception):
    """A training has had its first batch."""


class Pace(TrainingCallback):
    """Waits for its turn before each batch; or leaves after the first."""

    def __init__(self, turns: Turns, *, once: bool) -> None:
        super().__init__()
        self._turns = turns
        self._left = 1 if once else None

    def pre_batch(self, **_: Any) -> None:
        if self._left is None:
            self._turns.begins()
        elif self._left == 0:
            raise EnoughError
        else:
            self._left -= 1


class PacedEvaluator(RankBasedEvaluator):
    """Waits for its turn before the first side of each batch is counted, which is after it is scored: once a batch."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(filtered=True)
        self._turns = turns

    def process_scores_(self, hrt_batch: Any, target: Any, *args: Any, **options: Any) -> None:
        if target == "head":
            self._turns.begins()
        super().process_scores_(hrt_batch, target, *args, **options)


def work(job: Job, turns: Turns) -> None:
    """Train or rank without end."""
    torch.manual_seed(0)
    train = factory(job, "train")
    if job["kind"] == "ranking":
        rank_forever(job, model_of(job, train), train, turns)
    while job["kind"] == "warm":
        turns.begins()
        with suppress(EnoughError):
            fit(job, train, turns)
    turns.batches = -(-rows_of(job, train) // job["batch_size"])
    fit(job, train, turns)


def fit(job: Job, train: TriplesFactory, turns: Turns) -> None:
    """A training from its model on, until it is left."""
    model = model_of(job, train)
    loop_class, extra = LOOPS[job["training"]], {}
    if job["training"] == "negative_sampling":
        extra = {"negative_sampler_kwargs": {"num_negs_per_pos": 2 * job["negatives"]}}
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    loop = loop_class(
        model=model, triples_factory=train, optimizer=optimizer, automatic_memory_optimization=False, **extra
    )
    loop.train(
        train,
        num_epochs=10**9,
        batch_size=job["batch_size"],
        sub_batch_size=min(HELD, job["batch_size"]) if job["training"] == "one_vs_all" else None,
        use_tqdm=False,
        callbacks=Pace(turns, once=job["kind"] == "warm"),
        num_workers=0,
    )


def rows_of(job: Job, train: TriplesFactory) -> int:
    """Of an epoch: triples, or distinct queries of both sides."""
    if job["training"] != "k_vs_all":
        return int(train.num_triples)
    triples = torch.as_tensor(train.mapped_triples)
    return sum(len(torch.unique(triples[:, columns], dim=0)) for columns in ([0, 1], [1, 2]))


def factory(job: Job, split: str) -> TriplesFactory:
    """A split by PyKEEN's own reader, with the ids that all have."""
    entities, relations = job["entities"], job["relations"]
    return TriplesFactory.from_path(
        Path(job["folder"]) / f"{split}.txt",
        entity_to_id={f"e{number:07}": number for number in range(entities)},
        relation_to_id={f"r{number:07}": number for number in range(relations)},
        create_inverse_triples=job["training"] in ("k_vs_all", "ranking"),
    )


def model_of(job: Job, train: TriplesFactory) -> Model:
    """Of the same size as ours."""
    class_, numbers, options = MODELS[job["model"]]
    loss, loss_options = LOSSES[job["loss"]]
    model = class_(
        triples_factory=train,
        embedding_dim=job["dim"] // numbers,
        random_seed=0,
        loss=loss(**loss_options),
        **options,
    )
    return model.to(job["device"])


def rank_forever(job: Job, model: Model, train: TriplesFactory, turns: Turns) -> None:
    """Filtered by train and valid, both sides."""
    valid = factory(job, "valid").mapped_triples
    turns.batches = -(-len(valid) // job["batch_size"])
    while True:
        PacedEvaluator(turns).evaluate(
            model,
            valid,
            batch_size=job["batch_size"],
            additional_filter_triples=[train.mapped_triples],
            use_tqdm=False,
        )


if __name__ == "__main__":
    serve(work)
