"""What a training is said to hold in memory is what it holds; and it starts with the rows that fit."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from kge.building import build_model
from kge.config import TrainingConfig
from kge.footprint import Sizes, fitted, num_parameters, predicted, resident, room
from kge.losses import LOSSES
from kge.memory import halved
from kge.models import MODELS
from tests.kge import graphs
from tests.kge.command_line import Kge

TOLERANCE = 0.3
ROOT = Path(__file__).parents[2]
FB = Sizes(entities=14_541, relations=237, train=272_115, valid=17_535)

# Trains each configuration and prints the peak of its resident memory above what was there before. Linux forgets the
# old peak when asked.
PROGRAM = """
import ctypes, gc, json, os, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import torch, torch._dynamo
from kge import kernels
from kge.data import Dataset
from kge.fitting import fit
from kge.training import Training
from tests.kge import graphs

def status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

def graph(entities, relations, train, valid):
    def triples(count):
        ends = torch.randint(entities, (count, 2))
        return torch.stack([ends[:, 0], torch.randint(relations, (count,)), ends[:, 1]], dim=1)
    names = {"entities": tuple(map(str, range(entities))), "relations": tuple(map(str, range(relations)))}
    splits = {"train": triples(train), "valid": triples(valid), "test": None}
    return Dataset(name="random", fingerprint="random", **names, **splits)

def trained(paths, dataset, fused):
    config = graphs.config({"training.max_epochs": 1, **paths})
    if not fused:
        return list(Training(config, dataset, fused=False).epochs())
    with TemporaryDirectory() as folder:
        return list(fit(config, dataset, directory=Path(folder)))

def measured(paths, sizes, fused):
    small = {"model.dim": 8, "training.batch_size": 32, "negatives.tail": 2}
    trained({**paths, **small}, graph(60, 3, 200, 20), fused)  # what costs memory once
    dataset = graph(*sizes)
    kernels.forget_blocks()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    trained(paths, dataset, fused)
    return status("VmHWM") - before

torch.set_num_threads(1)
for case in json.load(sys.stdin):
    if os.fork():  # a process for each: what one leaves behind is no room for the next
        assert os.wait()[1] == 0
    else:
        print(measured(*case), flush=True)
        os._exit(0)
