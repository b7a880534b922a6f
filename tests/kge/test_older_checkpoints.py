"""Checkpoints that were written before an option existed go on as if it had been left at its default."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kge import checkpoint, cli
from kge.config import restore
from kge.data import SPLITS
from kge.errors import CheckpointError
from kge.fitting import LAST, fit, load_model
from tests.kge import graphs

GRAPH = graphs.ring()
# What the first released configuration had: no auxiliary task, no pretraining, fewer keys elsewhere.
NEWER = {
    "training": ("query_weight", "capture"),
    "optimizer": ("entity_factor", "relation_factor", "weight_decay", "momentum", "max_norm"),
    "schedule": ("warmup", "final", "cooldown"),
    "regularizer": ("weight", "entity_share"),
}


def _age(mapping: dict[str, Any]) -> None:
    """Take out what is newer, in place."""
    del mapping["auxiliary"], mapping["pretrain"]
    for part, keys in NEWER.items():
        for key in keys:
            del mapping[part][key]
    for option in ("subsampling", "alpha"):
        mapping["loss"]["options"].pop(option, None)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path)
    mapping = json.loads(content["config"])
    change(mapping)
    content["config"] = json.dumps(mapping, sort_keys=True)
    torch.save(content, path)


@pytest.mark.parametrize("loss", ["sce_ls", "sans"])
def test_an_older_checkpoint_is_continued(loss: str, tmp_path: Path) -> None:
    config = graphs.config({"training.max_epochs": 2}, loss=loss)
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, max_epochs=4))
    list(fit(config, GRAPH, directory=tmp_path))
    *_, straight = fit(longer, GRAPH, directory=None)
    _rewrite(tmp_path / LAST, _age)
    assert checkpoint.config_of(checkpoint.load(tmp_path / LAST)).optimizer == config.optimizer
    *_, resumed = fit(longer, GRAPH, directory=tmp_path)
    assert (resumed.epoch, resumed.loss) == (4, straight.loss)


@pytest.mark.parametrize(
    ("paths", "difference"),
    [
        ({"optimizer.entity_factor": 2.0}, r"optimizer\.entity_factor is 1\.0 there and 2\.0 here"),
        ({"auxiliary.relation_weight": 0.1}, r"auxiliary\.relation_weight is 0\.0 there and 0\.1 here"),
        ({"pretrain.checkpoint": "x.pt"}, r"pretrain\.checkpoint is null there and 'x\.pt' here"),
        ({"loss.subsampling": "freq"}, r"loss\.options\.subsampling is 'none' there and 'freq' here"),
    ],
)
def test_what_is_no_default_is_still_another_configuration(
    paths: dict[str, object], difference: str, tmp_path: Path
) -> None:
    list(fit(graphs.config(loss="sans"), GRAPH, directory=tmp_path))
    _rewrite(tmp_path / LAST, _age)
    with pytest.raises(CheckpointError, match=rf"must be of the same configuration; {difference}$"):
        next(fit(graphs.config(paths, loss="sans"), GRAPH, directory=tmp_path))


def test_every_newer_key_may_be_missing() -> None:
    config = graphs.config({"negatives": {"head": 3, "tail": None}}, model="transe", loss="ns")
    mapping = dataclasses.asdict(config)
    _age(mapping)
    del mapping["loss"]["options"], mapping["seed"], mapping["model"]["init"]
    restored = restore(mapping)
    assert restored.negatives.head == 3
    assert (restored.seed, restored.optimizer) == (0, config.optimizer)


def test_a_key_of_a_later_version_is_refused(tmp_path: Path) -> None:
    list(fit(graphs.config(), GRAPH, directory=tmp_path))
    _rewrite(tmp_path / LAST, lambda mapping: mapping["optimizer"].update(lookahead=5))
    with pytest.raises(CheckpointError, match=r"last\.pt: must be of this version or an older one, got .*'lookahead'"):
        checkpoint.load(tmp_path / LAST, config=graphs.config())


@pytest.mark.parametrize(
    ("change", "said"),
    [({"name": "later"}, "'later'"), ({"options": {"lookahead": 5}}, ".*unexpected keyword argument 'lookahead'")],
)
def test_a_model_of_a_later_version_is_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    list(fit(graphs.config(), GRAPH, directory=tmp_path))
    _rewrite(tmp_path / LAST, lambda mapping: mapping["model"].update(change))
    with pytest.raises(CheckpointError, match=rf"last\.pt: must be of this version or an older one, got {said}$"):
        load_model(tmp_path / LAST, GRAPH)


def test_the_end_of_a_cosine_is_part_of_the_configuration(tmp_path: Path) -> None:
    cosine = {"schedule.name": "cosine", "training.max_epochs": 2}
    list(fit(graphs.config(cosine), GRAPH, directory=tmp_path))
    with pytest.raises(CheckpointError, match=r"training\.max_epochs is 2 there and 3 here$"):
        next(fit(graphs.config(cosine | {"training.max_epochs": 3}), GRAPH, directory=tmp_path))


def test_a_curve_from_before_a_metric_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {name: graphs.named([tuple(row) for row in GRAPH.split(name).tolist()]) for name in SPLITS}
    graphs.write_folder(tmp_path / "graph", splits)
    (tmp_path / "small.yaml").write_text(
        "{dataset: graph, model: {name: complex, dim: 8}, loss: {name: sce}, validation: {every: 1}}"
    )
    monkeypatch.chdir(tmp_path)
    train = ["train", "small.yaml", "--directory", "x", "--set"]
    cli.kge.main([*train, "training.max_epochs=1"], standalone_mode=False)
    content = torch.load(tmp_path / "x" / LAST)
    for validation in content["curve"]:
        del validation["metrics"]["amri"], validation["metrics"]["adjusted_mrr"]
    torch.save(content, tmp_path / "x" / LAST)
    cli.kge.main([*train, "training.max_epochs=2"], standalone_mode=False)
    with (tmp_path / "x" / "curve.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["epoch"], first["amri"], second["epoch"]) == ("1", "", "2")
    assert float(second["amri"]) <= 1
