"""Starting from the tables of another training: by name, whole, with everything else new."""

from pathlib import Path

import pytest
import torch

from kge import checkpoint
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.errors import CheckpointError
from kge.fitting import BEST, LAST, fit
from kge.pretraining import copy_tables
from kge.training import Training
from tests.kge import graphs

GRAPH = graphs.random_graph()


def _trained(directory: Path, paths: dict[str, object] | None = None, **names: str) -> Path:
    list(fit(graphs.config(paths, **names), GRAPH, directory=directory))
    return directory / BEST


def _started(source: Path, paths: dict[str, object] | None = None, **names: str) -> Training:
    training = Training(graphs.config(paths, **names), GRAPH)
    copy_tables(source, training.model, GRAPH)
    return training


@pytest.mark.parametrize("file", [BEST, LAST])
@pytest.mark.parametrize("reciprocal", [False, True])
def test_both_tables_are_copied_with_the_reciprocal_relations(file: str, reciprocal: bool, tmp_path: Path) -> None:
    paths: dict[str, object] = {"model.reciprocal": reciprocal}
    _trained(tmp_path, paths, loss="sce_bc")
    content = checkpoint.load(tmp_path / file)
    saved = content["model"] if file == BEST else content["training"]["model"]
    model = _started(tmp_path / file, paths, loss="sce_ls").model
    assert torch.equal(model.entities, saved["entities"])
    assert torch.equal(model.relations, saved["relations"])
    assert len(model.relations) == GRAPH.num_relations * (2 if reciprocal else 1)


def test_further_parameters_start_anew(tmp_path: Path) -> None:
    source = _trained(tmp_path, model="tucker")
    fresh = Training(graphs.config(model="tucker"), GRAPH).model.state_dict()
    started = _started(source, model="tucker").model.state_dict()
    assert torch.equal(started["core"], fresh["core"])
    assert not torch.equal(started["entities"], fresh["entities"])


def test_fit_starts_from_the_tables_with_a_fresh_optimizer(tmp_path: Path) -> None:
    source = _trained(tmp_path / "source", {"training.max_epochs": 8}, loss="sce_bc")
    paths = {"pretrain.checkpoint": str(source), "optimizer": {"name": "sgd", "lr": 1e-12}}
    (first, *_) = fit(graphs.config(paths, loss="sce_ls"), GRAPH, directory=None)
    training = _started(source, loss="sce_ls")
    assert first.loss == pytest.approx(next(training.epochs()).loss, rel=0.2)
    (cold, *_) = fit(graphs.config(paths | {"pretrain.checkpoint": None}, loss="sce_ls"), GRAPH, directory=None)
    assert first.mrr > cold.mrr
    assert training._optimizer.state_dict()["state"][0]["step"] > 0
    assert float(_started(source)._optimizer.state_dict()["state"][0]["step"]) == 0


def test_a_resumed_training_does_not_start_again(tmp_path: Path) -> None:
    source = _trained(tmp_path / "source")

    def config(directory: Path) -> TrainingConfig:
        return graphs.config({"pretrain.checkpoint": str(source), "training.max_epochs": 4})

    *_, straight = fit(config(tmp_path), GRAPH, directory=tmp_path / "straight")
    validations = fit(config(tmp_path), GRAPH, directory=tmp_path / "pieces")
    next(validations)
    validations.close()  # type: ignore[attr-defined]
    source.unlink()  # not needed any more
    *_, resumed = fit(config(tmp_path), GRAPH, directory=tmp_path / "pieces")
    assert (resumed.loss, resumed.mrr) == (straight.loss, straight.mrr)


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ({"model.dim": 6}, r"entities must be 10 x 6 as here \(model\.dim, model\.reciprocal\), got 10 x 8$"),
        ({"model.reciprocal": True}, r"relations must be 6 x 8 as here \(.*\), got 3 x 8$"),
    ],
)
def test_tables_of_another_shape_are_refused(paths: dict[str, object], sentence: str, tmp_path: Path) -> None:
    source = _trained(tmp_path)
    with pytest.raises(CheckpointError, match=rf"^{source}: {sentence}"):
        _started(source, paths)


def test_tables_of_another_graph_are_refused(tmp_path: Path) -> None:
    source = _trained(tmp_path)
    other: Dataset = graphs.ring()
    model = Training(graphs.config(), other).model
    with pytest.raises(CheckpointError, match=r"must be of data set \w+ \(toy\), got \w+$"):
        copy_tables(source, model, other)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    config = graphs.config({"pretrain.checkpoint": str(tmp_path / "none.pt")})
    with pytest.raises(CheckpointError, match=r"none\.pt: must be a checkpoint, but it does not exist$"):
        next(fit(config, GRAPH, directory=None))
