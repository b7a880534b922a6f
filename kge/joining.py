"""Join: trained models as one larger model, whose score of a triple is the mean of theirs.

A score that is a sum over products of a head's, a relation's and a tail's number stays one when the tables of n
models are laid side by side: the joined model has the sum of their dimensions and scores by the sum of their scores,
or the mean, with each of the three factors divided by the cube root of n. For RESCAL the matrices become the blocks
of a block-diagonal one. So an ensemble of such models is a model of their own kind: it is ranked, exported and
trained further (`pretrain.checkpoint`) as any other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kge import checkpoint
from kge.config import ModelConfig
from kge.data import Dataset
from kge.errors import CheckpointError
from kge.models import MODELS
from kge.models.base import AbstractModel
from kge.models.multilinear import AbstractTrilinear
from kge.models.rescal import RESCAL
from kge.names import spelled
from kge.spent import record, spent, total

_ALIKE = ("name", "reciprocal", "options")


def join_models(paths: Sequence[Path], dataset: Dataset, out: Path) -> None:
    """Write the joined model of best or last checkpoints as a checkpoint, which must not exist yet.

    Its configuration is that of the first with the joined `model.dim`; those of all are kept beside it, and so is
    what all of them took.
    CheckpointError where one is of another model, or of a kind that has no joined one, or of another graph, or given
    twice.
    """
    checkpoint.check_new(out)
    contents = []
    for path in paths:
        contents.append(checkpoint.load(path))
        checkpoint.check_fingerprint(path, contents[-1]["fingerprint"], dataset)
    configs = [checkpoint.config_of(each) for each in contents]
    _check_alike(paths, [each.model for each in configs])
    if len({path.resolve() for path in paths}) < len(paths):
        raise CheckpointError("models to join: must be different ones, got one file twice")
    first = configs[0]
    config = replace(first, model=replace(first.model, dim=sum(each.model.dim for each in configs)))
    state = joined(MODELS[first.model.name], [checkpoint.weights(each) for each in contents])
    members = [json.loads(checkpoint.canonical(each)) for each in configs]
    before = total(spent(each) for each in contents)
    common = {"fingerprint": dataset.fingerprint, "curve": [], "joined": members, **record(before)}
    checkpoint.save(out, {**common, "model": state}, config)


def can_join(model: type[AbstractModel]) -> bool:
    """Whether models of this class can be joined."""
    return issubclass(model, AbstractTrilinear | RESCAL)


def joined(model: type[AbstractModel], states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters of the joined model of those of several, whose dimensions may differ."""
    entities, relations = ([each[name] for each in states] for name in ("entities", "relations"))
    if issubclass(model, AbstractTrilinear):
        tables = _beside(entities, model.entity_parts), _beside(relations, model.relation_parts)
    else:
        tables = _beside(entities, 1), torch.stack(list(_block_diagonal(entities, relations)))
    share = len(states) ** (-1 / 3)  # of three factors: the mean of the scores, not their sum
    return {name: table * share for name, table in zip(("entities", "relations"), tables, strict=True)}


def _beside(tables: Sequence[Tensor], parts: int) -> Tensor:
    """Tables side by side within each of the equal parts of a row."""
    chunks = [table.chunk(parts, dim=1) for table in tables]
    return torch.cat([each[part] for part in range(parts) for each in chunks], dim=1)


def _block_diagonal(entities: Sequence[Tensor], relations: Sequence[Tensor]) -> Iterator[Tensor]:
    """The joined matrix of each relation, flat."""
    dims = [each.shape[1] for each in entities]
    for rows in zip(*relations, strict=True):
        yield torch.block_diag(*(row.view(dim, dim) for row, dim in zip(rows, dims, strict=True))).flatten()


def _check_alike(paths: Sequence[Path], models: Sequence[ModelConfig]) -> None:
    first = models[0]
    if not can_join(MODELS[first.name]):
        known = ", ".join(name for name, each in MODELS.items() if can_join(each))
        raise CheckpointError(f"{paths[0]}: model.name must be one that can be joined ({known}), got {first.name!r}")
    for path, model in zip(paths, models, strict=True):
        for key in _ALIKE:
            must, came = getattr(first, key), getattr(model, key)
            if must != came:
                raise CheckpointError(
                    f"{path}: model.{key} must be {spelled(must)} as in {paths[0]}, got {spelled(came)}"
                )
