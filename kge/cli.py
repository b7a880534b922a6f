"""The `kge` command: data sets, one training, ranking and prediction.

Heavy imports stand inside the commands, so that `kge --help` answers at once.
"""

import csv
import io
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kge import console, terminal
from kge.command_options import (
    FiniteRange,
    PathTo,
    dataset_of,
    of_dataset,
    on_device,
    with_threads,
    writable_file,
    writable_folder,
)
from kge.data_commands import data
from kge.errors import CheckpointError, ConfigError, DataError, KgeError, UserError, first_line
from kge.files import held, remove_half_written, write_atomically
from kge.model_commands import export_, import_, join, predict

if TYPE_CHECKING:
    from kge.config import TrainingConfig
    from kge.data import Dataset
    from kge.documents import Document, Location, Where
    from kge.fitting import Validation
    from kge.training import EpochReport


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kge-study")
def kge() -> None:
    """Knowledge graph embedding: train, rank and predict."""


for _command in (data, predict, export_, import_, join):
    kge.add_command(_command)


def main() -> None:
    """Entry point."""
    console.run(kge, user=(UserError,), world=(KgeError, OSError))


_a_file = PathTo(folder=False)


@kge.command()
@click.argument("config", type=PathTo())
@click.option("--directory", type=PathTo(), help="Where checkpoints go; default runs/CONFIG's name.")
@click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Change one value, e.g. model.dim=64.")
@click.option("--memory", type=FiniteRange(0, min_open=True), help="GiB that it may hold (default: all there is).")
@on_device
@with_threads
def train(
    config: Path, directory: Path | None, assignments: tuple[str, ...], memory: float | None, device: str
) -> None:
    """Train one configuration, or go on where its directory stopped.

    The directory holds last.pt (continues exactly), best.pt (best validation) and curve.csv. Where memory will not
    suffice by what is known beforehand, or does not, half the rows are in it at a time, which changes no value.
    """
    import torch

    from kge.data import warnings_of
    from kge.fitting import BEST, LAST, read_curve
    from kge.precision import has_bfloat16

    directory = _unharmed(directory or Path("runs") / config.stem)
    is_new = not (directory / LAST).is_file()
    training_config, where = _read_config(config, assignments, is_new=is_new)
    dataset = _begun_from(training_config, where, is_new=is_new)
    training_config = _fitted(training_config, dataset, memory, device)
    if training_config.training.precision == "bfloat16" and not has_bfloat16(device):
        click.echo("training.precision: bfloat16 is not multiplied by this processor, float32 instead", err=True)
    head = f"{'epoch':>6} {'loss':>10} {'mrr':>7} {'best':>7} {'lr':>9} {'seconds':>8}\n"
    try:
        with held(directory):
            remove_half_written(directory, "*.pt")
            for warning in warnings_of(dataset) if is_new else ():
                click.echo(f"{dataset.name}: {warning}", err=True)
            curve = list(read_curve(directory / LAST)) if (directory / LAST).is_file() else []
            for validation in _fit(training_config, dataset, directory=directory, device=device):
                if head and validation.replayed:  # what was there is taken, and not refused
                    click.echo(f"continuing {directory / LAST}")
                click.echo(head + _line(validation))
                head = ""
                if not curve or validation.epoch > curve[-1].epoch:  # not one that is told again
                    curve.append(validation)
                _write_curve(directory / "curve.csv", curve)
    except BlockingIOError:
        raise click.UsageError(f"--directory: must be free, another training writes to {directory}") from None
    except KeyboardInterrupt:
        options = ["--directory", str(directory), *(f"--set={assignment}" for assignment in assignments)]
        options += [] if memory is None else [f"--memory={memory:g}"]
        options += [f"--device={device}", f"--threads={torch.get_num_threads()}"]
        click.echo(f"to go on: {shlex.join(['kge', 'train', str(config), *options])}", err=True)
        raise
    click.echo(f"stopped by {validation.stop}; best MRR {validation.best_mrr:.4f} at epoch {validation.best_epoch}")
    click.echo(f"best checkpoint: {directory / BEST}")


