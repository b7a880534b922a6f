"""The `study` command.

Heavy imports stand inside the commands, so that `study --help` answers at once.
"""

import json
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kge import console
from kge.errors import KgeError
from kge.errors import UserError as KgeUserError
from study.errors import StudyError, UserError

if TYPE_CHECKING:
    from study.drive import Audience
    from study.revision import Revision
    from study.site import Site

INTERRUPTED = 130


class _Group(click.Group):
    """With --debug, an error shows where it was raised before it becomes one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception:
            if ctx.params["debug"]:
                traceback.print_exc()
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kge-study")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def study(debug: bool) -> None:
    """Fair, crash-exact hyperparameter studies of knowledge graph embedding models and losses."""


def main() -> None:
    """Entry point."""
    console.run(study, user=(UserError, KgeUserError), world=(StudyError, KgeError, OSError))


@study.command()
@click.argument("file")
def plan(file: str) -> None:
    """Show the arms, spaces, budget and trainings of a study; starts nothing, writes nothing.

    FILE is a study file or the name of a built-in study.
    """
    from study.config import load_study
    from study.plan import plan_lines
    from study.space import compose_all

    config = load_study(file)
    for line in plan_lines(config, compose_all(config)):
        click.echo(line)


@study.command()
def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from kge.documents import schema as json_schema
    from study.config import StudyFile

    click.echo(json.dumps(json_schema(StudyFile), indent=2))


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_place = _options(
    click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that holds the folders of studies (KGE_STUDY_HOME; default: runs).",
    ),
    click.option("--database", help="URL of a PostgreSQL database (KGE_STUDY_DATABASE; default: HOME/NAME/study.db)."),
)
_driver = _options(
    _place,
    click.option("--address", default="local", show_default=True, help="A running Ray cluster: auto or HOST:PORT."),
    click.option("--plain", is_flag=True, help="Plain lines instead of a live table."),
)


@study.command()
@click.argument("file")
@click.option("--name", help="Another name than the file's own.")
@_driver
def run(file: str, name: str | None, home: Path | None, database: str | None, address: str, plain: bool) -> int:
    """Run a study: search, replicates, one look at the test split, report.

    FILE is a study file or the name of a built-in study.
    """
    from study import drive
    from study.config import load_study
    from study.site import site

    config = load_study(file)
    where = site(name or config.name, home=home, database=database)
    with _audience(plain=plain) as audience:
        finished = drive.run(config, where, address=address, audience=audience)
    return _ended(finished, where.name, home, database)


@study.command()
@click.argument("name_or_file")
@click.option("--amend", is_flag=True, help="Take over what has changed in the study file since.")
@click.option("--reopen", is_flag=True, help="With --amend: the test split may be opened again, which the report says.")
@_driver
def resume(
    name_or_file: str,
    amend: bool,
    reopen: bool,
    home: Path | None,
    database: str | None,
    address: str,
    plain: bool,
) -> int:
    """Go on with a study that was interrupted, from where it is.

    Its file must say what it said, or come with --amend: a larger budget, more replicates, further arms, other
    resources. Given a file instead of a name, the study of that file goes on.
    """
    from study.config import load_study
    from study.revision import Revision
    from study.site import site

    if reopen and not amend:
        raise click.UsageError("--reopen: must come with --amend")
    file = Path(name_or_file) if Path(name_or_file).is_file() else None
    where = site(load_study(file).name if file else name_or_file, home=home, database=database)
    revision = Revision(file=file, amend=amend, reopen=reopen)
    return _resume(where, revision, home, database, address=address, plain=plain, search=True)


@study.command()
@click.argument("name")
@_driver
def replicate(name: str, home: Path | None, database: str | None, address: str, plain: bool) -> int:
    """Only what follows a search that has ended: freeze, replicates, test, report."""
    from study.revision import Revision
    from study.site import site

    where = site(name, home=home, database=database)
    return _resume(where, Revision(), home, database, address=address, plain=plain, search=False)


@study.command()
@click.argument("name")
@click.option("--timeout", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds to wait.")
@_place
def stop(name: str, timeout: float, home: Path | None, database: str | None) -> None:
    """End the run of a study, on whatever machine it is, as Ctrl-C would; `study resume` goes on with it."""
    from contextlib import closing

    from study.lease import stop_driver
    from study.site import site

    with closing(site(name, home=home, database=database).open()) as store:
        store.registration(name)
        for sentence in stop_driver(store.lease(name), name, timeout=timeout):
            click.echo(sentence)


@study.command()
@click.argument("name")
@_place
def status(name: str, home: Path | None, database: str | None) -> None:
    """Show where a study stands."""
    from contextlib import closing

    from study.history import study_record
    from study.site import site
    from study.status import status_lines

    where = site(name, home=home, database=database)
    with closing(where.open()) as store:
        record, owner = study_record(where.database, name), store.lease(name).owner()
    for line in status_lines(record, owner):
        click.echo(line)


@study.command()
@click.argument("name")
@_place
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder (default: HOME/NAME/report).")
def report(name: str, home: Path | None, database: str | None, out: Path | None) -> None:
    """Write a study's report from its database, whatever state the study is in."""
    from study import report
    from study.history import study_record
    from study.site import site

    where = site(name, home=home, database=database)
    where.open().close()
    for file in report.build(study_record(where.database, name), out or where.folder / "report"):
        click.echo(file)


@study.command()
@click.argument("name")
@_place
def sync(name: str, home: Path | None, database: str | None) -> None:
    """Bring MLflow up to the study: after an outage, or to a new tracking server."""
    from study.site import site
    from study.tracking.worker import sync_command

    where = site(name, home=home, database=database)
    where.open().close()
    click.echo(str(sync_command(name=name, home=where.home, database=where.database)))


@contextmanager
def _audience(*, plain: bool) -> "Iterator[Audience]":
    from rich.console import Console

    from study.drive import Audience
    from study.progress import Display

    with Display(Console(file=sys.stdout), plain=plain) as display:
        yield Audience(progress=display.progress, say=display.say)


def _resume(
    where: "Site",
    revision: "Revision",
    home: Path | None,
    database: str | None,
    *,
    address: str,
    plain: bool,
    search: bool,
) -> int:
    from study import drive

    with _audience(plain=plain) as audience:
        finished = drive.resume(where, revision=revision, address=address, audience=audience, search=search)
    return _ended(finished, where.name, home, database)


def _ended(finished: bool, name: str, home: Path | None, database: str | None) -> int:
    if finished:
        return 0
    place = (f" --home {shlex.quote(str(home))}" if home else "") + (" --database ..." if database else "")
    click.echo(f"interrupted: `study resume {name}{place}` continues it", err=True)
    return INTERRUPTED


if __name__ == "__main__":
    main()
