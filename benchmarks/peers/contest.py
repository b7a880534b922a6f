"""A case in several libraries, in turn with each other and with the kernels of its floor."""

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import workers
from benchmarks.peers.cases import Case
from benchmarks.peers.floors import Graph, floor_of
from benchmarks.peers.rows import Floor, Lap, Row
from benchmarks.peers.workers import BF16, CEILINGS, OURS, TORCH, FailedError, System, Worker

FLOAT32, BFLOAT16 = "float32", "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured, and of what."""

    dataset: str = "fb15k-237"
    rounds: int = 5
    seconds: float = 2.0  # of a library's turn, about
    most: int = 10  # batches of a turn
    dim: int | None = None  # None: the case's
    batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where it is measured, and with what."""

    folder: Path  # the graph's files
    graph: Graph
    systems: Sequence[System]
    device: str
    threads: int

    @property
    def clock(self) -> int:
        """Of a lap: CPU time on the CPU, wall time elsewhere."""
        return 1 if self.device == "cpu" else 0

    def job(self, case: Case, precision: str) -> dict[str, Any]:
        """What a worker is told."""
        told = {**asdict(case), "training": case.training}
        sizes = {"entities": self.graph.entities, "relations": self.graph.relations}
        return {**told, **sizes, "folder": str(self.folder), **self.place, "precision": precision}

    @property
    def place(self) -> dict[str, Any]:
        """Device and threads."""
        return {"device": self.device, "threads": self.threads}

    def contenders(self, case: Case) -> dict[str, tuple[System, dict[str, Any]]]:
        """Every library, ours in each precision."""
        found = {system.name: (system, self.job(case, "float32")) for system in self.systems}
        if case.bfloat16:
            found[BF16] = (workers.ours(), self.job(case, "bfloat16"))
        order = [OURS, BF16, *(name for name in found if name not in (OURS, BF16))]
        return {name: found[name] for name in order if name in found}


class Contest:
    """The libraries of a case, and what they needed."""

    def __init__(self, case: Case, site: Site) -> None:
        self._case = case
        self._site = site
        self._turns: dict[str, list[list[Lap]]] = defaultdict(list)
        self._batches: dict[str, int] = {}
        self._failed: dict[str, str] = {}

    def laps(self, name: str, laps: Sequence[Sequence[float]], *, batches: int = 1) -> None:
        """A turn of a library: some batches, and how many make a whole pass."""
        self._turns[name].append([(wall, cpu) for wall, cpu in laps])
        self._batches[name] = batches

    def fail(self, name: str, reason: object) -> None:
        """The library takes no part."""
        self._failed[name] = str(reason)

    def rows(self) -> list[Row]:
        """In the order in which they are shown."""
        order = [*self._site.contenders(self._case), TORCH]
        return [self._row(name) for name in order if name in self._turns or name in self._failed]

    def _row(self, name: str) -> Row:
        if name in self._failed:
            return Row.without(name, self._failed[name])
        note, clock = self._case.note(name), self._site.clock
        return Row.of(name, self._turns[name], clock=clock, batches=self._batches[name], note=note)


def repeated(case: Case, site: Site, plan: Plan, scratch: Path) -> tuple[list[Row], list[Floor]]:
    """A training or a ranking: everybody loads, then batches are asked for in turn."""
    contest = Contest(case, site)
    precisions = (FLOAT32, BFLOAT16) if case.bfloat16 else (FLOAT32,)
    stages = {each: floor for each in precisions if (floor := floor_of(case, site.graph, each))}
    bounds: dict[str, list[Any]] = {precision: [] for precision in stages}
    with ExitStack() as opened:
        machines = {
            precision: opened.enter_context(CEILINGS.start({**site.place, "stages": each}, scratch / precision))
            for precision, each in stages.items()
        }
        for machine in machines.values():
            machine.answer()
        live: dict[str, Worker] = {}
        for name, (system, job) in site.contenders(case).items():
            live[name] = opened.enter_context(system.start(job, scratch / name.replace(" ", "")))
        numbers = {name: first for name, worker in live.items() if (first := warmed(contest, name, worker, plan))}
        rng = random.Random(0)
        for _ in range(plan.rounds):
            for name in rng.sample(sorted(numbers), len(numbers)):
                turn(contest, name, live[name], numbers)
            for precision, machine in machines.items():
                bounds[precision].append(machine.ask()["bounds"])
    floors = [Floor.of(precision, stages[precision], found, site.clock) for precision, found in bounds.items()]
    return contest.rows(), floors


def warmed(contest: Contest, name: str, worker: Worker, plan: Plan) -> int | None:
    """How many batches a turn of a library has: what it needs for its second one decides."""
    try:
        worker.answer()
        wall = worker.ask(batches=1)["laps"][0][0]
    except FailedError as error:
        contest.fail(name, error)
        return None
    return max(1, min(plan.most, int(plan.seconds / wall)))


def turn(contest: Contest, name: str, worker: Worker, numbers: dict[str, int]) -> None:
    """A few batches of one library; who fails is out."""
    try:
        answer = worker.ask(batches=numbers[name])
    except FailedError as error:
        contest.fail(name, error)
        del numbers[name]
    else:
        contest.laps(name, answer["laps"], batches=answer["batches"])


def started(case: Case, site: Site, plan: Plan, scratch: Path) -> tuple[list[Row], list[Floor]]:
    """Cold processes to their first finished batch, in turn."""
    contest = Contest(case, site)
    for number in range(plan.rounds):
        for name, (system, job) in site.contenders(case).items():
            try:
                with system.start(job, scratch / f"{name}-{number}") as worker:
                    cpu = worker.answer()["cpu"]
                    contest.laps(name, [(time.perf_counter() - worker.started, cpu)])
            except FailedError as error:
                contest.fail(name, error)
        contest.laps(TORCH, [workers.import_torch(site.threads)])
    return contest.rows(), []
