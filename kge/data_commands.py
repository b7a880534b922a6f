"""`kge data`: what there is, where it is, what is in it, and how its columns stand."""

import json
from pathlib import Path

import click

from kge.command_options import PathTo


@click.group()
def data() -> None:
    """Data sets by name or folder."""


@data.command("list")
@click.option("--long", "as_table", is_flag=True, help="With published sizes, and whether checksums are known.")
def list_(as_table: bool) -> None:
    """Names that the catalog knows."""
    from kge.catalog import NAMES
    from kge.sources import SOURCES

    if not as_table:
        click.echo("\n".join(NAMES))
        return
    click.echo(f"{'name':<12}{'entities':>10}{'relations':>10}{'train':>11}{'valid':>8}{'test':>8}  sha256")
    for name, source in SOURCES.items():
        sizes = f"{source.triples['train']:>11}{source.triples['valid']:>8}{source.triples['test']:>8}"
        checksums = "not known" if source.unknown else "known"
        click.echo(f"{name:<12}{source.entities:>10}{source.relations:>10}{sizes}  {checksums}")


@data.command()
@click.argument("name")
def get(name: str) -> None:
    """Fetch a named data set, verify its checksums and say where it is."""
    from kge import catalog, names
    from kge.sources import SOURCES

    if name not in SOURCES:
        raise click.UsageError(f"must be a name that is fetched, got an {names.unknown('name', name, SOURCES)}")
    folder = catalog.fetch(name)
    unknown = SOURCES[name].unknown
    if unknown:
        kept = f"kept in {catalog.SUMS}" if (folder / catalog.SUMS).is_file() else "kept nowhere"
        came = ", ".join(f"{split} {sha256}" for split, sha256 in catalog.checksums(folder).items() if split in unknown)
        click.echo(f"{name}: the right checksums are not known; these came, {kept}: {came}", err=True)
    click.echo(folder)


@data.command("passport")
@click.argument("name_or_folder")
def passport_(name_or_folder: str) -> None:
    """Counts, duplicates, unseen entities, leakage and warnings of a data set, as JSON."""
    from kge.catalog import load
    from kge.data import passport

    click.echo(json.dumps(passport(load(name_or_folder)), indent=2))


@data.command("columns")
@click.argument("folder", type=PathTo(file=False))
@click.argument("order", nargs=-1, metavar="[head relation tail]")
def columns_(folder: Path, order: tuple[str, ...]) -> None:
    """State the order of the columns in a folder's files, or show it.

    It is kept in columns.txt beside the files, and every command reads it.
    """
    from kge import columns
    from kge.folders import find_split

    if folder.is_dir():
        find_split(folder, "train")  # a folder of no triples is another one than was meant
    if order:
        columns.declare(folder, order)
    stated = columns.declared(folder)
    click.echo(" ".join(stated or columns.STANDARD) + ("" if stated else " (not stated)"))