def _unharmed(directory: Path) -> Path:
    """The directory, where a training may go on or begin: no best checkpoint of another one is written over."""
    from kge.fitting import BEST, LAST

    if (directory / BEST).is_file() and not (directory / LAST).is_file():
        must = "must hold a training to go on with, or none"
        raise click.UsageError(f"--directory: {must}, got {directory} with {BEST} and without {LAST}")
    return writable_folder(directory, "--directory")


def _begun_from(config: "TrainingConfig", where: "Where", *, is_new: bool) -> "Dataset":
    """The data set without its test split; it and a checkpoint to start from are refused by the key that names them."""
    from kge.catalog import load
    from kge.documents import check_size
    from kge.pretraining import check_start

    with _told_at(where, ("dataset",)):
        dataset = load(config.dataset).sealed()
    check_size(config, where, num_entities=dataset.num_entities)
    start = config.pretrain.checkpoint
    if is_new and start is not None:
        with _told_at(where, ("pretrain", "checkpoint")):
            check_start(Path(start), config, dataset)
    return dataset


def _fitted(config: "TrainingConfig", dataset: "Dataset", memory: float | None, device: str) -> "TrainingConfig":
    """The training with as few rows at a time as memory wants by what is known beforehand."""
    from kge.footprint import Sizes, fitted, room

    limit = room(device, whole=None if memory is None else memory * 2**30)
    smaller = fitted(config, Sizes.of(dataset), limit=limit, device=device)
    if smaller is not config:
        _say_rows("would not fit into memory", smaller)
    return smaller


def _say_rows(why: str, config: "TrainingConfig") -> None:
    rows, queries = config.training.sub_batch_size, config.validation.block_size
    click.echo(f"{why}: going on with sub-batches of {rows} rows and blocks of {queries} queries")


def _fit(config: "TrainingConfig", dataset: "Dataset", *, directory: Path, device: str) -> "Iterator[Validation]":
    """Train, and after a failure of memory go on from the last checkpoint with fewer rows at a time."""
    from kge.errors import ExhaustedError
    from kge.fitting import fit_by_epoch
    from kge.memory import halved, is_out_of_memory, release

    while True:
        try:
            with closing(fit_by_epoch(config, dataset, directory=directory, device=device)) as events:
                yield from _validations(events)
            return
        except Exception as error:
            smaller = halved(config) if is_out_of_memory(error) else config
            if smaller is config:
                raise
            if smaller is None:
                reason = first_line(error)
                raise ExhaustedError(f"memory: must hold one row at a time, got: {reason}") from error
        config = smaller
        release()
        _say_rows("out of memory", config)


def _validations(events: "Iterator[EpochReport | Validation]") -> "Iterator[Validation]":
    """What stays of a training; an epoch passes by on the terminal."""
    from kge.fitting import Validation

    try:
        for event in events:
            if isinstance(event, Validation):
                terminal.show("")
                yield event
            else:
                terminal.show(f"epoch {event.epoch}: loss {event.loss:.4f}, {event.seconds:.1f} s")
    finally:
        terminal.show("")


def _read_config(path: Path, assignments: Sequence[str], *, is_new: bool) -> "tuple[TrainingConfig, Where]":
    """The file with its changes, and where each key was said.

    What a training has begun with it may keep, idle keys included.
    """
    from kge.documents import parse_config, read, read_text, refuse_idle, set_path

    document = read(path)
    changed: list[Location] = []
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise click.UsageError(f"--set: must be PATH=VALUE, got {assignment!r}")
        given = read_text(f"value: {text}", f"--set {dotted}").data
        if len(given) > 1:
            raise click.UsageError(f"--set: must be PATH=VALUE, one at a time, got {assignment!r}")
        try:
            set_path(document.data, dotted, given["value"])
        except ConfigError as error:
            raise ConfigError(f"--set {error}") from None
        changed.append(tuple(dotted.split(".")))
    where = _where(document, changed)
    config = parse_config(document.data, where)
    if is_new:
        refuse_idle(document.data, config, where)
    return config, where


