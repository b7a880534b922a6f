"""Files of checkpoints: whole or refused in one sentence."""

import dataclasses
import itertools
import json
import random
from pathlib import Path

import pytest
import torch

from kge import checkpoint
from kge.config import restore
from kge.errors import CheckpointError
from kge.files import replacing, write_atomically
from tests.kge import graphs

CONTENT = {"curve": [], "fingerprint": "f", "model": {"entities": torch.arange(40_000.0)}}


def _saved(path: Path) -> bytes:
    checkpoint.save(path, CONTENT, graphs.config())
    return path.read_bytes()


def _refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: must be a checkpoint of kge")
    assert "\n" not in sentence
    return sentence


def test_what_was_saved_is_loaded_with_its_configuration(tmp_path: Path) -> None:
    config = graphs.config({"model.reciprocal": True, "early_stopping.patience": None}, model="transe", loss="sans")
    checkpoint.save(tmp_path / "deep" / "x.pt", CONTENT, config)
    content = checkpoint.load(tmp_path / "deep" / "x.pt", config=config)
    assert torch.equal(content["model"]["entities"], torch.arange(40_000.0))
    assert checkpoint.config_of(content) == config
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.pt"]


def test_a_configuration_survives_its_json() -> None:
    paths = {"negatives": {"head": 3, "tail": None}, "regularizer": {"name": "lp", "p": 3, "entity_weight": 0.1}}
    config = graphs.config(paths, model="tucker", loss="ns")
    assert restore(json.loads(checkpoint.canonical(config))) == config
    assert restore(dataclasses.asdict(config)) == config


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    whole = _saved(tmp_path / "x.pt")
    for share in (0, 0.001, 0.3, 0.9, 0.999):
        _refused(tmp_path / "x.pt", whole[: int(share * len(whole))])


def test_a_flipped_bit_is_refused_wherever_the_content_has_it(tmp_path: Path) -> None:
    """torch itself reads a table with flipped bits without complaint."""
    path = tmp_path / "x.pt"
    whole = _saved(path)
    rng = random.Random(0)
    outcomes = []
    for _ in range(60):
        position = rng.randrange(len(whole))
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :])
        try:
            content = checkpoint.load(path)
        except CheckpointError:
            outcomes.append("refused")
        else:  # padding between records means nothing
            assert torch.equal(content["model"]["entities"], torch.arange(40_000.0))
            assert content["config"] == checkpoint.canonical(graphs.config())
            outcomes.append("unharmed")
    assert outcomes.count("refused") > 50


@pytest.mark.parametrize("junk", [b"", b"\n", b"hello", b"\x80\x02", b"PK\x03\x04" + b"x" * 100, bytes(range(256)) * 8])
def test_what_is_no_checkpoint_is_refused(junk: bytes, tmp_path: Path) -> None:
    _refused(tmp_path / "x.pt", junk)


@pytest.mark.parametrize("foreign", [[1, 2], {"format": 0}, {"format": 1}, {"weights": 1}, torch.ones(2)])
def test_a_file_of_another_program_is_refused(foreign: object, tmp_path: Path) -> None:
    torch.save(foreign, tmp_path / "x.pt")
    assert "in format 1, got something else" in _refused(tmp_path / "x.pt", (tmp_path / "x.pt").read_bytes())


@pytest.mark.parametrize("gone", ["curve", "fingerprint", "model"])
def test_a_file_without_what_every_checkpoint_has_is_refused(gone: str, tmp_path: Path) -> None:
    content = {key: value for key, value in CONTENT.items() if key != gone}
    checkpoint.save(tmp_path / "x.pt", content, graphs.config())
    assert "in format 1, got something else" in _refused(tmp_path / "x.pt", (tmp_path / "x.pt").read_bytes())


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {"name": "complex", "dim": -8}}', '{"modl": {}}'])
def test_a_configuration_of_another_kind_is_refused_with_the_file(text: str, tmp_path: Path) -> None:
    torch.save({"format": 1, "config": text, **CONTENT}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: must be of this version or an older one, got a configuration: "):
        checkpoint.load(tmp_path / "x.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 1, "config": "{}", "evil": itertools.count}, tmp_path / "x.pt")
    _refused(tmp_path / "x.pt", (tmp_path / "x.pt").read_bytes())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must be a checkpoint, but it does not exist$"):
        checkpoint.load(tmp_path / "missing.pt")


def test_a_folder_is_refused_by_the_name_of_what_may_be_in_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must be a checkpoint such as .*/best\.pt, got a folder$"):
        checkpoint.load(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
