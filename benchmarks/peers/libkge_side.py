"""LibKGE's side: its jobs, from the `kge` package of the checkout that PYTHONPATH names. See turns.

Written against the public interface of https://github.com/uma-pi1/kge: Config, Dataset.create and run() of its jobs,
whose batches all come from a DataLoader. Nobody has run it yet: there was no checkout.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kge.job import EvaluationJob, TrainingJob
from kge.model import KgeModel
from torch.utils.data import DataLoader

from benchmarks.peers.turns import Job, Turns, serve
from kge import Config, Dataset

TYPES = {"one_vs_all": "1vsAll", "k_vs_all": "KvsAll", "negative_sampling": "negative_sampling"}
LOSSES = {"sce": "kl", "ns": "bce", "sans": "bce_self_adversarial", "": "kl"}


def work(job: Job, turns: Turns) -> None:
    """Train or rank without end."""
    if job["kind"] == "warm" or job["model"] == "conve":
        raise NotImplementedError("this case is not written for LibKGE")
    graph = Path(job["folder"]) / "libkge"
    if not graph.is_dir():  # later starts find it, and what LibKGE keeps beside
        write_graph(job, graph)
    case = Path.cwd() / "case.yaml"
    case.write_text(json.dumps(options(job)))  # JSON is YAML
    config = Config(folder=str(case.with_name("run")))
    config.load(str(case))
    config.init_folder()
    dataset = Dataset.create(config, folder=str(graph))
    pace(turns)
    if job["kind"] == "ranking":
        model = KgeModel.create(config, dataset).to(job["device"])
        while True:
            EvaluationJob.create(config, dataset, model=model).run()
    TrainingJob.create(config, dataset).run()


def pace(turns: Turns) -> None:
    """Have every loader wait for its turn before each batch; of hooks, a ranking has none in older checkouts."""
    batches_of = DataLoader.__iter__

    def batches(loader: DataLoader[Any]) -> Iterator[Any]:
        turns.batches = len(loader)
        for batch in batches_of(loader):
            turns.begins()
            yield batch

    DataLoader.__iter__ = batches  # type: ignore[assignment,method-assign]


def options(job: Job) -> dict[str, Any]:
    """The case as a configuration."""
    model = "relational_tucker3" if job["model"] == "tucker" else job["model"]
    found: dict[str, Any] = {
        "job": {"type": "eval" if job["kind"] == "ranking" else "train", "device": job["device"]},
        "dataset": {"name": "benchmark"},
        "model": model,
        "lookup_embedder": {"dim": job["dim"], "regularize": ""},
        "train": {
            "type": TYPES.get(job["kind"], "1vsAll"),
            "batch_size": job["batch_size"],
            "loss": LOSSES[job["loss"]],
            "max_epochs": 10**6,
        },
        "valid": {"every": 0},
        "eval": {"batch_size": job["batch_size"], "split": "valid"},
        "console": {"quiet": True},
    }
    if job["kind"] == "negative_sampling":
        count = job["negatives"]
        way = "triple" if job["model"] == "rotate" else "auto"  # its own choice needs 8.5 GB for RotatE
        found["negative_sampling"] = {"num_samples": {"s": count, "p": 0, "o": count}, "implementation": way}
    if job["model"] == "rotate":
        found["entity_ranking"] = {"chunk_size": 500}
    return found


def write_graph(job: Job, folder: Path) -> None:
    """The graph in LibKGE's files, as its preprocessing would leave them."""
    folder.mkdir()
    for split in ("train", "valid", "test"):
        lines = (Path(job["folder"]) / f"{split}.txt").read_text().splitlines()
        triples = ([str(int(name[1:])) for name in line.split("\t")] for line in lines)
        (folder / f"{split}.del").write_text("".join("\t".join(triple) + "\n" for triple in triples))
    files: dict[str, Any] = {
        split: {"filename": f"{split}.del", "type": "triples", "split_type": split}
        for split in ("train", "valid", "test")
    }
    for what, count in (("entity", job["entities"]), ("relation", job["relations"])):
        (folder / f"{what}_ids.del").write_text("".join(f"{number}\t{what}{number}\n" for number in range(count)))
        files[f"{what}_ids"] = {"filename": f"{what}_ids.del", "type": "map"}
    sizes = {"num_entities": job["entities"], "num_relations": job["relations"]}
    content = {"dataset": {"name": "benchmark", **sizes, "files": files}}
    (folder / "dataset.yaml").write_text(json.dumps(content))


if __name__ == "__main__":
    serve(work)
