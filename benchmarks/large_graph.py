"""A graph of a million entities and ten million triples, through the front door: what takes memory, what takes time.

    python benchmarks/large_graph.py FOLDER                  # generate, load, describe, train one epoch, evaluate
    python benchmarks/large_graph.py FOLDER --phases train evaluate --batch-size 16384

Every phase is a process of its own, a `kge` command but for generating and loading; its peak of resident memory and its
times are the kernel's (wait4), so that nothing is measured from inside. They are printed as they come and written to
FOLDER/large_graph.json.

The graph is the same for the same sizes. Entities live in towns of a hundred, and a relation leads from every town
to another one, so that there is something to learn. The first of a town is sixty times as popular as the last, and
some relations are as much more frequent than others.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np

Int64s = np.ndarray[tuple[int], np.dtype[np.int64]]

TOWN = 100
SEED = 0


def main() -> None:
    """Generate, for the process that measures; or measure."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.only_generate:
        _generate(options)
    else:
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    (options.folder / "training.yaml").write_text(_training(options))
    if "train" in options.phases:
        shutil.rmtree(options.folder / "training", ignore_errors=True)  # it would go on from there
    phases: list[dict[str, Any]] = []
    for phase, command in _phases(options):
        phases.append(found := {"phase": phase, "command": command, **_run(command)})
        record = {"machine": _machine(), "phases": phases}
        (options.folder / "large_graph.json").write_text(json.dumps(record, indent=2) + "\n")
        numbers = f"{found['seconds']:>9.1f} s {found['cpu_seconds']:>9.1f} cpu s {found['peak_gib']:>7.2f} GiB"
        print(f"{phase:>10} {numbers}", flush=True)
        if found["exit"]:
            sys.exit(f"{phase} failed with {found['exit']}: {' '.join(command)}")


def _phases(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    folder, kge = str(options.folder), [sys.executable, "-m", "kge.cli"]
    best = str(options.folder / "training" / "best.pt")
    threads = ["--threads", str(options.threads)]
    commands = {
        "generate": [sys.executable, __file__, *sys.argv[1:], "--only-generate"],
        "load": [sys.executable, "-c", "import sys; from kge.catalog import load; load(sys.argv[1])", folder],
        "passport": [*kge, "data", "passport", folder],
        "train": [*kge, "train", f"{folder}/training.yaml", "--directory", f"{folder}/training", *threads],
        "evaluate": [*kge, "evaluate", best, *threads, *options.evaluation.split()],
    }
    return ((phase, command) for phase, command in commands.items() if phase in options.phases)


def _run(command: Sequence[str]) -> dict[str, Any]:
    """Run a command; its wall and processor time and its peak of resident memory, by the kernel's account.

    The peak of a process starts with that of the one that made it: this one holds no more than numpy.
    """
    started = time.perf_counter()
    process = Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "exit": process.returncode,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gib": usage.ru_maxrss / 2**20,
    }


def _training(options: argparse.Namespace) -> str:
    """One epoch of `ns`, validated at its end."""
    return f"""\
dataset: {options.folder.resolve()}
model: {{name: {options.model}, dim: {options.dim}, init: {{name: normal, std: 0.1}}}}
loss: {{name: ns}}
training: {{batch_size: {options.batch_size}, sub_batch_size: 1024, max_epochs: 1}}
negatives: {{tail: {options.negatives}}}
optimizer: {{name: adagrad, lr: 0.1}}
"""


def _machine() -> Mapping[str, object]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"platform": platform.platform(), "processors": os.cpu_count(), "memory_gib": round(memory, 1)}


def _generate(options: argparse.Namespace) -> None:
    """Write the splits as text; every entity is the head of a triple."""
    rng, drawn = np.random.default_rng(SEED), np.empty(0, dtype=np.int64)
    leads_to = rng.integers(options.entities // TOWN, size=options.relations)
    heads = np.arange(options.entities)
    while len(drawn) < options.triples:
        drawn = np.unique(np.concatenate([drawn, _triples(heads, leads_to, options.entities, rng)]))
        homes = rng.integers(options.entities // TOWN, size=options.triples - len(drawn))
        heads = homes * TOWN + _inhabitants(len(homes), rng)
    rng.shuffle(drawn)
    splits = np.split(drawn, [options.held_out, 2 * options.held_out])
    for split, packed in zip(("valid", "test", "train"), splits, strict=True):
        with (options.folder / f"{split}.tsv").open("w", encoding="utf-8") as file:
            for part in np.array_split(packed, 1 + len(packed) // 1_000_000):
                queries, tail = np.divmod(part, options.entities)
                rows = zip(*(each.tolist() for each in (*np.divmod(queries, options.relations), tail)), strict=True)
                file.write("".join(f"e{h:07d}\tr{r:04d}\te{t:07d}\n" for h, r, t in rows))


def _triples(heads: Int64s, leads_to: Int64s, entities: int, rng: np.random.Generator) -> Int64s:
    """A triple of each head, as one number: relation and tail are drawn."""
    relation = (len(leads_to) * rng.random(len(heads)) ** 2).astype(np.int64)
    town = (heads // TOWN + leads_to[relation]) % (entities // TOWN)
    packed: Int64s = (heads * len(leads_to) + relation) * entities + town * TOWN + _inhabitants(len(heads), rng)
    return packed


def _inhabitants(count: int, rng: np.random.Generator) -> Int64s:
    """Places in a town, the first the most popular."""
    places: Int64s = (TOWN * rng.random(count) ** 3).astype(np.int64)
    return places


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the graph and the results go")
    parser.add_argument("--phases", nargs="+", default=["generate", "load", "passport", "train", "evaluate"])
    parser.add_argument("--entities", type=int, default=1_000_000)
    parser.add_argument("--relations", type=int, default=1_000)
    parser.add_argument("--triples", type=int, default=10_000_000)
    parser.add_argument("--held-out", type=int, default=10_000, help="triples of valid, and again of test")
    parser.add_argument("--model", default="complex")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--negatives", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--evaluation", default="--sample 1000", help="options of kge evaluate")
    parser.add_argument("--only-generate", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
