"""Where the CPU time of our side of a case goes.

    python -m benchmarks.peers.profile 'complex sce k_vs_all' [--precision bfloat16] [--batches 30]
    python -m benchmarks.peers.profile 'complex sce start'

The first prints the functions that most time was spent in, themselves, a batch: torch's calls are functions, what
autograd does between them is `run_backward`. The second prints the parts of a cold start.
"""

import cProfile
import fnmatch
import pstats
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.peers.cases import Case, cases
from benchmarks.peers.turns import Job, Turns

WARM = 3  # batches before the measured ones


class EnoughError(Exception):
    """All batches have been profiled."""


class Profile(Turns):
    """Turns that nobody waits for, with a profiler between them."""

    def __init__(self, batches: int) -> None:
        self._profile = cProfile.Profile(time.process_time)
        self._total = batches
        self._begun = 0

    def begins(self) -> None:
        self._profile.disable()
        self._begun += 1
        if self._begun > WARM + self._total:
            raise EnoughError
        if self._begun > WARM:
            self._profile.enable()

    def lines(self, most: int) -> Iterator[str]:
        """The slowest functions."""
        found = pstats.Stats(self._profile)
        total: float = found.total_tt  # type: ignore[attr-defined]
        yield f"{1000 * total / self._total:.2f} CPU ms a batch, profiler included"
        stats = found.stats.items()  # type: ignore[attr-defined]
        for (file, line, name), (_, calls, own, _, _) in sorted(stats, key=lambda each: -each[1][2])[:most]:
            where = name if file == "~" else f"{Path(file).name}:{line} {name}"
            yield f"{1000 * own / self._total:9.3f} ms {own / total:6.1%} {calls / self._total:7.1f}x  {where}"


def parts(job: Job) -> Iterator[tuple[str, float]]:
    """What a start consists of, and the CPU seconds since the process began."""
    yield "python", time.process_time()
    import torch  # noqa: PLC0415 (the import is what is timed)

    torch.set_num_threads(job["threads"])
    yield "import torch", time.process_time()
    from benchmarks.peers.ours import config_of  # noqa: PLC0415
    from kge.catalog import load  # noqa: PLC0415
    from kge.training import Training  # noqa: PLC0415

    yield "import kge", time.process_time()
    dataset = load(job["folder"]).sealed()
    yield "read the graph", time.process_time()
    training = Training(config_of(job), dataset)
    yield "model, optimizer, order of queries", time.process_time()
    next(training.steps())
    yield "first batch", time.process_time()


def matching(pattern: str) -> Case:
    """The first case whose name matches."""
    for case in cases():
        if fnmatch.fnmatchcase(case.name, pattern):
            return case
    raise click.BadParameter(f"must match one of {', '.join(case.name for case in cases())}, got {pattern!r}")


@click.command()
@click.argument("pattern")
@click.option("--dataset", default="fb15k-237", show_default=True, help="Name or folder.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--batches", type=click.IntRange(1), default=30, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=16, show_default=True, help="Functions to be shown.")
def main(pattern: str, dataset: str, precision: str, batches: int, rows: int) -> None:
    """Profile our side of a case on one thread of the CPU."""
    case, since = matching(pattern), 0.0
    job = {**asdict(case), "training": case.training, "folder": dataset, "precision": precision}
    job |= {"device": "cpu", "threads": 1}
    if case.kind == "start":
        for name, at in parts(job):
            click.echo(f"{at - since:7.3f} s  {name}")
            since = at
        sys.exit()
    import torch  # noqa: PLC0415 (is timed where a start is)

    from benchmarks.peers import ours  # noqa: PLC0415

    torch.set_num_threads(1)
    profile = Profile(batches)
    try:
        ours.work(job, profile)
    except EnoughError:
        click.echo("\n".join(profile.lines(rows)))


if __name__ == "__main__":
    main()
