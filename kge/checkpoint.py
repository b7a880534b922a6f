"""Checkpoints: written beside and renamed, so a reader meets a whole file or none.

`last.pt` continues a training exactly; `best.pt` holds the weights of the best validation. Both carry the
canonical JSON of their configuration, and reading with another configuration is refused with the difference.
A value that the file does not hold, because it is older than the option, is the option's default.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kge.config import TrainingConfig, restore
from kge.data import Dataset
from kge.errors import CheckpointError, ConfigError, first_line
from kge.files import replacing
from kge.losses import LOSSES
from kge.models import MODELS
from kge.names import spelled
from kge.options import defaults

_FORMAT = 1


def canonical(config: TrainingConfig) -> str:
    """One JSON text per configuration."""
    return json.dumps(asdict(config), sort_keys=True)


def config_of(content: Mapping[str, Any]) -> TrainingConfig:
    """The configuration that a checkpoint was written by."""
    return restore(json.loads(content["config"]))


def _identity(config: TrainingConfig, *, has_cooled: bool) -> dict[str, Any]:
    """What must agree to continue: all but where it ends, so that a finished training can go on.

    A cosine schedule ends at `max_epochs`, and so does a cooldown that has begun: another end is another training.
    What bounds memory, and how kernels are launched, changes no value.
    """
    values = asdict(config)
    for part, registry in (("model", MODELS), ("loss", LOSSES)):
        class_ = registry.get(values[part]["name"])
        values[part]["options"] = ({} if class_ is None else defaults(class_)) | values[part]["options"]
    ignored = ["training.stop_epoch", "early_stopping.patience", "validation.block_size"]
    ignored += ["training.sub_batch_size", "training.capture"]
    if not has_cooled:
        ignored.append("schedule.cooldown")
    if not has_cooled and config.schedule.name != "cosine":
        ignored.append("training.max_epochs")
    for path in ignored:
        part, _, key = path.partition(".")
        del values[part][key]
    return values


def _has_cooled(config: TrainingConfig, epoch: int) -> bool:
    schedule = config.schedule
    return schedule.cooldown > 0 and epoch > schedule.stable_epochs(config.training.max_epochs)


def save(path: Path, content: Mapping[str, Any], config: TrainingConfig) -> None:
    """Write atomically; the file is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save({"format": _FORMAT, "config": canonical(config), **content}, file)


def load(path: Path, *, config: TrainingConfig | None = None) -> dict[str, Any]:
    """Read a checkpoint to the CPU; CheckpointError when it is missing, damaged or of another configuration."""
    if path.is_dir():
        raise CheckpointError(f"{path}: must be a checkpoint such as {path / 'best.pt'}, got a folder")
    if not path.is_file():
        raise CheckpointError(f"{path}: must be a checkpoint, but it does not exist")
    content = _read(path)
    if not isinstance(content, dict) or not _is_whole(content):
        raise CheckpointError(f"{path}: must be a checkpoint of kge in format {_FORMAT}, got something else")
    try:
        saved = config_of(content)
    except (TypeError, ValueError, AttributeError, ConfigError) as error:  # a key that no record has, as a rule
        raise CheckpointError(
            f"{path}: must be of this version or an older one, got a configuration: {first_line(error)}"
        ) from None
    if config is not None:
        epoch = content.get("training", {}).get("epoch", 0)
        has_cooled = _has_cooled(saved, epoch) or _has_cooled(config, epoch)
        there, here = (_identity(each, has_cooled=has_cooled) for each in (saved, config))
        differences = list(_differences(there, here))
        if differences:
            raise CheckpointError(f"{path}: must be of the same configuration; {'; '.join(differences)}")
    return content


def _is_whole(content: Mapping[str, Any]) -> bool:
    """Whether the content of a file has what every checkpoint has."""
    types = {"config": str, "fingerprint": str, "curve": list}
    has_weights = isinstance(content.get("model"), dict) or isinstance(content.get("training"), dict)
    has_all = has_weights and all(isinstance(content.get(key), type_) for key, type_ in types.items())
    return has_all and content.get("format") == _FORMAT


def check_new(path: Path) -> None:
    """CheckpointError where a checkpoint would be overwritten."""
    if path.exists():
        raise CheckpointError(f"{path}: must not exist yet, but it does")


def weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the model, of `best.pt` or `last.pt`."""
    state: dict[str, Any] = content["model"] if "model" in content else content["training"]["model"]
    return state


def is_damaged(path: Path) -> bool:
    """True for a file that cannot be read as a checkpoint of any kind: half of one, or with flipped bits."""
    try:
        _read(path)
    except CheckpointError:
        return True
    return False


def check_fingerprint(path: Path, saved: str, dataset: Dataset) -> None:
    """CheckpointError when a checkpoint is of another graph."""
    if saved != dataset.fingerprint:
        must = f"must be of data set {dataset.fingerprint[:12]} ({dataset.name})"
        raise CheckpointError(f"{path}: {must}, got {saved[:12]}")


def _read(path: Path) -> Any:
    """The content of the file. torch takes one with flipped bits for whole: the archive's checksums tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"a damaged file ({damaged})"
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 (what is not a checkpoint makes its readers raise anything)
        reason = first_line(error)
    raise CheckpointError(f"{path}: must be a checkpoint of kge, got {reason:.120}")


def _differences(saved: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(saved.keys() | asked.keys()):
        old, new = saved.get(key), asked.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} is {spelled(old)} there and {spelled(new)} here"
