"""What every fast path that is not bit-equal costs in validation MRR, over epochs and seeds, and what it gains.

    python -m benchmarks.quality FOLDER [--dataset fb15k-237] [--epochs 20] [--seeds 0,1,2,3,4]

Trains each variant with each seed and nothing else changed. The exact path is float32 with one_vs_all.

    mrr          validation MRR by epoch: mean and range over the seeds
    difference   of a variant and the exact path with the same seed: mean and 95 % t-interval over the seeds
    cost         CPU seconds of training, set-up in and validations left out, until an MRR is first reached

A training that has ended is a line of FOLDER/trainings.jsonl and is never done again. One that was killed goes on
from its checkpoint; what it lost is not counted. Processes with other seeds or other variants may share a folder.
"""

import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch

from kge import console
from kge.catalog import load
from kge.config import TrainingConfig
from kge.documents import parse_config, read_text, set_path, to_mapping
from kge.errors import KgeError, UserError
from kge.fitting import LAST, fit_by_epoch, read_curve
from kge.training import EpochReport
from study.stats import summarize

EXACT = "fp32 one_vs_all"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    EXACT: {},
    "bf16 one_vs_all": {"precision": "bfloat16"},
    "fp32 k_vs_all": {"type": "k_vs_all"},
    "bf16 k_vs_all": {"type": "k_vs_all", "precision": "bfloat16"},
}
SHARES = (0.9, 0.95, 0.98, 1.0)  # of the exact path's mean best MRR: what is to be reached
LINES = 12  # of the table by epoch

Key = tuple[str, int]  # variant, seed


@dataclass(frozen=True, kw_only=True)
class Point:
    """A validation, and the CPU seconds of training up to it."""

    epoch: int
    mrr: float
    cpu: float


Curves = Mapping[Key, Sequence[Point]]


# -- training ------------------------------------------------------------------------------------


def base(dataset: str, dim: int, epochs: int, every: int, assignments: Sequence[str]) -> TrainingConfig:
    """The exact path: ComplEx with sce, unregularised, unless `assignments` (PATH=VALUE) say otherwise."""
    mapping: dict[str, Any] = {
        "dataset": dataset,
        "model": {"name": "complex", "dim": dim},
        "loss": {"name": "sce"},
        "training": {"type": "one_vs_all", "max_epochs": epochs},
        "optimizer": {"name": "adagrad", "lr": 0.1},
        "schedule": {"name": "none"},
        "early_stopping": {"patience": None},
        "validation": {"every": every},
    }
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not path or not equals:
            raise click.UsageError(f"--set: must be PATH=VALUE, got {assignment!r}")
        set_path(mapping, path, read_text(f"value: {text}", f"--set {path}").data["value"])
    return parse_config(mapping)


def config_of(exact: TrainingConfig, variant: str, seed: int) -> TrainingConfig:
    """The training of a variant with a seed."""
    return replace(exact, seed=seed, training=replace(exact.training, **VARIANTS[variant]))


def identity(config: TrainingConfig) -> str:
    """The same for the same training."""
    return hashlib.sha256(json.dumps(to_mapping(config), sort_keys=True).encode()).hexdigest()[:12]


def train(config: TrainingConfig, folder: Path) -> list[Point]:
    """Go on with a training in its folder to the end."""
    folder.mkdir(parents=True, exist_ok=True)
    costs = folder / "costs.jsonl"
    with closing(fit_by_epoch(config, load(config.dataset).sealed(), directory=folder)) as events:
        started = time.process_time()
        for event in events:
            if isinstance(event, EpochReport):
                append(costs, {"epoch": event.epoch, "cpu": time.process_time() - started})
            else:
                click.echo(f"  epoch {event.epoch:>3}  mrr {event.mrr:.4f}", err=True)
            started = time.process_time()
    cost = {each["epoch"]: each["cpu"] for each in lines_of(costs)}  # of an epoch that was repeated, the last
    return [
        Point(epoch=each.epoch, mrr=each.mrr, cpu=sum(cost[epoch] for epoch in range(1, each.epoch + 1)))
        for each in read_curve(folder / LAST)
    ]


def finished(file: Path, exact: TrainingConfig) -> dict[Key, list[Point]]:
    """The trainings of this comparison that have ended."""
    found: dict[Key, list[Point]] = {}
    for record in lines_of(file):
        key = record["variant"], record["seed"]
        if key[0] in VARIANTS and record["identity"] == identity(config_of(exact, *key)):
            found[key] = [Point(**point) for point in record["curve"]]
    return found


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; none where there is none yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def append(file: Path, record: Mapping[str, Any]) -> None:
    """One write, so that processes may share a file."""
    with file.open("ab", buffering=0) as lines:
        lines.write(json.dumps(record).encode() + b"\n")


# -- what is printed -----------------------------------------------------------------------------


def table(curves: Curves, variants: Sequence[str]) -> Iterator[str]:
    """All three blocks, of the trainings that have ended."""
    there = [variant for variant in variants if of_variant(curves, variant)]
    yield from mrr_by_epoch(curves, there)
    if EXACT in there:
        yield from differences(curves, [variant for variant in there if variant != EXACT])
        yield from costs_until(curves, there)


def of_variant(curves: Curves, variant: str) -> dict[int, Sequence[Point]]:
    """The curves of a variant by seed."""
    return {seed: curve for (name, seed), curve in curves.items() if name == variant}


