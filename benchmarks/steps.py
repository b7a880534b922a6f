"""What a training step takes in each precision, captured or not, for the model families; in turn, on one device.

    python -m benchmarks.steps [--device cuda] [--only PATTERN] [--json FILE]

    float32, tf32, bfloat16   `training.precision`, where the case can have it and the device makes a difference
    captured                  gradients replayed from a CUDA graph (kge.captured), where they would be

All of a case live in one process and take turns of about half a second, in a new order each round. On a GPU the
clock is the wall's, with the device waited for at both ends of a turn; of one CPU thread it is the processor's.
"""

import fnmatch
import json
import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import torch
from torch import Tensor

from benchmarks.peers.cases import Case, cases
from benchmarks.peers.ours import config_of
from kge import console
from kge.building import check_combination
from kge.catalog import load
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.errors import ConfigError, KgeError, UserError
from kge.files import write_atomically
from kge.pace import clock_of
from kge.training import Training
from study.environment import environment

PRECISIONS = ("float32", "tf32", "bfloat16")
TYPES = ("one_vs_all", "k_vs_all", "negative_sampling")
UNTIMED = 3  # steps in which libraries are loaded and graphs recorded

Step = tuple[int, Tensor]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Seconds of a step in one way."""

    way: str
    turns: Sequence[float]

    @property
    def median(self) -> float:
        """Of the turns."""
        return statistics.median(self.turns)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of the turns."""
        turns = self.turns if len(self.turns) > 1 else [*self.turns, *self.turns]
        low, _, high = statistics.quantiles(turns, n=4, method="inclusive")
        return low, high


def trainings(case: Case, dataset: Dataset, folder: str, device: str) -> Iterator[tuple[str, Training]]:
    """Every way to train a case that differs from the others here."""
    for precision in PRECISIONS:
        if precision == "tf32" and device == "cpu":
            continue
        try:
            config = config_of({**asdict(case), "training": case.training, "folder": folder, "precision": precision})
            check_combination(config)
        except ConfigError:
            continue
        yield precision, Training(config, dataset, device=device)
        training = Training(_captured(config), dataset, device=device)
        if training.is_captured:
            yield f"{precision}, captured", training


def _captured(config: TrainingConfig) -> TrainingConfig:
    return replace(config, training=replace(config.training, capture=True))


def measured(ways: Mapping[str, Training], clock: Callable[[], float], *, rounds: int, seconds: float) -> list[Row]:
    """Turns of all ways, some steps each."""
    steps = {way: forever(training) for way, training in ways.items()}
    for each in steps.values():
        _taken(each, UNTIMED, clock)
    numbers = {way: max(1, int(seconds / max(_taken(each, 2, clock), 1e-9))) for way, each in steps.items()}
    turns: dict[str, list[float]] = {way: [] for way in ways}
    rng = random.Random(0)
    for _ in range(rounds):
        for way in rng.sample(sorted(ways), len(ways)):
            turns[way].append(_taken(steps[way], numbers[way], clock))
    return [Row(way=way, turns=turns[way]) for way in ways]


def forever(training: Training) -> Iterator[Step]:
    """Steps of one epoch after the other."""
    while True:
        yield from training.steps()


def _taken(steps: Iterator[Step], number: int, clock: Callable[[], float]) -> float:
    """Seconds of a step, of so many."""
    began = clock()
    for _ in range(number):
        next(steps)
    return (clock() - began) / number


def table(case: Case, rows: Sequence[Row]) -> Iterator[str]:
    """The block of a case."""
    yield f"\n{case.name}, dim {case.dim}, {case.batch_size} rows a batch"
    yield f"  {'':<20}{'ms':>10}  {'quartiles':<20}{'x float32':>10}"
    for row in rows:
        low, high = (f"{1000 * each:.3f}" for each in row.quartiles)
        ratio = f"{row.median / rows[0].median:.2f}"
        yield f"  {row.way:<20}{1000 * row.median:>10.3f}  {f'{low} - {high}':<20}{ratio:>10}"


@click.command()
@click.option("--dataset", default="fb15k-237", show_default=True, help="Name or folder.")
@click.option("--only", default="*", metavar="PATTERN", help="Cases whose name matches, such as '*sans*'.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Of a turn, about.")
@click.option("--dim", type=click.IntRange(1), help="Instead of the cases' own.")
@click.option("--batch-size", type=click.IntRange(1), help="Instead of the cases' own.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(  # noqa: PLR0913, PLR0917 (an argument for each option)
    dataset: str,
    only: str,
    device: str,
    threads: int,
    rounds: int,
    seconds: float,
    dim: int | None,
    batch_size: int | None,
    file: Path | None,
) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    graph, found = load(dataset).sealed(), []
    for each in cases():
        if each.kind not in TYPES or not fnmatch.fnmatchcase(each.name, only):
            continue
        case = replace(each, dim=dim or each.dim, batch_size=batch_size or each.batch_size)
        ways = dict(trainings(case, graph, dataset, device))
        rows = measured(ways, clock_of(device), rounds=rounds, seconds=seconds)
        click.echo("\n".join(table(case, rows)))
        found.append({"case": asdict(case), "rows": [asdict(row) for row in rows]})
    said = {"environment": dict(environment()), "dataset": dataset, "device": device, "threads": threads}
    if file is not None:
        write_atomically(file, json.dumps({**said, "load": os.getloadavg(), "cases": found}, indent=2).encode())


if __name__ == "__main__":
    console.run(main, user=(UserError,), world=(KgeError, OSError))
