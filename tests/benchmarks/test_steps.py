"""The benchmarks of steps and of packed trainings: every way is asked, and what it did is counted."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch

from benchmarks import packing, steps
from benchmarks.packing import Row
from benchmarks.peers.cases import cases
from kge.catalog import load
from kge.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--dataset", "synthetic", "--dim", "16", "--batch-size", "64", "--rounds", "2", "--device", "cpu"]


def _run(module: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *SMALL, *options]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def test_each_precision_has_its_turns(tmp_path: Path) -> None:
    ran = _run("steps", "--only", "complex s* *", "--seconds", "0.02", "--json", str(tmp_path / "found.json"))
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "found.json").read_text())["cases"]
    ways = {record["case"]["loss"]: [row["way"] for row in record["rows"]] for record in found}
    assert ways == {"sce": ["float32", "bfloat16"], "sans": ["float32"]}  # no TF32 and no graphs here
    assert all(len(row["turns"]) == 2 and min(row["turns"]) > 0 for record in found for row in record["rows"])
    assert "complex sans negative_sampling, dim 16, 64 rows a batch" in ran.stdout


@pytest.mark.slow
def test_two_trainings_at_once_are_counted_together(tmp_path: Path) -> None:
    ran = _run("packing", "--counts", "1,2", "--seconds", "0.2", "--json", str(tmp_path / "found.json"))
    assert ran.returncode == 0, ran.stderr
    one, two = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (one["at_once"], two["at_once"]) == (1, 2)
    assert all(len(row["per_second"]) == 2 and min(row["per_second"]) > 0 for row in (one, two))
    assert [line.split()[0] for line in ran.stdout.splitlines()[2:]] == ["1", "2"]


def test_what_cannot_be_measured_is_a_sentence() -> None:
    for options, error, said in (
        (["--counts", "1,x"], click.BadParameter, "must be numbers of trainings such as 1,2,4,8, got '1,x'"),
        (["--case", "complex sce ranking"], click.BadParameter, "must be one of complex sce one_vs_all, "),
        (["--precision", "tf31"], ConfigError, "training.precision: must be one of 'float32', 'tf32'"),
    ):
        with pytest.raises(error, match=re.escape(said)):
            packing.main.main([*SMALL, *options], standalone_mode=False)


def test_rates_of_a_round_are_added() -> None:
    def answer(number: int, wall: float) -> dict[str, float]:
        return {"steps": number, "wall": wall, "cpu": 2.0, "reserved": 2**20 * number}

    alone, both = packing.row(1, [[answer(10, 1.0)]]), packing.row(2, [[answer(10, 2.0), answer(20, 2.0)]] * 2)
    assert both == Row(at_once=2, per_second=[15.0, 15.0], cpu=pytest.approx(0.15), reserved=20 * 2**20)
    lines = [line.split() for line in packing.table([alone, both])]
    assert lines[1:] == [
        ["1", "10.0", "10.0", "-", "10.0", "1.00", "200.00", "10"],
        ["2", "15.0", "15.0", "-", "15.0", "1.50", "150.00", "20"],
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_three_precisions_and_graphs() -> None:
    case = next(iter(cases()))
    ways = [way for way, _ in steps.trainings(case, load("synthetic").sealed(), "synthetic", "cuda")]
    assert ways == [f"{each}{how}" for each in steps.PRECISIONS for how in ("", ", captured")]
