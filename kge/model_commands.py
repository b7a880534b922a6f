"""`kge predict`, `kge export`, `kge import` and `kge join`: what a trained model is used for."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kge.command_options import (
    PathTo,
    dataset_of,
    name_of_dataset,
    of_dataset,
    on_device,
    with_threads,
    writable_file,
    writable_folder,
)
from kge.files import replacing

if TYPE_CHECKING:
    from kge.predict import Predictor

_path = PathTo()
_file = PathTo(folder=False)


@click.command()
@click.argument("checkpoint", type=_path)
@click.option("--head", help="Ask for tails of this head.")
@click.option("--tail", help="Ask for heads of this tail.")
@click.option("--relation")
@click.option("--batch", type=_file, help="Instead: ask every query of a file, a line each, with ? for what is asked.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--new-only", is_flag=True, help="Leave known answers out.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.option("--out", type=_file, help="Write to this file.")
@of_dataset
@on_device
@with_threads
def predict(  # noqa: PLR0913, PLR0917 (an argument for each option)
    checkpoint: Path,
    head: str | None,
    tail: str | None,
    relation: str | None,
    batch: Path | None,
    top: int,
    new_only: bool,
    as_json: bool,
    out: Path | None,
    dataset: str | None,
    device: str,
) -> None:
    """Best answers of (HEAD, RELATION, ?) or (?, RELATION, TAIL), known ones marked with *.

    Entities and relations are ids, or labels where the data set has some. With --batch the answers come as a
    table, or as JSON lines.
    """
    from kge import queries
    from kge.data import Side

    _check_question(head, tail, relation, batch)
    if out is not None:
        writable_file(out, "--out")
    predictor = _predictor(checkpoint, dataset, device)
    if batch is not None:
        asked = queries.read_queries(batch, predictor)
    else:
        side, anchor = (Side.HEAD, tail) if head is None else (Side.TAIL, head)
        asked = [predictor.query(side, str(anchor), str(relation))]
    if unseen := [query for query in asked if not predictor.has_seen(query)]:
        first = f"({unseen[0].anchor}, {unseen[0].relation})"
        met = "whose entity or relation training has not met, so their answers are near chance"
        click.echo(f"{len(unseen)} of {len(asked)} queries {met}, as {first}", err=True)
    answers = queries.records(asked, predictor.answers(asked, top=top, new_only=new_only))
    as_lines = queries.as_json if as_json else queries.as_text if batch is None else queries.as_tsv
    _write(as_lines(answers), out)


def _check_question(head: str | None, tail: str | None, relation: str | None, batch: Path | None) -> None:
    if batch is not None:
        if (head, tail, relation) != (None, None, None):
            raise click.UsageError("give either --batch or a question of --head or --tail and --relation")
    elif (head is None) == (tail is None):
        raise click.UsageError("give exactly one of --head and --tail")
    elif relation is None:
        raise click.UsageError("give --relation")


def _predictor(checkpoint: Path, dataset: str | None, device: str) -> "Predictor":
    from kge.catalog import labels_of, load
    from kge.fitting import load_model
    from kge.predict import Predictor

    name = name_of_dataset(checkpoint, dataset)
    graph = load(name)
    model, _ = load_model(checkpoint, graph, device=device)
    return Predictor(model, graph, labels_of(name))


def _write(lines: Iterable[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            click.echo(line, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        for line in lines:
            file.write(line.encode())


@click.command("export")
@click.argument("checkpoint", type=_path)
@click.argument("folder", type=_path)
@of_dataset
def export_(checkpoint: Path, folder: Path, dataset: str | None) -> None:
    """Write a model as safetensors, JSON and lists of names, into a new folder."""
    from kge.exchange import export_model

    writable_folder(folder, "FOLDER")
    export_model(checkpoint, dataset_of(checkpoint, dataset), folder)
    click.echo(folder)


@click.command("import")
@click.argument("folder", type=_path)
@click.argument("checkpoint", type=_path)
def import_(folder: Path, checkpoint: Path) -> None:
    """Make a checkpoint of an exported model, with the same scores to the last bit."""
    from kge.exchange import import_model

    import_model(folder, writable_file(checkpoint, "CHECKPOINT"))
    click.echo(checkpoint)


@click.command()
@click.argument("checkpoints", type=_path, nargs=-1, required=True)
@click.option("--out", type=_file, required=True, help="The checkpoint to write.")
@of_dataset
def join(checkpoints: tuple[Path, ...], out: Path, dataset: str | None) -> None:
    """Make one larger model of several, whose scores are the means of theirs.

    For models whose score is a sum of products: the tables are laid side by side.
    """
    from kge.joining import join_models

    if len(checkpoints) == 1:
        raise click.UsageError("give two checkpoints or more")
    join_models(checkpoints, dataset_of(checkpoints[0], dataset), writable_file(out, "--out"))
    click.echo(out)
