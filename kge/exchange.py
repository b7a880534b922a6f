"""A trained model as files that others can read, and back without a change in any score.

    model.safetensors   the parameters, under the names of the model's state
    model.json          configuration, fingerprint of the graph, validation, what the tables took, sha256 of the files
                         and of its own rest
    entities.txt        a name a line, in the order of the table's rows; relations.txt likewise

With reciprocal relations the relation table has as many rows again: row r + R asks for the head of relation r.
safetensors holds numbers and nothing that could run; it is needed here only, and asked for when it is used.
https://github.com/huggingface/safetensors
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from kge import checkpoint
from kge.building import build_model
from kge.config import TrainingConfig, restore
from kge.data import Dataset
from kge.errors import CheckpointError, KgeError, first_line
from kge.files import sha256_of, write_atomically
from kge.fitting import model_of
from kge.models.base import AbstractModel
from kge.spent import Spent, before_curve, record, spent

FORMAT = "kge model"
VERSION = 1
TENSORS, DESCRIPTION, ENTITIES, RELATIONS = "model.safetensors", "model.json", "entities.txt", "relations.txt"


def export_model(path: Path, dataset: Dataset, folder: Path) -> None:
    """Write the model of a checkpoint as a folder, which must be new or empty; whole or not at all."""
    content = checkpoint.load(path)
    model, config = model_of(path, content, dataset)
    with _new_folder(folder) as beside:
        tensors = {name: each.contiguous() for name, each in model.state_dict().items()}
        write_atomically(beside / TENSORS, _safetensors().torch.save(tensors, metadata={"format": "pt"}))
        for name, lines in ((ENTITIES, dataset.entities), (RELATIONS, dataset.relations)):
            write_atomically(beside / name, "".join(f"{line}\n" for line in lines).encode())
        text = json.dumps(_description(content, config, dataset, beside), indent=2) + "\n"
        write_atomically(beside / DESCRIPTION, text.encode())


def _description(content: Mapping[str, Any], config: TrainingConfig, dataset: Dataset, folder: Path) -> dict[str, Any]:
    took = spent(content)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "model": config.model.name,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "num_entities": dataset.num_entities,
        "num_relations": dataset.num_relations,
        "configuration": asdict(config),
        "validation": content["curve"][-1] if content["curve"] else None,
        "spent": None if took is None else asdict(took),
    }
    files = {name: sha256_of(folder / name) for name in (TENSORS, ENTITIES, RELATIONS)}
    return {**description, "sha256": {DESCRIPTION: _own_sha256(description), **files}}


def import_model(folder: Path, path: Path) -> None:
    """Write the model of a folder as a checkpoint, which must not exist yet; CheckpointError when it is not whole."""
    checkpoint.check_new(path)
    description, state, config, _ = _read(folder)
    curve = [description["validation"]] if description["validation"] is not None else []
    before = before_curve(_spent(folder / DESCRIPTION, description), curve)
    common = {"fingerprint": description["fingerprint"], "curve": curve, **record(before)}
    checkpoint.save(path, {**common, "model": state}, config)


def _spent(path: Path, description: Mapping[str, Any]) -> Spent | None:
    try:
        return Spent.read(description.get("spent"))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: spent: {error}") from None


def read_model(folder: Path, dataset: Dataset) -> AbstractModel:
    """The model of a folder in evaluation mode; CheckpointError when it is not whole, or of another graph."""
    description, state, _, model = _read(folder)
    checkpoint.check_fingerprint(folder, description["fingerprint"], dataset)
    model.load_state_dict(state)
    return model.eval()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], TrainingConfig, AbstractModel]:
    """Description, parameters, configuration, and a model of it with its initial tables."""
    description = _read_description(folder)
    _check_files(folder, description)
    state = _read_tensors(folder / TENSORS)
    config, model = _build(folder / DESCRIPTION, description)
    _check_state(folder / TENSORS, state, model.state_dict())
    return description, state, config, model


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"{folder}: must be a folder that kge export wrote, but it has no {DESCRIPTION}")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: must be JSON, got {error}") from None
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise CheckpointError(f"{path}: must be of format {FORMAT!r}, version {VERSION}, got something else")
    types = {"configuration": dict, "sha256": dict, "fingerprint": str, "num_entities": int, "num_relations": int}
    for key, type_ in types.items():
        if not isinstance(found.get(key), type_):
            raise CheckpointError(f"{path}: {key}: must be given, got {found.get(key)!r:.80}")
    if set(found["sha256"]) != {DESCRIPTION, TENSORS, ENTITIES, RELATIONS} or "validation" not in found:
        raise CheckpointError(f"{path}: must hold a validation and the sha256 of {TENSORS}, {ENTITIES}, {RELATIONS}")
    return found


def _check_files(folder: Path, description: Mapping[str, Any]) -> None:
    for name, expected in description["sha256"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: must be the file that was exported, but it does not exist")
        came = _own_sha256(description) if name == DESCRIPTION else sha256_of(folder / name)
        if came != expected:
            raise CheckpointError(f"{folder / name}: sha256 must be {expected}, got {came}")
    for name, count in ((ENTITIES, description["num_entities"]), (RELATIONS, description["num_relations"])):
        lines = (folder / name).read_bytes().count(b"\n")
        if lines != count:
            raise CheckpointError(f"{folder / name}: must have {count} lines, as {DESCRIPTION} says, got {lines}")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    safetensors = _safetensors()
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: must be a safetensors file, got {error}") from None
    return tensors


def _build(path: Path, description: Mapping[str, Any]) -> tuple[TrainingConfig, AbstractModel]:
    """The configuration, and a model as it makes one."""
    sizes = {key: description[key] for key in ("num_entities", "num_relations")}
    try:
        config = restore(description["configuration"])
        return config, build_model(config, **sizes)
    except Exception as error:  # noqa: BLE001 (what is no configuration makes its readers raise anything)
        reason = first_line(error)
    raise CheckpointError(f"{path}: configuration: must be of this version or an older one, got {reason:.120}")


def _check_state(path: Path, state: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> None:
    """CheckpointError unless every tensor is there, in its shape and precision, and none besides."""
    for name in sorted(needed.keys() | state.keys()):
        must, came = _form(needed.get(name)), _form(state.get(name))
        if must != came:
            raise CheckpointError(f"{path}: {name}: must be {must}, got {came}")


def _form(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _own_sha256(description: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in description.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that becomes `folder` when the block ends well, and leaves no trace otherwise."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(f"{folder}: must be a new or empty folder, but it holds something")
    folder = folder.resolve()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    try:
        yield beside
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch  # noqa: PLC0415 (nothing else of kge needs it)
    except ImportError:
        raise KgeError("safetensors: must be installed to export and import: pip install safetensors") from None
    return safetensors
