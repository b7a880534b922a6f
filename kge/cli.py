"""The `kge` command: data sets, one training, ranking and prediction.

Heavy imports stand inside the commands, so that `kge --help` answers at once.
"""

import csv
import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kge import console
from kge.errors import KgeError, UserError
from kge.files import write_atomically

if TYPE_CHECKING:
    from kge.config import TrainingConfig
    from kge.fitting import Validation


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kge-study")
def kge() -> None:
    """Knowledge graph embedding: train, rank and predict."""


def main() -> None:
    """Entry point."""
    console.run(kge, user=(UserError,), world=(KgeError, OSError))


@kge.group()
def data() -> None:
    """Data sets by name or folder."""


@data.command("list")
def list_() -> None:
    """Names that the catalog knows."""
    from kge.catalog import NAMES

    click.echo("\n".join(NAMES))


@data.command()
@click.argument("name")
def get(name: str) -> None:
    """Fetch a named data set, verify its checksums and say where it is."""
    from kge import catalog

    if name not in catalog.SOURCES:
        raise click.UsageError(catalog.unknown_dataset(name))
    click.echo(catalog.fetch(name))


@data.command("passport")
@click.argument("name_or_folder")
def passport_(name_or_folder: str) -> None:
    """Counts, duplicates, unseen entities and leakage of a data set, as JSON."""
    from kge.catalog import load
    from kge.data import passport

    click.echo(json.dumps(passport(load(name_or_folder)), indent=2))


def _threads(context: click.Context, _: click.Parameter, count: int | None) -> int | None:
    if count is not None and not context.resilient_parsing:
        import torch

        torch.set_num_threads(count)
    return count


def _device(context: click.Context, _: click.Parameter, name: str | None) -> str:
    import torch

    if name is None or context.resilient_parsing:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError("neither cpu nor cuda")
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise click.BadParameter(f"must be a device of this machine, got {name!r} ({reason})") from None
    return name


_on = click.option("--device", callback=_device, help="cpu or cuda[:N]; the GPU when there is one.")
_with = click.option("--threads", type=click.IntRange(1), callback=_threads, expose_value=False, help="CPU threads.")


@kge.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--directory", type=click.Path(path_type=Path), help="Where checkpoints go; default runs/CONFIG's name.")
@click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Change one value, e.g. model.dim=64.")
@_on
@_with
def train(config: Path, directory: Path | None, assignments: tuple[str, ...], device: str) -> None:
    """Train one configuration, or go on where its directory stopped.

    The directory holds last.pt (continues exactly), best.pt (best validation) and curve.csv.
    """
    from kge.catalog import load
    from kge.fitting import BEST, LAST, fit, read_curve

    training_config = _read_config(config, assignments)
    directory = directory or Path("runs") / config.stem
    dataset = load(training_config.dataset).sealed()
    if (directory / LAST).is_file():
        click.echo(f"continuing {directory / LAST}")
    head = f"{'epoch':>6} {'loss':>10} {'mrr':>7} {'best':>7} {'lr':>9} {'seconds':>8}\n"
    try:
        for validation in fit(training_config, dataset, directory=directory, device=device):
            click.echo(head + _line(validation))
            head = ""
            _write_curve(directory / "curve.csv", read_curve(directory / LAST))
    except KeyboardInterrupt:
        options = ["--directory", str(directory), *(f"--set={assignment}" for assignment in assignments)]
        click.echo(f"to go on: {shlex.join(['kge', 'train', str(config), *options])}", err=True)
        raise
    click.echo(f"stopped by {validation.stop}; best MRR {validation.best_mrr:.4f} at epoch {validation.best_epoch}")
    click.echo(f"best checkpoint: {directory / BEST}")


def _read_config(path: Path, assignments: Sequence[str]) -> "TrainingConfig":
    from kge.documents import parse_config, read, read_text, set_path

    document = read(path)
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise click.UsageError(f"--set: must be PATH=VALUE, got {assignment!r}")
        set_path(document.data, dotted, read_text(f"value: {text}", f"--set {dotted}").data["value"])
    return parse_config(document.data, document.where)


