"""Pretraining: a training whose tables start from those of another one.

Entities and relations are matched by name. Both graphs must have the same fingerprint, so a name has the same
id in both, and the tables are taken as they are, those of reciprocal relations included.
Everything else starts anew: further parameters of the model, optimizer, schedule, random numbers.

Kamigaito & Hayashi (ACL 2021) start sce_ls and sans in this way from tables trained with sce_bc and ns_freq.
"""

from pathlib import Path

import torch

from kge import checkpoint
from kge.building import build_model
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.errors import CheckpointError
from kge.models.base import AbstractModel
from kge.spent import Spent, spent

_TABLES = ("entities", "relations")


def check_start(path: Path, config: TrainingConfig, dataset: Dataset) -> None:
    """CheckpointError when a training of this configuration cannot start from the tables of a checkpoint."""
    model = build_model(config, num_entities=dataset.num_entities, num_relations=dataset.num_relations)
    copy_tables(path, model, dataset)


def copy_tables(path: Path, model: AbstractModel, dataset: Dataset) -> Spent | None:
    """Copy both tables of a best or last checkpoint into the model; CheckpointError when they do not fit.

    Returns what they took; None where their file does not say it.
    """
    content = checkpoint.load(path)
    checkpoint.check_fingerprint(path, content["fingerprint"], dataset)
    saved = checkpoint.weights(content)
    for name in _TABLES:
        mine = getattr(model, name)
        if saved[name].shape != mine.shape:
            must, came = (" x ".join(map(str, each.shape)) for each in (mine, saved[name]))
            reason = f"{name} must be {must} as here (model.dim, model.reciprocal), got {came}"
            raise CheckpointError(f"{path}: {reason}")
        with torch.no_grad():
            mine.copy_(saved[name])
    return spent(content)
