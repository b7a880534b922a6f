"""The benchmark beside other libraries: what it counts, whom it asks, and how it says so; ours alone here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.cases import Case, cases
from benchmarks.peers.floors import Graph, floor_of
from benchmarks.peers.rows import Floor, Row, table
from benchmarks.peers.workers import CHECKOUT, FailedError, System, libkge

ROOT = Path(__file__).resolve().parents[2]
GRAPH = Graph(entities=1000, relations=10, triples=5000, valid_queries=300)


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", "--quick", *options]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_ours_is_measured_beside_its_floor(tmp_path: Path) -> None:
    ran = _run("--alone", "--only", "complex ns *", "--json", str(tmp_path / "found.json"))
    assert ran.returncode == 0, ran.stderr
    assert "no PyKEEN (make test-peer installs it), no LibKGE (--libkge PATH)" in ran.stdout
    (case,) = json.loads((tmp_path / "found.json").read_text())["cases"]
    (row,), (floor,) = case["rows"], case["floors"]
    assert (row["system"], row["batches"], row["failed"]) == ("ours", 69, "")  # 4,407 triples, 64 a batch
    assert 0 < row["low"] <= row["median"] <= row["high"]
    assert 0 < floor["seconds"] < row["median"]


@pytest.mark.slow
def test_a_profile_names_functions_and_a_start_its_parts() -> None:
    command = [sys.executable, "-m", "benchmarks.peers.profile", "--dataset", "synthetic"]
    ran = subprocess.run(
        [*command, "complex ns *", "--batches", "2", "--rows", "99"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "CPU ms a batch" in ran.stdout
    assert "torch._fused_adagrad_" in ran.stdout
    ran = subprocess.run([*command, "*start"], check=True, capture_output=True, text=True, cwd=ROOT)
    seconds, names = zip(*(line.split(" s  ") for line in ran.stdout.splitlines()), strict=True)
    assert names[-1] == "first batch"
    assert all(float(each) >= 0 for each in seconds)


@pytest.mark.slow
def test_every_case_of_ours_is_measured(tmp_path: Path) -> None:
    assert _run("--alone", "--json", str(tmp_path / "found.json")).returncode == 0
    found = json.loads((tmp_path / "found.json").read_text())["cases"]
    assert [case["case"]["kind"] for case in found] == [case.kind for case in cases()]
    assert not any(row["failed"] for case in found for row in case["rows"])


def test_a_folder_that_is_no_checkout_is_a_sentence(tmp_path: Path) -> None:
    ran = _run("--libkge", str(tmp_path))
    said = f"--libkge: must be a checkout of LibKGE (kge/config-default.yaml in it), got '{tmp_path}'"
    assert (ran.returncode, ran.stderr) == (2, f"error: Invalid value: {said}\n")


STAND_IN = """
class Config:
    def __init__(self, folder): self.folder = folder
    def load(self, file): self.options = __import__("json").load(open(file))
    def init_folder(self): pass

class Dataset:
    @staticmethod
    def create(config, folder):
        lines = open(folder + "/train.del").read().splitlines()
        assert all(name.isdigit() for name in lines[0].split())
        return lines
"""
STAND_IN_JOB = """
from torch.utils.data import DataLoader

class TrainingJob:
    def __init__(self, config, dataset):
        self.loader = DataLoader(dataset, batch_size=config.options["train"]["batch_size"])
    @staticmethod
    def create(config, dataset): return TrainingJob(config, dataset)
    def run(self):
        while True:
            for batch in self.loader:
                assert len(batch) in (4, 2)
                sum(range(10**5))

