"""Our side: what `Training` and `rank` do, batch by batch. See turns."""

from benchmarks.peers.turns import Job, Turns, serve
from kge.building import build_model
from kge.catalog import load
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.documents import parse_config
from kge.evaluation import rank
from kge.filters import filter_from
from kge.training import Training


def work(job: Job, turns: Turns) -> None:
    """Train or rank without end."""
    dataset = load(job["folder"]).sealed()
    config = config_of(job)
    (rank_forever if job["kind"] == "ranking" else train_forever)(config, dataset, job["device"], turns)


def config_of(job: Job) -> TrainingConfig:
    """The case as a training of ours."""
    return parse_config(
        {
            "dataset": job["folder"],
            "model": {"name": job["model"], "dim": job["dim"]},
            "loss": {"name": job["loss"] or "sce"},
            "training": {
                "type": None if job["kind"] == "ranking" else job["kind"],
                "batch_size": job["batch_size"],
                "precision": job["precision"],
                "query_weight": "equal" if job["kind"] == "k_vs_all" else None,  # as the others weigh
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


def rank_forever(config: TrainingConfig, dataset: Dataset, device: str, turns: Turns) -> None:
    """The whole validation split a batch: repeated queries are scored once."""
    model = build_model(config, num_entities=dataset.num_entities, num_relations=dataset.num_relations).to(device)
    known, valid = filter_from(dataset, ("train", "valid"), device), dataset.valid.to(device)
    while True:
        turns.begins()
        rank(model, valid, known, block_size=config.validation.block_size)


if __name__ == "__main__":
    serve(work)
