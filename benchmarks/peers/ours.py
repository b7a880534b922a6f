"""Our side: what `Training` and `rank` do, batch by batch. See turns."""

from collections.abc import Mapping

from benchmarks.peers.turns import Job, Turns, serve
from kge.building import build_model
from kge.catalog import load
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.documents import parse_config
from kge.evaluation import rank
from kge.filters import filter_from
from kge.training import Training

OPTIONS: Mapping[str, Mapping[str, object]] = {"conve": {"padding": 0, "feature_dropout": 0.0, "hidden_dropout": 0.0}}


def work(job: Job, turns: Turns) -> None:
    """Train or rank without end."""
    dataset = load(job["folder"]).sealed()
    config = config_of(job)
    ways = {"ranking": rank_forever, "warm": start_forever}
    ways.get(job["kind"], train_forever)(config, dataset, job["device"], turns)


def config_of(job: Job) -> TrainingConfig:
    """The case as a training of ours."""
    return parse_config(
        {
            "dataset": job["folder"],
            "model": {"name": job["model"], "dim": job["dim"], **OPTIONS.get(job["model"], {})},
            "loss": {"name": job["loss"] or "sce"},
            "training": {
                "type": None if job["training"] == "ranking" else job["training"],
                "batch_size": job["batch_size"],
                "precision": job["precision"],
                "query_weight": "equal" if job["training"] == "k_vs_all" else None,  # as the others weigh
            },
            "negatives": {"tail": job["negatives"] or 1},
            "optimizer": {"name": "adagrad", "lr": 0.1},
            "schedule": {"name": "none"},
        }
    )


def train_forever(config: TrainingConfig, dataset: Dataset, device: str, turns: Turns) -> None:
    """Epochs; what lies between two of them counts to the first batch of the next."""
    training = Training(config, dataset, device=device)
    turns.batches = training.batches
    turns.begins()
    while True:
        for _ in training.steps():
            turns.begins()


def start_forever(config: TrainingConfig, dataset: Dataset, device: str, turns: Turns) -> None:
    """A new model, its optimizer and its first batch, again and again."""
    while True:
        turns.begins()
        next(Training(config, dataset, device=device).steps())


def rank_forever(config: TrainingConfig, dataset: Dataset, device: str, turns: Turns) -> None:
    """The whole validation split a batch: repeated queries are scored once."""
    model = build_model(config, num_entities=dataset.num_entities, num_relations=dataset.num_relations).to(device)
    known, valid = filter_from(dataset, ("train", "valid"), device), dataset.valid.to(device)
    while True:
        turns.begins()
        rank(model, valid, known, block_size=config.validation.block_size)


if __name__ == "__main__":
    serve(work)
