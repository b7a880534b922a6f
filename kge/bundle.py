"""A model with the graph that it was trained on: one folder that answers queries wherever it is copied to.

    model/    as `kge export` writes it
    graph/    a folder of triples like any other: train, valid, test, columns.txt, labels where there are some

The graph is there for its known answers, which predictions are marked with.
"""

from pathlib import Path

from kge.data import Dataset
from kge.exchange import export_model, read_model
from kge.folders import read_folder, write_folder
from kge.labels import Labels, read_labels, write_labels
from kge.predict import Predictor

_MODEL, _GRAPH = "model", "graph"


def write_bundle(checkpoint: Path, dataset: Dataset, labels: Labels, folder: Path) -> None:
    """Write a checkpoint's model and its graph into a folder, which must not exist yet."""
    folder.mkdir(parents=True)
    export_model(checkpoint, dataset, folder / _MODEL)
    write_folder(dataset, folder / _GRAPH)
    entities = {name: labels.entities[name] for name in dataset.entities if name in labels.entities}
    write_labels(Labels(entities=entities, relations=labels.relations), folder / _GRAPH)


def read_bundle(folder: Path, *, device: str = "cpu") -> Predictor:
    """What answers queries; CheckpointError or DataError when the folder is not whole."""
    dataset = read_folder(folder / _GRAPH)
    return Predictor(read_model(folder / _MODEL, dataset).to(device), dataset, read_labels(folder / _GRAPH))