EvaluationJob = KgeModel = TrainingJob
"""


def _job(folder: Path, **values: object) -> dict[str, object]:
    graph = folder / "graph"
    graph.mkdir()
    for split in ("train", "valid", "test"):
        (graph / f"{split}.txt").write_text("e0000000\tr0000000\te0000001\n" * 10)
    sizes = {"entities": 2, "relations": 1, "dim": 4, "batch_size": 4, "negatives": 1}
    place = {"folder": str(graph), "device": "cpu", "threads": 1}
    return {"kind": "negative_sampling", "model": "rotate", "loss": "sans", **sizes, **place, **values}


def _libkge(folder: Path) -> System:
    (folder / "kge").mkdir()
    (folder / CHECKOUT).touch()
    found = libkge(folder, sys.executable)
    assert found is not None
    return found


def test_the_kge_of_a_checkout_runs_and_not_ours(tmp_path: Path) -> None:
    """A stand-in with the calls that the adapter uses, and batches from a loader: LibKGE itself is not at hand."""
    system = _libkge(tmp_path)
    for name, text in (("__init__", STAND_IN), ("job", STAND_IN_JOB), ("model", "from kge.job import KgeModel")):
        (tmp_path / "kge" / f"{name}.py").write_text(text)
    with system.start(_job(tmp_path), tmp_path / "run") as worker:
        first, then = worker.answer(), worker.ask(batches=5)
    assert (len(first["laps"]), len(then["laps"]), then["batches"]) == (1, 5, 3)
    assert all(wall > 0 for wall, _ in then["laps"])
    options = json.loads((tmp_path / "run/case.yaml").read_text())
    assert options["negative_sampling"] == {"num_samples": {"s": 1, "p": 0, "o": 1}, "implementation": "triple"}


def test_who_fails_says_why(tmp_path: Path) -> None:
    system = _libkge(tmp_path)
    (tmp_path / "kge/__init__.py").touch()
    with system.start(_job(tmp_path), tmp_path / "run") as worker, pytest.raises(FailedError, match="No module named"):
        worker.answer()


def test_a_floor_counts_three_products_and_a_softmax() -> None:
    case = Case(kind="one_vs_all", model="distmult", loss="sce", dim=32, batch_size=8)
    bounds = [bound for stage in floor_of(case, GRAPH, "float32") for bound in stage]
    products = [bound["flops"] for bound in bounds if bound["kind"] == "gemm"]
    assert products == [2 * 16 * 32 * 1000] * 3  # both queries of 8 triples
    assert [bound["flops"] for bound in bounds if bound["kind"] == "softmax"] == [5 * 16 * 1000]
    assert bounds[-1]["bytes"] == 5 * 4 * (1000 + 10) * 32


def test_a_floor_of_negatives_reads_twice_and_adds_once() -> None:
    case = Case(kind="negative_sampling", model="rotate", loss="sans", dim=32, batch_size=8, negatives=3)
    forward, backward, _ = floor_of(case, GRAPH, "float32")
    numbers = 2 * 8 * (1 + 3) * 32
    assert [bound["kind"] for bound in forward] == ["moved", "flops"]
    assert forward[1]["flops"] == 3.5 * numbers
    assert forward[0]["bytes"] + backward[0]["bytes"] == 4 * 4 * numbers


def test_a_floor_is_the_sum_over_stages_of_the_slowest_bound() -> None:
    stages = [
        [{"kind": "gemm", "flops": 4e9, "bytes": 8}],
        [{"kind": "moved", "bytes": 1e9, "flops": 0}, {"kind": "flops", "flops": 2e9, "bytes": 0}],
    ]
    rounds = [[[[9.0, seconds]], [[9.0, 1.0], [9.0, 3.0]]] for seconds in (1.0, 2.0, 100.0)]
    floor = Floor.of("float32", stages, rounds, 1)
    assert (floor.seconds, floor.flops) == (2.0 + 3.0, 6e9)
    assert floor.rates == {"gemm": 2.0, "moved": 1.0, "flops": pytest.approx(2 / 3)}


def test_ratios_are_of_whole_passes() -> None:
    turns = [[(0.5, 0.2), (0.7, 0.1)], [(0.6, 0.3)]]
    theirs = [[(0.6, 0.3)], [(0.5, 0.2), (0.7, 0.1)]]
    rows = [Row.of("ours", turns, clock=1, batches=1, note=""), Row.of("PyKEEN", theirs, clock=1, batches=30, note="n")]
    floor = Floor(precision="float32", seconds=0.1, flops=1e9, bytes=1e6, rates={"gemm": 10.0})
    lines = list(table(Case(kind="ranking", model="complex"), rows, [floor], clock="CPU"))
    ours, other = (" ".join(line.split()) for line in lines[-2:])
    assert ours == "ours 200.0 150.0 - 250.0 600.0 1 0.2 1.00 1.00 - 1.00 2.00"
    assert other == "PyKEEN 200.0 150.0 - 250.0 600.0 30 6.0 37.50 15.00 - 60.00 60.00 n"
