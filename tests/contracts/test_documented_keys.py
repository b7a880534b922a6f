"""docs/keys.md has every key of a study file and of a training, each with its default, and no other."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kge.documents import flatten, parse_config, to_mapping
from kge.losses import LOSSES
from kge.models import MODELS
from kge.options import defaults
from study.config import PruningSection, SearchSection, StudyFile

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keys.md"
NEEDED = {"name", "dataset", "arms.models", "arms.losses", "model.name", "loss.name"}
IN_WORDS = {  # defaults that are no value of a file
    "search.random_trials": SearchSection().first,
    "pruning.min_epochs": "no pruning",
    "fixed": "none",
    "spaces": "none",
    "resources.custom": "none",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def documented(heading: str) -> dict[str, Any]:
    """Key -> default as a file would say it."""
    found = [(key, yaml.safe_load(default)) for key, default, _ in rows(heading)]
    assert len(dict(found)) == len(found), "a key stands there twice"
    return dict(found)


def leaves(record: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for each in dataclasses.fields(record):
        path = f"{prefix}{each.name}"
        inner = PruningSection if each.name == "pruning" else each.type
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from leaves(inner, f"{path}.")
        else:
            yield path, IN_WORDS.get(path, "needed" if path in NEEDED else each.default)


def test_study_files() -> None:
    assert documented("A study file") == dict(leaves(StudyFile))


def test_trainings() -> None:
    mapping = to_mapping(parse_config({"dataset": "any", "model": {"name": "distmult"}, "loss": {"name": "sce"}}))
    assert documented("A training") == {
        path: "needed" if path in NEEDED else value for path, value in flatten(mapping).items()
    }


@pytest.mark.parametrize(("kind", "registry"), [("model", MODELS), ("loss", LOSSES)])
def test_options(kind: str, registry: dict[str, type[Any]]) -> None:
    given = [((name, key), yaml.safe_load(default)) for name, key, default, _ in rows(f"Options of one {kind}")]
    expected = {(name, key): value for name, class_ in registry.items() for key, value in defaults(class_).items()}
    assert len(given) == len(expected)
    assert dict(given) == expected
