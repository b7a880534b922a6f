"""The paths of a TrainingConfig that a study may name, such as `optimizer.lr`: all but what it decides itself."""

from collections.abc import Mapping, Set
from functools import lru_cache

from kge.documents import flatten, parse_config, to_mapping
from kge.losses import LOSSES
from kge.models import MODELS
from kge.names import unknown

DECIDED = (
    "dataset",
    "seed",
    "model.name",
    "loss.name",
    "training.stop_epoch",
    "pretrain.checkpoint",
)  # by the study, never by a space


@lru_cache(maxsize=256)
def paths(model: str, loss: str) -> frozenset[str]:
    """Every path of a TrainingConfig with this model and loss that a space may name."""
    config = parse_config({"dataset": "any", "model": {"name": model}, "loss": {"name": loss}})
    return frozenset(flatten(to_mapping(config))) - set(DECIDED)


def all_paths() -> frozenset[str]:
    """Those of all models and losses."""
    base = paths("distmult", "sce")
    return base.union(*(paths(model, "sce") for model in MODELS), *(paths("distmult", loss) for loss in LOSSES))


def unknown_path(path: str, entry: object, known: Set[str]) -> str:
    """What is said of a path that is none; where `optimizer: {lr: ...}` spells one, that is the one that was meant."""
    return unknown("key", path, sorted(known), like=_spelt(path, entry, known))


def _spelt(path: str, entry: object, known: Set[str]) -> str:
    for key, inner in entry.items() if isinstance(entry, Mapping) else ():
        longer = f"{path}.{key}"
        if (found := longer if longer in known else _spelt(longer, inner, known)) in known:
            return found
    return path