@contextmanager
def _told_at(where: "Where", loc: "Location") -> "Iterator[None]":
    """Put the place of a key before what is wrong with the file or folder that it names."""
    try:
        yield
    except (CheckpointError, DataError) as error:
        raise type(error)(f"{where(loc)}: {error}") from None


def _where(document: "Document", changed: Sequence["Location"]) -> "Where":
    """Where a key was said: in the file, or by --set, which has the last word."""
    from kge.documents import key_path

    def where(loc: "Location") -> str:
        is_set = any(loc[: len(each)] == each for each in changed)
        is_made = loc not in document.lines and any(each[: len(loc)] == loc for each in changed)
        return f"--set {key_path(loc)}" if is_set or is_made else document.where(loc)

    return where


def _line(validation: "Validation") -> str:
    mark = " (again)" if validation.replayed else ""
    return (
        f"{validation.epoch:>6} {validation.loss:>10.4f} {validation.mrr:>7.4f} {validation.best_mrr:>7.4f} "
        f"{validation.lr:>9.2e} {validation.device_seconds:>8.1f}{mark}"
    )


def _write_curve(path: Path, curve: Sequence["Validation"]) -> None:
    text = io.StringIO()
    names = ["epoch", "loss", "lr", "device_seconds", *curve[-1].metrics]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for each in curve:
        row = {"epoch": each.epoch, "loss": each.loss, "lr": each.lr, "device_seconds": each.device_seconds}
        writer.writerow(row | dict(each.metrics))
    write_atomically(path, text.getvalue().encode())


@kge.command()
@click.argument("checkpoint", type=PathTo())
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="valid", show_default=True)
@click.option("--filter-with-test", is_flag=True, help="Beside: filtered by test too, as older papers do.")
@click.option("--slices", is_flag=True, help="By side, relation, category and entity frequency too.")
@click.option("--ranks", "ranks_file", type=_a_file, help="Write every query's ranks to this parquet file.")
@click.option("--sample", type=click.IntRange(2), metavar="N", help="Rank only N random triples of the split.")
@click.option("--candidates", type=click.IntRange(1), metavar="M", help="Rank among M random candidates a query.")
@click.option("--seed", type=click.IntRange(0), show_default="0", help="Of both samples.")
@of_dataset
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@on_device
@with_threads
def evaluate(  # noqa: PLR0913, PLR0917 (an argument for each option)
    checkpoint: Path,
    split: str,
    filter_with_test: bool,
    slices: bool,
    ranks_file: Path | None,
    sample: int | None,
    candidates: int | None,
    seed: int | None,
    dataset: str | None,
    as_json: bool,
    device: str,
) -> None:
    """Rank a split with a checkpoint, both sides, filtered.

    train and valid are filtered by train and valid, test by all three.
    """
    from kge import scorecard, scorecard_text
    from kge.fitting import load_model
    from kge.ranks_file import write_ranks

    if seed is not None and sample is None and candidates is None:
        raise click.UsageError("--seed: must come with --sample or --candidates")
    if ranks_file is not None:
        writable_file(ranks_file, "--ranks")
        if ranks_file.suffix != ".parquet":
            raise click.UsageError(f"--ranks: must be the name of a .parquet file, got {ranks_file}")
    graph = dataset_of(checkpoint, dataset)
    model, config = load_model(checkpoint, graph, device=device)
    question = scorecard.Question(
        split=split, with_test=filter_with_test, slices=slices, sample=sample, candidates=candidates, seed=seed or 0
    )
    card = scorecard.evaluate(model, graph, question, block_size=config.validation.block_size)
    if ranks_file is not None:
        write_ranks(ranks_file, card.ranks)
    click.echo(json.dumps(card.record, indent=2) if as_json else "\n".join(scorecard_text.lines(card.record)))
    for caution in card.record["cautions"].values():
        click.echo(f"caution: {caution}", err=True)


if __name__ == "__main__":
    main()