def epochs_of(curves: Curves) -> list[int]:
    """The validated epochs that are shown: the last, and evenly before it."""
    epochs = sorted({point.epoch for curve in curves.values() for point in curve})
    step = -(-len(epochs) // LINES)
    return epochs[::-step][::-1] if epochs else []


def at(curve: Sequence[Point], epoch: int) -> float:
    """MRR after an epoch."""
    return next(point.mrr for point in curve if point.epoch == epoch)


def mrr_by_epoch(curves: Curves, variants: Sequence[str]) -> Iterator[str]:
    """Mean and range over seeds."""
    line = ("{:<8}" + "{:>24}" * len(variants)).format
    yield line("mrr", *variants)
    yield line("seeds", *(len(of_variant(curves, variant)) for variant in variants))
    for epoch in epochs_of(curves):
        found = [[at(curve, epoch) for curve in of_variant(curves, variant).values()] for variant in variants]
        yield line(epoch, *(f"{statistics.fmean(each):.4f} ({min(each):.4f}-{max(each):.4f})" for each in found))


def differences(curves: Curves, variants: Sequence[str]) -> Iterator[str]:
    """Paired by seed; at the last epoch, and of the best epochs."""
    exact, last = of_variant(curves, EXACT), epochs_of(curves)[-1]
    line = "{:<18}{:>6}  {:<28}{:<28}".format
    yield ""
    yield line("difference", "seeds", f"at epoch {last}", "of the best epochs")
    for variant in variants:
        pairs = [(curve, exact[seed]) for seed, curve in of_variant(curves, variant).items() if seed in exact]
        final = [at(ours, last) - at(theirs, last) for ours, theirs in pairs]
        peak = [best(ours) - best(theirs) for ours, theirs in pairs]
        yield line(variant, len(pairs), interval(final), interval(peak))


def best(curve: Sequence[Point]) -> float:
    """The best MRR."""
    return max(point.mrr for point in curve)


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % t-interval."""
    found = summarize(values)
    if found.mean is None:
        return "-"
    return f"{found.mean:+.4f}" + ("" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]")


def costs_until(curves: Curves, variants: Sequence[str]) -> Iterator[str]:
    """The median over the seeds that reach it; the number of these where it is not all."""
    reference = statistics.fmean(best(curve) for curve in of_variant(curves, EXACT).values())
    goals = [share * reference for share in SHARES]
    line = ("{:<18}" + "{:>20}" * len(goals)).format
    yield ""
    yield line("cost, CPU s until", *(f"{goal:.4f} ({share:.0%})" for goal, share in zip(goals, SHARES, strict=True)))
    for variant in variants:
        yield line(variant, *(cost_until(of_variant(curves, variant), goal) for goal in goals))


def cost_until(curves: Mapping[int, Sequence[Point]], goal: float) -> str:
    """Of one variant."""
    costs = [next((point.cpu for point in curve if point.mrr >= goal), None) for curve in curves.values()]
    reached = [cost for cost in costs if cost is not None]
    if not reached:
        return "never"
    count = "" if len(reached) == len(costs) else f" ({len(reached)} of {len(costs)})"
    return f"{statistics.median(reached):.1f}{count}"


# -- the command ---------------------------------------------------------------------------------


def _seeds(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"must be whole numbers such as 0,1,2, got {text!r}") from None


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--dataset", default="fb15k-237", show_default=True)
@click.option("--dim", type=click.IntRange(1), default=128, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="Epochs from validation to validation."
)
@click.option("--seeds", callback=_seeds, default="0,1,2,3,4", show_default=True)
@click.option("--variants", multiple=True, type=click.Choice(list(VARIANTS)), help="Default: all of them.")
@click.option(
    "--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Change one value of all, e.g. optimizer.lr=0.03."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--table", "only_table", is_flag=True, help="Train nothing; print what there is.")
def main(  # noqa: PLR0913, PLR0917 (an argument for each option)
    folder: Path,
    dataset: str,
    dim: int,
    epochs: int,
    every: int,
    seeds: Sequence[int],
    variants: Sequence[str],
    assignments: Sequence[str],
    threads: int,
    only_table: bool,
) -> None:
    """Train what is missing, then print."""
    torch.set_num_threads(threads)
    exact = base(dataset, dim, epochs, every, assignments)
    file = folder / "trainings.jsonl"
    keys = list(product(variants or VARIANTS, seeds))
    if not only_table:
        train_missing(exact, sorted(keys, key=lambda key: key[1]), folder)
    curves = {key: curve for key, curve in finished(file, exact).items() if key in keys}
    click.echo("\n".join(table(curves, list(dict.fromkeys(variant for variant, _ in keys)))))


def train_missing(exact: TrainingConfig, keys: Sequence[Key], folder: Path) -> None:
    """One after the other."""
    file = folder / "trainings.jsonl"
    for variant, seed in keys:
        if (variant, seed) in finished(file, exact):
            continue
        click.echo(f"{variant}, seed {seed}", err=True)
        config = config_of(exact, variant, seed)
        scratch = folder / f"training-{identity(config)}"
        curve = train(config, scratch)
        record = {"variant": variant, "seed": seed, "identity": identity(config), "config": to_mapping(config)}
        append(file, record | {"curve": [asdict(point) for point in curve]})
        shutil.rmtree(scratch)


if __name__ == "__main__":
    console.run(main, user=(UserError,), world=(KgeError, OSError))
