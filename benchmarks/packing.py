"""What several trainings at once on one device reach together: 1, 2, 4 and 8 processes, as trials of a study are.

    python -m benchmarks.packing [--device cuda] [--counts 1,2,4,8] [--json FILE]

All processes are started first and make a few steps. Then, in a new order each round, so many of them train for the
same seconds, while the others wait; a round counts what they did together. Each process has its own context of the
GPU: how they share it is the driver's (time slices), or that of an MPS daemon where one runs.
"""

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.peers.cases import Case, cases
from benchmarks.peers.ours import config_of
from benchmarks.peers.workers import FailedError, System, Worker
from benchmarks.steps import TYPES
from kge import console
from kge.building import check_combination
from kge.errors import KgeError, UserError
from kge.files import write_atomically
from study.environment import environment

LEAD = 0.2  # seconds until a turn begins: all have been told by then
TRAINING = System(name="training", python=sys.executable, module="benchmarks.packed")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Trainings at once, and what each round found."""

    at_once: int
    per_second: Sequence[float]  # steps of all of them
    cpu: float  # processor seconds of a step, median
    reserved: int  # bytes of the GPU that the largest one holds

    @property
    def median(self) -> float:
        """Steps a second of all of them."""
        return statistics.median(self.per_second)


def row(at_once: int, rounds: Sequence[Sequence[Mapping[str, Any]]]) -> Row:
    """From the answers of each round."""
    answers = [answer for found in rounds for answer in found]
    return Row(
        at_once=at_once,
        per_second=[sum(answer["steps"] / answer["wall"] for answer in found) for found in rounds],
        cpu=statistics.median(answer["cpu"] / max(1, answer["steps"]) for answer in answers),
        reserved=max(answer["reserved"] for answer in answers),
    )


def packed(
    job: Mapping[str, Any], counts: Sequence[int], scratch: Path, *, rounds: int, seconds: float
) -> Iterator[Row]:
    """Start as many as are ever at once, and let them train in turns."""
    with ExitStack() as opened:
        workers = [opened.enter_context(TRAINING.start(job, scratch / str(number))) for number in range(max(counts))]
        for worker in workers:
            worker.answer()
        found: dict[int, list[list[Mapping[str, Any]]]] = {count: [] for count in counts}
        rng = random.Random(0)
        for _ in range(rounds):
            for count in rng.sample(list(counts), len(counts)):
                found[count].append(_turn(workers[:count], seconds))
    return (row(count, found[count]) for count in counts)


def _turn(workers: Sequence[Worker], seconds: float) -> list[Mapping[str, Any]]:
    """All at the same time."""
    begins = time.monotonic() + LEAD
    with ThreadPoolExecutor(len(workers)) as threads:
        asked = [threads.submit(each.ask, begins=begins, seconds=seconds) for each in workers]
    return [each.result() for each in asked]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each number of trainings."""
    yield f"  {'at once':>8}{'steps/s':>12}  {'lowest - highest':<22}{'x one':>8}{'ms CPU':>10}{'GPU MiB':>10}"
    for each in rows:
        spread = f"{min(each.per_second):,.1f} - {max(each.per_second):,.1f}"
        ratio, held = f"{each.median / rows[0].median:.2f}", f"{each.reserved / 2**20:,.0f}"
        yield f"  {each.at_once:>8}{each.median:>12,.1f}  {spread:<22}{ratio:>8}{1000 * each.cpu:>10.2f}{held:>10}"


def _case(_context: object, _option: object, name: str) -> Case:
    known = {each.name: each for each in cases() if each.kind in TYPES}
    if name not in known:
        raise click.BadParameter(f"must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def _counts(_context: object, _option: object, said: str) -> list[int]:
    try:
        counts = [int(each) for each in said.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise click.BadParameter(f"must be numbers of trainings such as 1,2,4,8, got {said!r}")
    return counts


@click.command()
@click.option("--dataset", default="fb15k-237", show_default=True, help="Name or folder.")
@click.option(
    "--case",
    default="complex sce one_vs_all",
    show_default=True,
    callback=_case,
    help="A training of benchmarks.peers.",
)
@click.option("--precision", default="float32", show_default=True)
@click.option("--counts", default="1,2,4,8", show_default=True, callback=_counts, help="Trainings at once.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each training.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Of a turn.")
@click.option("--dim", type=click.IntRange(1), help="Instead of the case's own.")
@click.option("--batch-size", type=click.IntRange(1), help="Instead of the case's own.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(  # noqa: PLR0913, PLR0917 (an argument for each option)
    dataset: str,
    case: Case,
    precision: str,
    counts: Sequence[int],
    device: str,
    threads: int,
    rounds: int,
    seconds: float,
    dim: int | None,
    batch_size: int | None,
    file: Path | None,
) -> None:
    """Measure and print."""
    case = replace(case, dim=dim or case.dim, batch_size=batch_size or case.batch_size)
    folder = str(Path(dataset).absolute()) if os.sep in dataset else dataset  # each process has a folder of its own
    job = {**asdict(case), "training": case.training, "folder": folder, "precision": precision}
    check_combination(config_of(job))
    with tempfile.TemporaryDirectory(prefix="kge-packing-", dir="/tmp") as scratch:
        here = {**job, "device": device, "threads": threads}
        rows = list(packed(here, counts, Path(scratch), rounds=rounds, seconds=seconds))
    mps = "CUDA_MPS_PIPE_DIRECTORY" in os.environ
    place = f"{dataset} on {device}{', with MPS' if mps else ''}, {threads} threads each"
    click.echo(f"{case.name}, dim {case.dim}, {case.batch_size} rows a batch, {precision}; {place}")
    click.echo("\n".join(table(rows)))
    if file is not None:
        said = {"environment": dict(environment()), "job": here, "mps": mps, "load": os.getloadavg()}
        write_atomically(file, json.dumps({**said, "rows": [asdict(each) for each in rows]}, indent=2).encode())


if __name__ == "__main__":
    console.run(main, user=(UserError,), world=(KgeError, OSError, FailedError))
