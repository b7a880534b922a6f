"""What does not fit into memory is trained with fewer rows at a time, to the same result."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kge import checkpoint
from kge.catalog import load
from kge.config import TrainingConfig
from kge.documents import parse_config, read, set_path
from kge.errors import CheckpointError
from kge.fitting import LAST, Validation, fit, read_curve
from kge.memory import broken_context, halved, is_out_of_memory
from tests.kge import graphs

GRAPH = graphs.random_graph()
TRIPLES, ROOM = 4_000, 160 * 2**20  # a step scores 2 x TRIPLES x 2 TRIPLES floats: 256 MB
PROGRAM = """
import resource, sys
import kge.catalog, kge.documents, kge.fitting, kge.memory, kge.native.counts, torch, torch._dynamo  # costs memory once
from kge.cli import main
torch.set_num_threads(1)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


def test_halving_goes_down_to_one_row() -> None:
    config: TrainingConfig | None = graphs.config({"training.batch_size": 20, "validation.block_size": 3})
    sizes = []
    while config is not None:
        sizes.append((config.training.sub_batch_size, config.validation.block_size))
        config = halved(config)
    assert sizes == [(None, 3), (20, 1), (10, 1), (5, 1), (2, 1), (1, 1)], "a batch of 20 triples has 40 rows"


def test_halving_counts_rows_as_the_training_type_makes_them() -> None:
    for type_, rows in (("one_vs_all", 20), ("k_vs_all", 10)):
        smaller = halved(graphs.config({"training.batch_size": 20, "training.type": type_}))
        assert smaller is not None
        assert smaller.training.sub_batch_size == rows


def test_halving_starts_from_the_sub_batches_that_are_there() -> None:
    config = graphs.config({"training.batch_size": 20, "training.sub_batch_size": 6})
    smaller = halved(config)
    assert smaller is not None
    assert smaller.training.sub_batch_size == 3
    assert smaller.training.batch_size == 20
    too_large = halved(graphs.config({"training.batch_size": 20, "training.sub_batch_size": 600}))
    assert too_large is not None
    assert too_large.training.sub_batch_size == 20


def test_a_halved_training_goes_on_from_the_checkpoint_to_the_same_curve(tmp_path: Path) -> None:
    config = graphs.config({"training.max_epochs": 4})
    expected = list(fit(config, GRAPH, directory=None))
    first = fit(config, GRAPH, directory=tmp_path)
    next(first)
    next(first)
    smaller = halved(config)
    assert smaller is not None
    replayed, *rest = fit(smaller, GRAPH, directory=tmp_path)
    assert replayed.replayed
    assert [each.mrr for each in rest] == pytest.approx([each.mrr for each in expected[2:]], rel=1e-5)
    assert [each.loss for each in rest] == pytest.approx([each.loss for each in expected[2:]], rel=1e-5)


@pytest.mark.parametrize("paths", [{"training.stop_epoch": 2}, {"validation.block_size": 7}])
def test_what_changes_no_value_is_no_part_of_a_checkpoints_identity(tmp_path: Path, paths: dict[str, object]) -> None:
    cosine = {"schedule": {"name": "cosine"}, "training.max_epochs": 4}
    list(fit(graphs.config(cosine | {"training.stop_epoch": 1}), GRAPH, directory=tmp_path))
    assert checkpoint.load(tmp_path / LAST, config=graphs.config(cosine | paths))
    with pytest.raises(CheckpointError, match=r"training\.max_epochs is 4 there and 5 here"):
        checkpoint.load(tmp_path / LAST, config=graphs.config(cosine | paths | {"training.max_epochs": 5}))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_failures_of_memory_are_known(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_failure_is_known() -> None:
    for allocate in (lambda: torch.empty(2**60), lambda: np.empty(2**50)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            allocate()
        assert is_out_of_memory(raised.value)


def _train(folder: Path, directory: str, *, room: int, epochs: int, dim: int = 4) -> tuple[int, str]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PROGRAM, str(room), "train", "wide.yaml", "--directory", directory]
    done = subprocess.run(
        [*command, "--device", "cpu", "--set", f"training.max_epochs={epochs}", "--set", f"model.dim={dim}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _fit(folder: Path, *, epochs: int, directory: Path | None = None) -> list[Validation]:
    document = read(folder / "wide.yaml")
    set_path(document.data, "training.max_epochs", epochs)
    dataset = load(str(folder / "graph")).sealed()
    return list(fit(parse_config(document.data), dataset, directory=directory))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A graph of many entities, and a training that scores all of them for all triples at once."""
    train = [(f"e{number}", "r", f"e{TRIPLES + number}") for number in range(TRIPLES)]
    graphs.write_folder(tmp_path / "graph", {"train": train, "valid": train[:20], "test": train[20:40]})
    (tmp_path / "wide.yaml").write_text(
        f"dataset: {tmp_path / 'graph'}\ntraining: {{batch_size: {TRIPLES}}}\n"
        "model: {name: distmult, dim: 4}\nloss: {name: sce}\nvalidation: {every: 1}\n"
    )
    return tmp_path


def test_kge_train_goes_on_by_itself_where_memory_does_not_suffice(wide: Path) -> None:
    said = "out of memory: going on with sub-batches of 4000 rows and blocks of 128 queries"
    expected = _fit(wide, epochs=2)
    _fit(wide, epochs=1, directory=wide / "tight")
    code, out = _train(wide, "tight", room=ROOM, epochs=2)
    assert code == 0, out
    assert out.splitlines()[0].startswith("continuing")
    assert said in out
    found = read_curve(wide / "tight" / LAST)
    assert [each.epoch for each in found] == [1, 2]
    assert [each.loss for each in found] == pytest.approx([each.loss for each in expected], rel=1e-5)
    assert [each.mrr for each in found] == pytest.approx([each.mrr for each in expected], rel=1e-3)


def test_a_training_that_never_fits_ends_in_one_sentence(wide: Path) -> None:
    code, out = _train(wide, "never", room=2**26, epochs=1, dim=4000)  # the entity table takes 128 MB
    assert code == 1, out
    assert out.splitlines()[-1].startswith("error: memory: must hold one row at a time, got: ")
    assert "Traceback" not in out


def test_a_graph_that_does_not_fit_ends_in_one_sentence(wide: Path) -> None:
    with (wide / "graph" / "train.tsv").open("a") as file:
        file.writelines(f"e{number}\tr\te{number + 1}\n" for number in range(TRIPLES, 400_000))
    code, out = _train(wide, "large", room=2**25, epochs=1)
    assert code == 1, out
    assert out.startswith("error: memory: must hold what this needs, got: ")
    assert out.count("\n") == 1


def test_a_gpu_that_answers_with_an_error_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: str) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with ...")

    monkeypatch.setattr(torch.cuda, "synchronize", answer)
    assert broken_context("cuda") == "CUDA error: device-side assert triggered"
    assert broken_context("cpu") is None
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    assert broken_context("cuda:0") is None
