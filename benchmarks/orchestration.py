"""What a trial costs beside its training: our search against stock Ray Tune with OptunaSearch, in one run.

    python -m benchmarks.orchestration [--quick] [--json FILE]

Both search one arm of eight dimensions with Optuna's TPE, over 10, 100, 1,000 and 5,000 finished trials.

    suggestion   the driver hands out a trial: ours SearchWork.next (TPE; the trial and its attempt are in the
                 database, its configuration is complete), stock OptunaSearch.suggest
    result       it takes a validation: ours SearchWork.measured (charge, Optuna's copy, pruning decision),
                 stock OptunaSearch.on_trial_result
    end          it takes the end of a trial: ours SearchWork.ended, stock OptunaSearch.on_trial_complete
    start        a driver begins over the database and hands out its first trial
    gap          from the last validation of a trial to the first one of the trial that takes its place, on a
                 cluster of two places
    overhead     the gap without the training in it, which is the same work for all

Systems take turns, so that a busy machine is busy for all of them.
"""

import gc
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import click
import optuna

from benchmarks.finished_trials import STUDY, Case, Finished, archive, finished, measurement, stock_copy
from benchmarks.stock import Ran, StockDriver, stock_run, stock_searcher
from kge.files import write_atomically
from study.database import sqlite_url
from study.environment import environment
from study.nodes import Slots
from study.records import Outcome, TrialState
from study.runner import Cluster
from study.search import SearchWork
from study.store import Store
from study.work import Stop

OURS, MEMORY, SQLITE = "ours", "stock, memory", "stock, SQLite"
REUSE = " reuse"  # stock with reuse_actors=True; its default is False
PLACES = 2  # trials at once
DONE = Outcome(state=TrialState.COMPLETE, reason="max_epochs")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    sizes: tuple[int, ...] = (10, 100, 1000, 5000)
    turns: int = 15  # trials of each driver over each size
    rounds: int = 2  # of the runs with workers
    trials: int = 12  # in a run whose workers are reused
    cold_sizes: tuple[int, ...] = (10, 5000)  # over which workers are not reused, once: it takes long
    cold_trials: int = 6


QUICK = Plan(sizes=(100,), turns=3, rounds=1, trials=4, cold_sizes=(100,), cold_trials=3)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of one system over one number of finished trials, in seconds."""

    measure: str
    finished: int
    system: str
    low: float  # quartile
    median: float
    high: float  # quartile
    cpu: float | None  # median; None where other processes take part
    count: int

    @classmethod
    def of(cls, measure: str, size: int, system: str, walls: Sequence[float], cpus: Sequence[float] = ()) -> "Row":
        """The row of some measurements."""
        low, median, high = statistics.quantiles(walls, n=4, method="inclusive") if len(walls) > 1 else [*walls] * 3
        return cls(
            measure=measure,
            finished=size,
            system=system,
            low=low,
            median=median,
            high=high,
            cpu=statistics.median(cpus) if cpus else None,
            count=len(walls),
        )


# -- the driver alone ----------------------------------------------------------------------------


class Driver(Protocol):
    """What a driver does for a trial of one validation."""

    def suggestion(self) -> None: ...

    def result(self, mrr: float) -> None: ...

    def end(self, mrr: float) -> None: ...


class OurDriver:
    """The search of a study."""

    def __init__(self, work: SearchWork) -> None:
        self._work = work

    def suggestion(self) -> None:
        assignment = self._work.next()
        assert assignment is not None
        self._trial = assignment

    def result(self, mrr: float) -> None:
        assert self._work.measured(self._trial, measurement(self._trial, 1, mrr)), "the best trial was pruned"

    def end(self, mrr: float) -> None:
        self._work.ended(self._trial, DONE)


def drivers(size: int, file: Path, trials: Sequence[Finished], plan: Plan) -> Iterator[Row]:
    """Starts, then every driver in turn does a whole trial."""
    case, scratch = Case.of(epochs=3), file.parent / f"drivers-{size}"
    scratch.mkdir()
    copy, url = Path(shutil.copy(file, scratch / "ours.db")), stock_copy(file, scratch / "stock.db")
    driver: dict[str, Driver] = {}
    with ExitStack() as opened:

        def ours() -> None:
            driver[OURS] = OurDriver(opened.enter_context(case.work(copy, trials=10**6)))
            driver[OURS].suggestion()

        def stock() -> None:
            driver[SQLITE] = StockDriver(stock_searcher(case, database=url))
            driver[SQLITE].suggestion()

        for system, start in ((OURS, ours), (SQLITE, stock)):
            gc.collect()  # of what made the database
            wall, cpu = clocked(start)
            yield Row.of("start", size, system, [wall], [cpu])
        driver[MEMORY] = StockDriver(stock_searcher(case, trials=trials))
        yield from turns(size, driver, plan.turns)


def turns(size: int, driver: dict[str, Driver], number: int) -> Iterator[Row]:
    """Whole trials, one of each driver after the other."""
    clocks: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    rng = random.Random(1)
    for turn in range(number):
        mrr = 1.0 + turn  # better than all before: none is pruned, every trial does the same
        for system, each in rng.sample(sorted(driver.items()), len(driver)):
            calls: dict[str, Callable[[], None]] = {
                "suggestion": each.suggestion,
                "result": partial(each.result, mrr),
                "end": partial(each.end, mrr),
            }
            for measure, call in calls.items():
                clocks[measure, system].append(clocked(call))
    for (measure, system), pairs in clocks.items():
        walls, cpus = zip(*pairs, strict=True)
        yield Row.of(measure, size, system, walls, cpus)


def clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


# -- with workers --------------------------------------------------------------------------------


def our_run(case: Case, database: Path, *, finished: int, trials: int, cluster: Cluster) -> list[Ran]:
    """Some more trials of a study."""
    with case.work(database, trials=finished + trials) as work:
        cluster.execute(work)
    with closing(Store(sqlite_url(database))) as store:
        measured = [each for each in store.measurements(STUDY, "search") if each.trial >= finished]
    assert len(measured) == trials, "every trial has one validation"
    return [Ran(measured=each.time, training=each.device_seconds) for each in measured]


def gaps(ran: Sequence[Ran]) -> list[Ran]:
    """From each trial's validation to that of the trial that took its place, in the order of their start."""
    ends = sorted(each.measured for each in ran)
    return [
        Ran(measured=each.measured - end, training=each.training)
        for each, end in zip(ran[PLACES:], ends[:-PLACES], strict=True)
    ]