"""

WIDE, MANY, FEW = (200_000, 5, 32, 8), (40_000, 5, 900, 16), (1_000, 5, 2_048, 8)
VARIED = (1_000, 200, 2_048, 8)  # as FEW, with as many relations as a batch has use for
ROWS = {"training.batch_size": 512, "validation.block_size": 4}
DURA = {"regularizer.name": "dura", "regularizer.weight": 0.1}
Case = tuple[str, str, Mapping[str, object], tuple[int, int, int, int]]
MEASURED: list[Case] = [  # what is largest in each is said beside it
    ("complex", "sce", {"model.dim": 64, "training.batch_size": 16}, WIDE),  # tables
    ("complex", "ns", {"model.dim": 64, "training.batch_size": 16, "optimizer.name": "adam"}, WIDE),
    ("complex", "sce", {"model.dim": 64, "training.batch_size": 16, "training.sub_batch_size": 8}, WIDE),
    ("complex", "sce", {"model.dim": 64, "training.batch_size": 16, "model.dropout.entity": 0.2}, WIDE),
    ("complex", "sce", ROWS, MANY),  # blocks of scores, of whole batches and of the last
    ("complex", "sce_ls", {**ROWS, "training.precision": "bfloat16"}, MANY),
    ("complex", "bce", ROWS, MANY),
    ("complex", "bce", {**ROWS, "training.sub_batch_size": 256}, MANY),
    ("transe", "sce", ROWS, MANY),
    ("rotate", "bce", ROWS, MANY),
    ("distmult", "sans", {**ROWS, "training.type": "one_vs_all", "training.batch_size": 256}, MANY),
    ("tucker", "sce", {"model.dim": 128, "training.batch_size": 1024, "model.dropout.relation": 0.2}, FEW),  # queries
    ("tucker", "sce", {"model.dim": 128, "training.batch_size": 1024}, VARIED),  # matrices
    ("rescal", "sce", {"model.dim": 128, "training.batch_size": 1024, **DURA}, VARIED),  # relations
    ("conve", "sce", {"model.dim": 128, "training.batch_size": 1024, "model.reciprocal": True}, FEW),
    ("rotate", "sans", {"model.dim": 512, "training.batch_size": 1024, "negatives.tail": 1024}, FEW),  # negatives
    ("complex", "sce", {"model.dim": 2048, "training.type": "k_vs_all"}, (400, 1, 16_384, 8)),  # many answers a query
    ("complex", "sce", {"training.type": "k_vs_all"}, (1_000, 50, 1_000_000, 20_000)),  # data
    ("complex", "ns", {"training.batch_size": 8, "validation.block_size": 512}, (40_000, 5, 16, 1_000)),  # ranking
]
# The formulas of a GPU, as far as they are those of the CPU without compiled loops.
PLAIN: list[Case] = [
    (name, "sans", {"model.dim": 128, "training.batch_size": 256, "negatives.tail": 512}, FEW)
    for name in ("complex", "transe", "rotate")
]
PLAIN.append(("transe", "sce", {**ROWS, "training.sub_batch_size": 512}, (10_000, 5, 600, 16)))  # differences in blocks
PLAIN.append(("rescal", "ns", {"model.dim": 128, "training.batch_size": 1024, "model.dropout.relation": 0.2}, FEW))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone forgets its peaks")
@pytest.mark.parametrize(("cases", "device"), [(MEASURED, "cpu"), (PLAIN, "cuda")])
def test_a_training_holds_what_was_predicted(cases: list[Case], device: str) -> None:
    paths = [{"model.name": model, "loss.name": loss, **more} for model, loss, more, _ in cases]
    given = [(each, sizes, device == "cpu") for each, (*_, sizes) in zip(paths, cases, strict=True)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, env=environment, input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    errors = {
        f"{model}, {loss}, {more}": peak(each, sizes, device) / int(measured) - 1
        for measured, each, (model, loss, more, sizes) in zip(done.stdout.split(), paths, cases, strict=True)
    }
    for name, error in errors.items():
        print(f"{error:+.0%} {name}")  # noqa: T201 (shown when it fails)
    assert {name: error for name, error in errors.items() if abs(error) > TOLERANCE} == {}


def peak(paths: Mapping[str, object], sizes: tuple[int, int, int, int], device: str) -> int:
    named = dict(zip(("entities", "relations", "train", "valid"), sizes, strict=True))
    return predicted(graphs.config(paths), Sizes(**named), device=device).peak


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loss", ["sce", "sans", "bce"])
@pytest.mark.parametrize("model", ["complex", "transe", "rotate", "tucker"])
def test_a_training_on_a_gpu_holds_what_was_predicted(model: str, loss: str) -> None:
    from kge.fitting import fit

    graph = graphs.random_graph(entities=5_000, relations=20, sizes=(4_000, 500, 2))
    paths = {"model.dim": 128, "training.batch_size": 1024, "negatives.tail": 256, "training.max_epochs": 1}
    config = graphs.config(paths, model=model, loss=loss)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    list(fit(config, graph, directory=None, device="cuda"))
    said = predicted(config, Sizes.of(graph), device="cuda").peak
    assert said == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=TOLERANCE)


@pytest.mark.parametrize("model", MODELS)
def test_the_number_of_parameters_is_that_of_the_model(model: str) -> None:
    config = graphs.config({"model.reciprocal": MODELS[model].reciprocal_only}, model=model)
    built = build_model(config, num_entities=50, num_relations=4)
    assert num_parameters(config, entities=50, relations=4) == sum(each.numel() for each in built.parameters())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_fewer_rows_never_hold_more(model: str, loss: str, device: str) -> None:
    paths = {"training.batch_size": 512, "model.reciprocal": MODELS[model].reciprocal_only}
    larger: TrainingConfig | None = graphs.config(paths, model=model, loss=loss)
    peaks = []
    while larger is not None:
        peaks.append(predicted(larger, FB, device=device).peak)
        larger = halved(larger)
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] > 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.dim", 256),
        ("training.batch_size", 1024),
        ("model.dropout.entity", 0.1),
        ("optimizer.name", "adam"),
        ("validation.block_size", 512),
    ],
)
def test_what_needs_more_is_said_to(path: str, value: object) -> None:
    small = {"model.dim": 128, "training.batch_size": 512, "validation.block_size": 64}
    less, more = (predicted(graphs.config({**small, **paths}), FB).peak for paths in ({}, {path: value}))
    assert more > less


def test_a_training_that_fits_is_left_as_it_is() -> None:
    config = graphs.config({"training.batch_size": 512})
    assert fitted(config, FB, limit=predicted(config, FB).peak) is config


def test_a_training_that_does_not_fit_starts_with_the_most_rows_that_do() -> None:
    config = graphs.config({"training.batch_size": 512}, loss="bce")
    limit = predicted(config, FB).peak / 3
    smaller = fitted(config, FB, limit=limit)
    rows, queries = smaller.training.sub_batch_size, smaller.validation.block_size
    assert rows is not None
    assert predicted(smaller, FB).peak <= limit
    doubled = graphs.config(
        {"training.batch_size": 512, "training.sub_batch_size": 2 * rows, "validation.block_size": 2 * queries},
        loss="bce",
    )
    assert predicted(doubled, FB).peak > limit


def test_where_fewer_rows_do_not_help_there_are_not_fewer() -> None:
    config = graphs.config({"training.batch_size": 512})
    assert fitted(config, FB, limit=1) is config


def test_a_share_of_the_machine_is_shared_with_the_process() -> None:
    half, whole = room(share=0.5, whole=8e9), room(whole=8e9)
    assert whole - half == pytest.approx(4e9, abs=1e9)
    assert 8e9 - whole == pytest.approx(resident(), abs=1e9)
    assert 0 < room() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_kge_train_starts_with_fewer_rows_to_the_same_curve(kge: Kge, tmp_path: Path) -> None:
    (tmp_path / "bce.yaml").write_text(
        "dataset: synthetic\nmodel: {name: complex, dim: 16}\nloss: {name: bce}\n"
        "training: {max_epochs: 2, batch_size: 1024}\nvalidation: {every: 1}\n"
    )
    plenty = kge("train", "bce.yaml", "--device", "cpu", "--directory", "plenty")
    memory = f"{(resident() + 12e6) / 2**30}"
    little = kge("train", "bce.yaml", "--device", "cpu", "--directory", "little", "--memory", memory)
    said = "would not fit into memory: going on with sub-batches of "
    assert (plenty.code, little.code, plenty.out.count(said), little.out.count(said)) == (0, 0, 0, 1)
    last = [(tmp_path / name / "curve.csv").read_text().splitlines()[-1].split(",") for name in ("plenty", "little")]
    expected, came = ([float(each) for each in line[:3]] for line in last)  # epoch, loss, lr
    assert came == pytest.approx(expected, rel=1e-4)


def test_no_memory_is_a_usage_error(kge: Kge) -> None:
    ran = kge("train", "small.yaml", "--memory", "0")
    assert ran.code == 2
    assert ran.err.startswith("error: Invalid value for '--memory': ")
