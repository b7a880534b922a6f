"""YAML with line numbers, strict records, and configurations checked down to the constructors."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kge.config import TrainingConfig
from kge.documents import (
    flatten,
    key_path,
    parse,
    parse_config,
    read,
    read_text,
    schema,
    set_path,
    to_mapping,
)
from kge.errors import ConfigError
from kge.names import unknown


def nested(**values: object) -> dict[str, Any]:
    """A small whole configuration with some paths set; a double underscore stands for the dot."""
    mapping: dict[str, Any] = {"dataset": "synthetic", "model": {"name": "distmult", "dim": 4}, "loss": {"name": "sce"}}
    for path, value in values.items():
        set_path(mapping, path.replace("__", "."), value)
    return mapping


def test_yaml_1_2_and_the_line_of_every_key() -> None:
    text = "a: 1e-4\nb: no\nc:\n  - x\n  - y: {z: 1.0,\n       w: 2}\n"
    document = read_text(text, "f.yaml")
    assert document.data == {"a": 1e-4, "b": "no", "c": ["x", {"y": {"z": 1.0, "w": 2}}]}
    assert type(document.data["a"]) is float
    assert document.text == text
    assert document.where(("c", 1, "y", "w")) == "f.yaml:6: c[1].y.w"
    assert document.where(("c", 7, "nowhere")) == "f.yaml:3: c[7].nowhere"
    assert document.where(("nowhere",)) == "f.yaml:1: nowhere"
    assert document.where(()) == "f.yaml:1"


def test_what_has_an_anchor_is_what_it_is_without() -> None:
    text = "a: &yes true\nb: *yes\nc: &one 1\nd: *one\ne: !!omap [f: 1]\n"
    data = read_text(text, "f.yaml").data
    assert data == {"a": True, "b": True, "c": 1, "d": 1, "e": {"f": 1}}
    assert {name: type(value) for name, value in data.items() if name != "e"} == {
        "a": bool,
        "b": bool,
        "c": int,
        "d": int,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1\nc: 2\n", "f.yaml:3: must be YAML: "),
        ("a: 1\nb: 2\na: 3\n", 'f.yaml:3: duplicate key "a": every key must be given once'),
        ("- 1\n", "f.yaml:1: must be a mapping of keys to values, got [1]"),
        ("", "f.yaml:1: must be a mapping of keys to values, got null"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: must be YAML: expected a single document"),
        ("a: *nobody\n", "f.yaml:1: must be YAML: "),
        ("a: !!bool x\n", "f.yaml: must be YAML: "),
        ("a: " + 3_000 * "[", "f.yaml: must be YAML: maximum recursion depth exceeded"),
        ("&a\nb: *a\n", "f.yaml: must be YAML: maximum recursion depth exceeded"),
    ],
)
def test_what_is_not_a_mapping_of_keys_names_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(text, "f.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read: No such file"):
        read(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read: not UTF-8"):
        read(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer__lr": "0.1"}, "optimizer.lr: must be a number, got '0.1'"),
        ({"optimizer__lr": True}, "optimizer.lr: must be a number, got true"),
        ({"optimizer__lr": float("inf")}, "optimizer.lr: must be a finite number, got Infinity"),
        ({"optimizer__lr": -1}, "optimizer.lr: must be > 0, got -1.0"),
        ({"optimizer__rate": 1}, "optimizer.rate: unknown key 'rate' (known: name, lr, "),
        ({"model__dim": 4.5}, "model.dim: must be an integer, got 4.5"),
        ({"model__dim": 0}, "model.dim: must be >= 1, got 0"),
        ({"model__name": "distmul"}, "model.name: unknown model 'distmul' (known: rescal, tucker,"),
        ({"model__norm": 1}, "model.norm: unknown option of model distmult: 'norm' (known: name, dim"),
        ({"model": {"name": "transe", "norm": 3}}, "model.norm: must be 1 or 2, got 3"),
        ({"model": {"name": "complex", "dim": 5}}, "model.dim: must be even for complex"),
        ({"model": {"name": ["complex"]}}, "model.name: unknown model ['complex'] (known:"),
        ({"model": "complex"}, "model: must be a mapping with a name, got 'complex'"),
        ({"model": {"dim": 5}}, "model.name: must be given (known: rescal"),
        ({"model__init__low": 2}, "model.init.low: must be < model.init.high"),
        ({"model__init__low": -1e308}, "model.init.low: must be in (-1e+38, 1e+38), got -1e+308"),
        ({"model": {"name": "conve", "dim": 8, "padding": 9}}, "model.padding: must be in 0..4 (a side of the image)"),
        ({"loss": {"name": "sces"}}, "loss.name: unknown loss 'sces' (known: ns"),
        ({"loss": {"name": "sce_ls", "smoothing": 1.5}}, "loss.smoothing: must be in [0, 1), got 1.5"),
        ({"loss": {"name": "ns", "margin": None}}, "loss.margin: must be a number, got null"),
        ({"loss": {"name": "ns", "normalize": "avg"}}, "loss.normalize: must be 'sum' or 'mean', got 'avg'"),
        ({"training__type": "negative_sampling"}, "training.type: must be one_vs_all or k_vs_all for loss sce, got"),
        (
            {"training__precision": "float16"},
            "training.precision: must be one of 'float32', 'tf32', 'bfloat16', got 'float16'",
        ),
        ({"epochs": 3}, "epochs: unknown key 'epochs' (known: dataset, seed, model"),
    ],
)
def test_a_bad_value_is_named_by_its_path(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(nested(**changes))
    assert str(caught.value).startswith(message)
    with pytest.raises(ConfigError, match=r"^f\.yaml:9: "):
        parse_config(nested(**changes), lambda loc: f"f.yaml:9: {key_path(loc)}")


def test_a_missing_part_is_named() -> None:
    mapping = nested()
    del mapping["loss"]
    with pytest.raises(ConfigError, match=r"^loss: must be a mapping with a name, got nothing$"):
        parse_config(mapping)
    with pytest.raises(ConfigError, match=r"^f\.yaml:1: dataset: must be given, got nothing$"):
        parse(TrainingConfig, read_text("model: {name: a}\nloss: {name: b}\n", "f.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: x\nmodel: {name: cp}\nloss: {name: ns}\n", "f.yaml:1: datasets: unknown key 'datasets' (known:"),
        ("dataset: x\nloss: {name: ns}\nmodle: {name: cp}\n", "f.yaml:3: modle: unknown key 'modle' (known: dataset,"),
        ("dataset: x\nmodel: {dim: 4,\n  nam: cp}\n", "f.yaml:3: model.nam: unknown key 'nam' (known: name, dim,"),
        ("model: {norm: 1}\noptimizer:\n  rl: 1\n", "f.yaml:3: optimizer.rl: unknown key 'rl' (known: name, lr,"),
        ("model: {norm: 1}\ndataset: {a: 1}\n", "f.yaml:1: model.name: must be given (known: rescal,"),
        ("model: {name: cp, init: {sdt: 1}}\nloss: {name: ns}\n", "f.yaml:1: model.init.sdt: unknown key 'sdt'"),
    ],
)
def test_a_key_that_is_none_comes_before_one_that_is_missing(text: str, message: str) -> None:
    document = read_text(text, "f.yaml")
    with pytest.raises(ConfigError) as caught:
        parse_config(document.data, document.where)
    assert str(caught.value).startswith(message)


def test_options_get_their_constructors_defaults_and_numbers_their_type() -> None:
    config = parse_config(nested(loss={"name": "sans", "margin": 9}, optimizer__lr=1))
    assert config.loss.options == {"margin": 9.0, "temperature": 1.0, "subsampling": "none", "alpha": 0.5}
    assert type(config.loss.options["margin"]) is float
    assert type(config.optimizer.lr) is float


def test_checking_a_huge_model_needs_no_memory() -> None:
    config = parse_config(nested(model={"name": "tucker", "dim": 20_000}))
    assert config.model.options == {"relation_dim": None}


@given(
    dim=st.integers(1, 8).map(lambda half: 2 * half),
    model=st.sampled_from(["rescal", "tucker", "distmult", "complex", "transe", "rotate"]),
    loss=st.sampled_from(["ns", "ns_freq", "sans", "sce", "sce_ls", "sce_bc"]),
    lr=st.floats(1e-6, 10),
)
def test_a_configuration_survives_every_form(dim: int, model: str, loss: str, lr: float) -> None:
    config = parse_config(nested(model={"name": model, "dim": dim}, loss={"name": loss}, optimizer__lr=lr))
    mapping = to_mapping(config)
    assert parse_config(mapping) == config
    again: dict[str, Any] = {}
    for path, value in flatten(mapping).items():
        set_path(again, path, value)
    assert again == mapping


def test_set_path_refuses_a_path_through_a_value() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.lr\.x: lr must be a mapping, got 0\.1$"):
        set_path({"optimizer": {"lr": 0.1}}, "optimizer.lr.x", 1)


def test_unknown_names() -> None:
    assert unknown("loss", "scs", ["ns", "sce"]) == "unknown loss 'scs' (known: ns, sce; did you mean 'sce'?)"
    assert unknown("loss", "zzz", []) == "unknown loss 'zzz' (known: none)"
    assert ", ...; did you mean 'n99'?)" in unknown("name", "n999", [f"n{i}" for i in range(100)])


def test_the_schema_lists_the_keys() -> None:
    assert {"dataset", "model", "loss", "optimizer"} <= schema(TrainingConfig)["properties"].keys()