def runs(
    size: int, file: Path, trials: Sequence[Finished], plan: Plan, cluster: Cluster, slots: Slots
) -> Iterator[Row]:
    """Every system in turn."""
    case = Case.of(epochs=1)

    def ours(folder: Path) -> list[Ran]:
        copy = Path(shutil.copy(file, folder / "ours.db"))
        return our_run(case, copy, finished=size, trials=plan.trials, cluster=cluster)

    def stock(folder: Path, *, in_memory: bool, reuse: bool) -> list[Ran]:
        url = None if in_memory else stock_copy(file, folder / "stock.db")
        searcher = stock_searcher(case, trials=trials if in_memory else (), database=url)
        number = plan.trials if reuse else plan.cold_trials
        return stock_run(searcher, case.space, folder, slots=slots, trials=number, reuse=reuse)

    warm: dict[str, Callable[[Path], list[Ran]]] = {
        OURS: ours,
        MEMORY + REUSE: partial(stock, in_memory=True, reuse=True),
        SQLITE + REUSE: partial(stock, in_memory=False, reuse=True),
    }
    cold = {MEMORY: partial(stock, in_memory=True, reuse=False), SQLITE: partial(stock, in_memory=False, reuse=False)}
    found: dict[str, list[Ran]] = defaultdict(list)
    for turn in range(plan.rounds):
        for system, run in (warm | (cold if turn == 0 and size in plan.cold_sizes else {})).items():
            click.echo(f"{system}, over {size} finished trials", err=True)
            found[system] += gaps(run(Path(tempfile.mkdtemp(dir=file.parent))))
    for system, each in found.items():
        yield Row.of("gap", size, system, [gap.measured for gap in each])
        yield Row.of("overhead", size, system, [gap.measured - gap.training for gap in each])


# -- what is printed -----------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Iterator[str]:
    """One block a measure: milliseconds with quartiles, CPU of the driver, and how many times ours it takes."""
    line = "{:<12}{:>9}  {:<22}{:>10}  {:<18}{:>8}{:>8}".format
    for measure in dict.fromkeys(row.measure for row in rows):
        block = [row for row in rows if row.measure == measure]
        ours = {row.finished: row.median for row in block if row.system == OURS}
        yield ""
        yield line(measure, "finished", "system", "median ms", "quartiles", "CPU ms", "x ours")
        for row in block:
            spread = f"{milliseconds(row.low)} - {milliseconds(row.high)}"
            cpu = milliseconds(row.cpu) if row.cpu is not None else ""
            ratio = f"{row.median / ours[row.finished]:.2f}"
            yield line("", row.finished, row.system, milliseconds(row.median), spread, cpu, ratio)


def milliseconds(seconds: float) -> str:
    """With one decimal."""
    return f"{1000 * seconds:.1f}"


def measure(plan: Plan, folder: Path) -> Iterator[Row]:
    """All rows: the drivers first, then the runs on one cluster."""
    slots = Slots(cpus=(os.cpu_count() or PLACES) / PLACES)
    trials = {size: finished(Case.of(epochs=1).space, size) for size in plan.sizes}
    files = {size: folder / f"{size}.db" for size in plan.sizes}
    for size, file in files.items():
        click.echo(f"drivers over {size} finished trials", err=True)
        archive(file, trials[size])
        yield from drivers(size, file, trials[size], plan)
    with Cluster(address="local", slots=slots, stop=Stop()) as cluster:
        cluster.connect()
        for size, file in files.items():
            yield from runs(size, file, trials[size], plan, cluster, slots)


@click.command()
@click.option("--quick", is_flag=True, help="Small numbers, to see that it works.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(quick: bool, file: Path | None) -> None:
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="kge-bench-", dir="/tmp") as folder:
        rows = list(measure(QUICK if quick else Plan(), Path(folder)))
    click.echo("\n".join(table(rows)))
    click.echo(f"\n{os.cpu_count()} cores, load {load[0]:.1f} before and {os.getloadavg()[0]:.1f} after")
    if file is not None:
        found = {
            "environment": dict(environment()),
            "load": [load, os.getloadavg()],
            "rows": [asdict(row) for row in rows],
        }
        write_atomically(file, json.dumps(found, indent=2).encode())


if __name__ == "__main__":
    main()