def _line(validation: "Validation") -> str:
    mark = " (again)" if validation.replayed else ""
    return (
        f"{validation.epoch:>6} {validation.loss:>10.4f} {validation.mrr:>7.4f} {validation.best_mrr:>7.4f} "
        f"{validation.lr:>9.2e} {validation.device_seconds:>8.1f}{mark}"
    )


def _write_curve(path: Path, curve: Sequence["Validation"]) -> None:
    text = io.StringIO()
    names = ["epoch", "loss", "lr", "device_seconds", *curve[0].metrics]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for each in curve:
        row = {"epoch": each.epoch, "loss": each.loss, "lr": each.lr, "device_seconds": each.device_seconds}
        writer.writerow(row | dict(each.metrics))
    write_atomically(path, text.getvalue().encode())


@kge.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="valid", show_default=True)
@click.option("--filter-with-test", is_flag=True, help="Filter train or valid by test too, as older publications do.")
@click.option("--dataset", help="Folder or name, when it is not where the training found it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_on
@_with
def evaluate(
    checkpoint: Path, split: str, filter_with_test: bool, dataset: str | None, as_json: bool, device: str
) -> None:
    """Rank a split with a checkpoint, both sides, filtered.

    train and valid are filtered by train and valid, test by all three.
    """
    from kge.fitting import evaluate_split

    filters = ("train", "valid", "test") if split == "test" or filter_with_test else ("train", "valid")
    graph = _dataset_of(checkpoint, dataset)
    found = evaluate_split(checkpoint, graph, split=split, filter_splits=filters, device=device)
    if as_json:
        record = {"split": split, "filter": list(filters), "ranks": "realistic", **found.metrics}
        click.echo(json.dumps(record, indent=2))
        return
    click.echo(f"{split}, filtered by {' + '.join(filters)}, {len(found.ranks[0].head)} triples, both sides")
    for name, value in found.metrics.items():
        click.echo(f"{name:>16}  {value:.4f}")


@kge.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--head", help="Ask for tails of this head.")
@click.option("--tail", help="Ask for heads of this tail.")
@click.option("--relation", required=True)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--new-only", is_flag=True, help="Leave known answers out.")
@click.option("--dataset", help="Folder or name, when it is not where the training found it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@_on
@_with
def predict(  # noqa: PLR0913, PLR0917 (an argument for each option)
    checkpoint: Path,
    head: str | None,
    tail: str | None,
    relation: str,
    top: int,
    new_only: bool,
    dataset: str | None,
    as_json: bool,
    device: str,
) -> None:
    """Best answers of (HEAD, RELATION, ?) or (?, RELATION, TAIL), known ones marked with *."""
    from kge import predict as prediction
    from kge.data import Side
    from kge.fitting import load_model

    if (head is None) == (tail is None):
        raise click.UsageError("give exactly one of --head and --tail")
    graph = _dataset_of(checkpoint, dataset)
    model, _ = load_model(checkpoint, graph, device=device)
    side, anchor = (Side.TAIL, head) if head is not None else (Side.HEAD, tail)
    answers = prediction.predict(
        model, graph, side=side, anchor=str(anchor), relation=relation, top=top, new_only=new_only
    )
    for position, answer in enumerate(answers, start=1):
        record: dict[str, Any] = {"entity": answer.entity, "score": answer.score, "known": answer.known}
        plain = f"{position:>4} {answer.score:>10.4f} {'*' if answer.known else ' '} {answer.entity}"
        click.echo(json.dumps(record) if as_json else plain)


def _dataset_of(checkpoint: Path, named: str | None) -> Any:
    from kge import checkpoint as checkpoints
    from kge.catalog import load

    return load(named or checkpoints.config_of(checkpoints.load(checkpoint)).dataset)


if __name__ == "__main__":
    main()
