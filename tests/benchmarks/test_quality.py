"""The benchmark of quality resumes what was killed, pairs by seed, and counts CPU seconds up to an MRR."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from benchmarks.quality import (
    EXACT,
    VARIANTS,
    Point,
    base,
    config_of,
    cost_until,
    finished,
    table,
    train,
    train_missing,
)

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--dataset", "synthetic", "--dim", "4", "--epochs", "2", "--seeds", "0,1", "--set", "training.batch_size=256"]


def _run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.quality", str(folder), *SMALL, *options]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_every_training_is_done_once(tmp_path: Path) -> None:
    first = _run(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "trainings.jsonl").read_text().splitlines()]
    assert {(record["variant"], record["seed"]) for record in records} == {
        (name, n) for name in VARIANTS for n in (0, 1)
    }
    assert all([point["epoch"] for point in record["curve"]] == [1, 2] for record in records)
    assert [path.name for path in tmp_path.iterdir()] == ["trainings.jsonl"]
    again = _run(tmp_path)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert all(name in first.stdout for name in VARIANTS)


def test_a_training_that_stopped_goes_on_to_the_same_curve(tmp_path: Path) -> None:
    exact = base("synthetic", 4, 3, 1, ["training.batch_size=256"])
    config = config_of(exact, "bf16 k_vs_all", 0)
    whole = train(config, tmp_path / "whole")
    partly = config_of(
        base("synthetic", 4, 3, 1, ["training.batch_size=256", "training.stop_epoch=2"]), "bf16 k_vs_all", 0
    )
    assert len(train(partly, tmp_path / "halves")) == 2
    halves = train(config, tmp_path / "halves")
    assert [(point.epoch, point.mrr) for point in halves] == [(point.epoch, point.mrr) for point in whole]
    assert sorted(point.cpu for point in halves) == [point.cpu for point in halves]


def _curve(*mrr: float) -> list[Point]:
    return [Point(epoch=epoch, mrr=each, cpu=10.0 * epoch) for epoch, each in enumerate(mrr, start=1)]


def test_differences_are_paired_by_seed() -> None:
    curves = {(EXACT, 0): _curve(0.1, 0.2), (EXACT, 1): _curve(0.3, 0.4), (EXACT, 2): _curve(0.9, 0.9)}
    curves |= {("bf16 one_vs_all", seed): _curve(0.0, curves[EXACT, seed][1].mrr + 0.01) for seed in (0, 1)}
    lines = list(table(curves, list(VARIANTS)))
    row = next(line for line in lines if line.startswith("bf16 one_vs_all"))
    assert row.split() == ["bf16", "one_vs_all", "2", *["+0.0100", "[+0.0100,", "+0.0100]"] * 2]


def test_costs_are_those_of_the_seeds_that_get_there() -> None:
    curves = {0: _curve(0.1, 0.3), 1: _curve(0.3, 0.2), 2: _curve(0.1, 0.1)}
    assert cost_until(curves, 0.3) == "15.0 (2 of 3)"
    assert cost_until(curves, 0.1) == "10.0"
    assert cost_until(curves, 0.5) == "never"


def test_another_setting_is_another_comparison(tmp_path: Path) -> None:
    exact = base("synthetic", 4, 1, 1, ["training.batch_size=256"])
    train_missing(exact, [(EXACT, 0)], tmp_path)
    assert list(finished(tmp_path / "trainings.jsonl", exact)) == [(EXACT, 0)]
    assert not finished(tmp_path / "trainings.jsonl", base("synthetic", 8, 1, 1, ["training.batch_size=256"]))


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    ran = _run(tmp_path, "--set", "optimizer.lr=-1")
    assert (ran.returncode, ran.stderr) == (2, "error: optimizer.lr: must be > 0, got -1.0\n")
    assert not (tmp_path / "trainings.jsonl").exists()


@pytest.mark.parametrize("assignment", ["optimizer.lr", "=3"])
def test_an_assignment_has_a_path_and_a_value(assignment: str) -> None:
    with pytest.raises(click.UsageError, match="must be PATH=VALUE"):
        base("synthetic", 4, 2, 1, [assignment])
