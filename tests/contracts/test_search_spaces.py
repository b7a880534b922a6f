"""Every registered model and loss has a space; every space is of a registered one and builds."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kge.documents import read
from kge.losses import LOSSES
from kge.models import MODELS
from study import seeds
from study.config import StudyConfig, parse_study
from study.paths import paths
from study.records import Dimension
from study.resources import resource_folder
from study.space import Space, compose_all

FOLDER = resource_folder("search_spaces")
SETTINGS = Path(__file__).resolve().parents[3] / "shared" / "spec" / "settings.json"


def everything() -> StudyConfig:
    """The study of all models and all losses."""
    models, losses = ", ".join(MODELS), ", ".join(LOSSES)
    text = f"name: all\ndataset: synthetic\narms: {{models: [{models}], losses: [{losses}]}}\nbudget: {{trials: 1}}\n"
    return parse_study(text, "all.yaml")


@pytest.fixture(scope="module")
def spaces() -> dict[str, Space]:
    return compose_all(everything())


@pytest.mark.parametrize(("kind", "registry"), [("models", MODELS), ("losses", LOSSES)])
def test_one_file_for_each_registered_name_and_no_other(kind: str, registry: dict[str, type]) -> None:
    assert sorted(file.name for file in (FOLDER / kind).iterdir()) == sorted(f"{name}.yaml" for name in registry)


def test_no_other_file() -> None:
    assert sorted(each.name for each in FOLDER.iterdir()) == ["README.md", "base.yaml", "losses", "models"]


@pytest.mark.parametrize("name", MODELS)
def test_every_option_of_a_model_is_decided(name: str, spaces: dict[str, Space]) -> None:
    decided_everywhere(spaces, name, paths(name, "sce") - paths("distmult", "sce"))


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_of_a_loss_is_decided(name: str, spaces: dict[str, Space]) -> None:
    decided_everywhere(spaces, name, paths("distmult", name) - paths("distmult", "sce"))


def decided_everywhere(spaces: dict[str, Space], name: str, own: frozenset[str]) -> None:
    """A new option of a model or loss needs a line in its space."""
    for arm, space in spaces.items():
        if name in arm.split("."):
            assert own <= {each.path for each in space.tuned} | dict(space.fixed).keys()


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_key_says_what_it_does(file: Path) -> None:
    document = read(file)
    lines = document.text.splitlines()
    assert lines[0].startswith("# ")
    for path in document.data:
        assert lines[document.lines[path,] - 2].startswith("# "), path


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
@given(seed=st.integers(0, 2**31))
def test_whatever_is_drawn_is_a_configuration(spaces: dict[str, Space], model: str, loss: str, seed: int) -> None:
    space = spaces[f"{model}.{loss}"]
    mapping = space.config(space.draw(lambda path: seeds.uniform(seed, 0, path)), seed)
    assert mapping["model"]["name"] == model
    assert mapping["training"]["type"] == LOSSES[loss].training_types[0]


# -- the published settings lie inside ---------------------------------------------------------------

NAMES = {"ns_w_uni": "ns", "ns_w_freq": "ns_freq", "sce_w_bc": "sce_bc", "sce_w_ls": "sce_ls"}  # the others are ours
PENALTIES = {"entity_embedder": "regularizer.entity_weight", "relation_embedder": "regularizer.relation_weight"}


def published() -> list[Any]:
    return json.loads(SETTINGS.read_text()) if SETTINGS.is_file() else []


def settings(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a published setting says, by path; values that it does not use are left out."""
    yield "model.dim", record["dim_entity"]
    yield "optimizer.lr", record["lr"]
    yield "optimizer.name", record["optimizer"].lower()
    yield "training.batch_size", record["batch_size"]
    yield "model.reciprocal", record["reciprocal"]
    yield "model.dropout.entity", record["dropout_entity"]
    yield "model.dropout.relation", record["dropout_relation"]
    yield "training.max_epochs", 400
    for part, path in PENALTIES.items():
        if record[part]["reg_active"]:
            yield path, record[part]["reg_weight"]
            yield "regularizer.p", record[part]["reg_p"]
            yield "regularizer.weighted", record[part]["reg_weighted"]
    if record["train_type"] == "negative_sampling":
        yield "negatives.head", record["num_neg_s"]
        yield "negatives.tail", record["num_neg_o"]
    if record["lr_patience_validations"] < 1000:
        yield "schedule.patience", record["lr_patience_validations"]
    yield from init(record["entity_embedder"])
    yield from loss_options(record)


def init(embedder: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "model.init.name", embedder["init"].removesuffix("_")
    if embedder["init"] == "normal_":
        yield "model.init.std", embedder["init_args"]["std"]
    if embedder["init"] == "uniform_":
        yield "model.init.low", embedder["init_args"]["a"]


def loss_options(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if record["loss_arg_used"]:
        yield "loss.margin", record["loss_arg"]
    if record["temperature"] is not None:
        yield "loss.temperature", record["temperature"]
    if record["label_smoothing"]:
        yield "loss.smoothing", record["label_smoothing"]
    if record["l_norm"] is not None and record["model"] == "TransE":
        yield "model.norm", int(record["l_norm"])


def contains(each: Dimension, value: Any) -> bool:
    if each.kind == "categorical":
        return value in each.choices
    assert each.low is not None
    assert each.high is not None
    return each.low <= value <= each.high or math.isclose(value, each.high)


@pytest.mark.skipif(not SETTINGS.is_file(), reason="the published settings are not beside this checkout")
def test_the_published_settings_lie_inside(spaces: dict[str, Space]) -> None:
    outside = []
    for record in published():
        space = spaces[f"{record['model'].lower()}.{NAMES.get(record['loss_key'], record['loss_key'])}"]
        tuned, fixed = {each.path: each for each in space.tuned}, dict(space.fixed)
        for path, value in settings(record):
            inside = contains(tuned[path], value) if path in tuned else fixed.get(path) == value
            if not inside:
                outside.append((record["file"], path, value))
    assert not outside, os.linesep.join(map(str, outside))
