"""A small valid study file and changed copies of it."""

from pathlib import Path

from study.config import StudyConfig, parse_study

VALID = """\
name: small
dataset: synthetic
seed: 7
arms:
  models:
    - complex
    - {name: transe, norm: 1, label: transe-l1}
  losses: [sce, {name: ns, normalize: mean}]
budget: {trials: 4}
search: {sampler: tpe, random_trials: 2}
pruning: {min_epochs: 2, reduction_factor: 3}
replicates: 2
fixed:
  model.dim: 32
  training.max_epochs: 3
spaces:
  optimizer.lr: {float: [1e-3, 1.0], log: true}
resources: {cpus_per_trial: 1, max_concurrent: 2}
"""


def changed(*changes: tuple[str, str]) -> str:
    """The valid file with pieces replaced."""
    text = VALID
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def config(*changes: tuple[str, str]) -> StudyConfig:
    """The study of a changed file."""
    return parse_study(changed(*changes), "small.yaml")


def write(folder: Path, text: str) -> Path:
    """A study file in a folder."""
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def line_of(text: str, piece: str) -> int:
    """The 1-based line where a piece of text begins."""
    return text[: text.index(piece)].count("\n") + 1
