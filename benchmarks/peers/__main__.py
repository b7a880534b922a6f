"""Training, ranking and start-up of several libraries, measured in turn beside what the machine can do.

    python -m benchmarks.peers [--quick] [--only PATTERN] [--libkge PATH] [--json FILE]

Every case has a process for each library, which loads once, makes one batch to warm up, and is then asked in turn
with the others for a few batches. On the CPU the clock that counts is CPU time, because others use the machine too;
on a GPU it is wall time. A start is a cold process up to its first finished batch.
"""

import fnmatch
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.peers import workers
from benchmarks.peers.cases import Case, cases
from benchmarks.peers.contest import Plan, Site, repeated, started
from benchmarks.peers.floors import Graph
from benchmarks.peers.rows import table
from benchmarks.peers.workers import LIBKGE, PYKEEN, FailedError, System
from kge import console
from kge.catalog import load
from kge.data import SPLITS, Dataset, Side
from kge.errors import KgeError, UserError
from kge.files import write_atomically
from study.environment import environment

ABSENT = {PYKEEN: "make test-peer installs it", LIBKGE: "--libkge PATH"}

QUICK = Plan(dataset="synthetic", rounds=2, seconds=0.1, most=2, dim=16, batch_size=64)


# -- what is measured on -------------------------------------------------------------------------


def graph_of(dataset: Dataset) -> Graph:
    """Its sizes."""
    queries = (
        torch.unique(torch.stack([side.anchors(dataset.valid), dataset.valid[:, 1]], dim=1), dim=0) for side in Side
    )
    return Graph(
        entities=dataset.num_entities,
        relations=dataset.num_relations,
        triples=len(dataset.train),
        valid_queries=sum(len(each) for each in queries),
    )


def write_graph(dataset: Dataset, folder: Path) -> None:
    """As text with names whose order is that of the ids, so that all libraries have the same ids."""
    folder.mkdir()
    for split in SPLITS:
        triples = dataset.split(split).tolist()
        (folder / f"{split}.txt").write_text("".join(f"e{h:07}\tr{r:07}\te{t:07}\n" for h, r, t in triples))


def sized(case: Case, plan: Plan) -> Case:
    """As large as the plan says."""
    negatives = min(case.negatives, plan.batch_size) if plan.batch_size else case.negatives
    return replace(case, dim=plan.dim or case.dim, batch_size=plan.batch_size or case.batch_size, negatives=negatives)


# -- the command ---------------------------------------------------------------------------------


@click.command()
@click.option("--dataset", default="fb15k-237", show_default=True, help="Name or folder.")
@click.option("--quick", is_flag=True, help="Small numbers on the built-in graph, to see that it works.")
@click.option("--only", default="*", metavar="PATTERN", help="Cases whose name matches, such as '*sans*'.")
@click.option("--alone", is_flag=True, help="Ours and the machine's limits, no other library.")
@click.option(
    "--pykeen", "pykeen_python", metavar="PYTHON", help="An interpreter with PyKEEN; default: of make test-peer."
)
@click.option("--libkge", "checkout", type=click.Path(path_type=Path), help="A checkout of LibKGE.")
@click.option("--libkge-python", default=sys.executable, help="An interpreter with what LibKGE needs.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of every library.")
@click.option("--device", "devices", multiple=True, help="cpu or cuda; default: cpu, and cuda where there is one.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of every library.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(  # noqa: PLR0913, PLR0917 (an argument for each option)
    dataset: str,
    quick: bool,
    only: str,
    alone: bool,
    pykeen_python: str | None,
    checkout: Path | None,
    libkge_python: str,
    threads: int,
    devices: Sequence[str],
    rounds: int | None,
    file: Path | None,
) -> None:
    """Measure and print."""
    plan = QUICK if quick else Plan(dataset=dataset)
    plan = replace(plan, rounds=rounds or plan.rounds)
    chosen = [sized(case, plan) for case in cases() if fnmatch.fnmatchcase(case.name, only)]
    if not chosen:
        raise click.BadParameter(f"--only: must match one of {', '.join(case.name for case in cases())}, got {only!r}")
    others = (workers.libkge(checkout, libkge_python), None if alone else workers.pykeen(pykeen_python))
    systems = [workers.ours(), *(each for each in others if each is not None)]
    graph, before, found = load(plan.dataset), os.getloadavg(), []
    with tempfile.TemporaryDirectory(prefix="kge-peers-", dir="/tmp") as scratch:
        write_graph(graph, Path(scratch) / "graph")
        for device in devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]):
            site = Site(
                folder=Path(scratch) / "graph", graph=graph_of(graph), systems=systems, device=device, threads=threads
            )
            click.echo(f"{plan.dataset} on {device}, {threads} threads; {_named(systems)}")
            for record in all_of(chosen, site, plan, Path(scratch)):
                found.append(record)
                if file is not None:
                    said = {"environment": dict(environment()), "plan": asdict(plan), "load": [before, os.getloadavg()]}
                    write_atomically(file, json.dumps({**said, "cases": found}, indent=2).encode())
    click.echo(f"\n{os.cpu_count()} cores, load {before[0]:.1f} before and {os.getloadavg()[0]:.1f} after")


def all_of(chosen: Sequence[Case], site: Site, plan: Plan, scratch: Path) -> Iterator[Mapping[str, Any]]:
    """Every case, printed when it is done."""
    for number, case in enumerate(chosen):
        folder = scratch / f"{site.device}-{number}"
        try:
            rows, floors = (started if case.kind == "start" else repeated)(case, site, plan, folder)
        except FailedError as error:  # of a floor's kernels: a library that fails is a row
            click.echo(f"\n{case.name}: no floor, no figures: {error}")
            continue
        click.echo("\n".join(table(case, rows, floors, clock=("wall", "CPU")[site.clock])))
        yield {
            "device": site.device,
            "threads": site.threads,
            "case": asdict(case),
            "rows": [asdict(row) for row in rows],
            "floors": [asdict(floor) for floor in floors],
        }


def _named(systems: Sequence[System]) -> str:
    """Who takes part, and who does not."""
    there = [f"{each.name} {each.version}".strip() for each in systems]
    names = {each.name for each in systems}
    away = [f"no {name} ({way})" for name, way in ABSENT.items() if name not in names]
    return ", ".join([*there, *away])


if __name__ == "__main__":
    console.run(main, user=(UserError,), world=(KgeError, OSError))
