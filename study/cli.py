"""The `study` command.

Heavy imports stand inside the commands, so that `study --help` answers at once.
"""

import json
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kge import console
from kge.command_options import THREADS, FiniteRange, PathTo, kind_of_device, writable_file, writable_folder
from kge.errors import KgeError
from kge.errors import UserError as KgeUserError
from study.cluster_commands import (
    CHECKPOINTS_HELP,
    JOB_SERVER,
    Errand,
    is_job_server,
    logs,
    no_wait_option,
    resumption,
    send,
    submit,
    with_code_option,
)
from study.errors import StudyError, UnequalError, UserError

if TYPE_CHECKING:
    from study.drive import Audience
    from study.revision import Revision
    from study.site import Site

_SECONDS = 2.0  # of a timing
_READ = 2_000_000  # triples of a graph that `study plan` looks at: to read more takes minutes
_RESUMING = ("amend", "reopen", "unequal")  # flags of `study resume` that go with it to a cluster


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


study.add_command(submit)
study.add_command(logs)


def main() -> None:
    """Entry point."""
    console.run(study, user=(UserError, KgeUserError), world=(StudyError, KgeError, OSError))


@study.command()
@click.argument("file")
@click.option(
    "--measure", metavar="[cpu|cuda]", callback=kind_of_device, help="Time each arm there, and keep the prices."
)
@click.option(
    "--prices",
    "price_file",
    type=PathTo(folder=False),
    help="File of measured prices (default: prices.json in the study's folder).",
)
@click.option("--threads", type=THREADS, help="With --measure cpu: of each training (default: the study's).")
@click.option("--seconds", type=FiniteRange(0), show_default=str(_SECONDS), help="With --measure: of each timing.")
def plan(file: str, measure: str | None, price_file: Path | None, threads: int | None, seconds: float | None) -> None:
    """Show the arms, spaces, budget and trainings of a study, and what they cost; starts nothing.

    FILE is a study file or the name of a built-in study. Device-hours are shown for each kind of device that the
    price file knows; only --measure writes to it.
    """
    from kge.catalog import is_here, load
    from kge.data import warnings_of
    from kge.footprint import resident
    from study import price
    from study.cautions import cautions
    from study.config import load_study
    from study.machine import lacking, substituted
    from study.plan import memory_lines, plan_lines, price_lines
    from study.site import site
    from study.space import compose_all
    from study.trial import cost_of_checkpoint

    if measure is None and (threads, seconds) != (None, None):
        raise click.UsageError("--threads and --seconds: must come with --measure")
    config = load_study(file)
    threads = threads or max(1, int(config.resources.cpus_per_trial))
    timer = None if measure is None else price.Timer(device=measure, threads=threads)
    where = price_file or site(config.name).folder / "prices.json"
    if timer is not None:
        writable_file(where, "--prices")
    prices = price.read_prices(where) if (price_file and not timer) or where.is_file() else {}
    spaces = compose_all(config)
    sizes = price.sizes(config.dataset)
    for space in spaces.values():
        space.check_size(sizes.entities)
    priced = {arm.name: cost_of_checkpoint(spaces[arm.name]) for arm in config.arms}  # refused as by `study run`
    arms = (replace(arm, pretraining=priced[arm.name]) for arm in config.arms)
    config = replace(config, arms=tuple(arms))
    for line in plan_lines(config, spaces):
        click.echo(line)
    process = resident()  # without the graph, which is a part of each training
    is_read = is_here(config.dataset) and sizes.train <= _READ
    of_data = warnings_of(load(config.dataset)) if is_read else ()
    for sentence in (*cautions(config, spaces), *lacking(config), *substituted(config), *of_data):
        click.echo(f"Caution: {sentence}.")
    large = [price.largest(space, sizes) for space in spaces.values()]
    for line in memory_lines(spaces, large, process=process):
        click.echo(line)
    cases = [price.cases(spaces[each.arm], each) for each in large]
    if timer is not None:
        seconds = _SECONDS if seconds is None else seconds
        prices = price.merged(prices, *timer.prices(cases, config.dataset, seconds=seconds, say=_say))
        price.write_prices(where, prices)
    for line in price_lines(config, spaces, cases, prices):
        click.echo(line)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


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
        type=PathTo(file=False),
        help="Folder that holds the folders of studies (KGE_STUDY_HOME; default: runs).",
    ),
    click.option("--database", help="URL of a PostgreSQL database (KGE_STUDY_DATABASE; default: HOME/NAME/study.db)."),
)
_unequal = click.option(
    "--unequal", is_flag=True, help="Open the test split although the budgets of arms differ, so that none is compared."
)
_checkpoints = click.option("--checkpoints", metavar="URL", help=CHECKPOINTS_HELP)
_ADDRESS = "KGE_STUDY_ADDRESS"  # without it a study in a container of a cluster would start one of its own
_plain = click.option("--plain", is_flag=True, help="Plain lines instead of a live table.")
_driver = _options(
    _place,
    click.option(
        "--address",
        envvar=_ADDRESS,
        default="local",
        help=f"A running Ray cluster: auto or HOST:PORT ({_ADDRESS}; default: local).",
    ),
    _plain,
)
_afar = click.option("--address", help=f"{JOB_SERVER}: of a study that was submitted to it.")


@study.command()
@click.argument("file")
@click.option("--name", help="Another name than the file's own.")
@_checkpoints
@_driver
def run(
    file: str,
    name: str | None,
    checkpoints: str | None,
    home: Path | None,
    database: str | None,
    address: str,
    plain: bool,
) -> int:
    """Run a study: search, replicates, one opening of the test split, report.

    FILE is a study file or the name of a built-in study.
    """
    from study import drive
    from study.config import load_study, new_name
    from study.site import remote, site

    config = load_study(file)
    where = site(new_name(config, name), home=home, database=database)
    afar = remote(where.name, checkpoints)
    place = _place_in_words(home, database, address)
    with _audience(plain=plain) as audience, _closed(where.name, place):
        finished = drive.run(config, where, remote=afar, address=address, audience=audience)
    return _ended(finished, where.name, place)


@study.command()
@click.argument("name_or_file")
@click.option("--name", help="With a file: the study began under another name than the file's own.")
@click.option("--amend", is_flag=True, help="Take over what has changed in the study file since.")
@click.option("--reopen", is_flag=True, help="With --amend: the test split may be opened again, which the report says.")
@_unequal
@_place
@click.option(
    "--address",
    envvar=_ADDRESS,
    default="local",
    help=f"A running Ray cluster: auto or HOST:PORT ({_ADDRESS}; default: local). {JOB_SERVER}: the study goes on as a"
    " job there.",
)
@_plain
@no_wait_option
@with_code_option
def resume(
    name_or_file: str, name: str | None, home: Path | None, database: str | None, address: str, **flags: bool
) -> int:
    """Go on with a study that was interrupted, from where it is.

    Its file must say what it said, or come with --amend: a larger budget, more replicates, further arms, other
    resources. Given a file instead of a name, the study of that file goes on; one that began with --name is given
    it again.
    """
    from study.config import load_study
    from study.revision import Revision
    from study.site import site

    if flags["reopen"] and not flags["amend"]:
        raise click.UsageError("--reopen: must come with --amend")
    file = Path(name_or_file) if Path(name_or_file).is_file() else None
    if name is not None and file is None:
        raise click.UsageError("--name: must come with a study file")
    if is_job_server(address):
        errand = resumption(name_or_file, file, name, [f"--{each}" for each in _RESUMING if flags[each]])
        wait, with_code = not flags["no_wait"], flags["with_code"]
        return send(errand, address, home=home, database=database, with_code=with_code, wait=wait)
    if flags["no_wait"] or flags["with_code"]:
        raise click.UsageError("--no-wait and --with-code: must come with --address http://HEAD:8265")
    named = name if name is not None else load_study(file).name if file else name_or_file
    where = site(named, home=home, database=database)
    revision = Revision(file=file, amend=flags["amend"], reopen=flags["reopen"])
    return _resume(
        where, revision, home, database, address=address, plain=flags["plain"], search=True, unequal=flags["unequal"]
    )


@study.command()
@click.argument("name")
@_unequal
@_driver
def replicate(name: str, unequal: bool, home: Path | None, database: str | None, address: str, plain: bool) -> int:
    """Only what follows a search that has ended: freeze, replicates, test, report."""
    from study.revision import Revision
    from study.site import site

    where = site(name, home=home, database=database)
    return _resume(where, Revision(), home, database, address=address, plain=plain, search=False, unequal=unequal)


@study.command()
@click.argument("name")
@click.option("--timeout", type=FiniteRange(min=0), default=120.0, show_default=True, help="Seconds to wait.")
@_place
@_afar
def stop(name: str, timeout: float, home: Path | None, database: str | None, address: str | None) -> int:
    """End the run of a study, on whatever machine it is, as Ctrl-C would; `study resume` goes on with it."""
    from contextlib import closing

    if address is not None:
        errand = Errand(study=name, arguments=["stop", name, "--timeout", f"{timeout:g}"])
        return send(errand, address, home=home, database=database)

    from study.lease import stop_driver
    from study.site import site

    with closing(site(name, home=home, database=database).open()) as store:
        store.registration(name)
        for sentence in stop_driver(store.lease(name), name, timeout=timeout):
            click.echo(sentence)
    return 0


@study.command()
@click.argument("name")
@_place
@_afar
def status(name: str, home: Path | None, database: str | None, address: str | None) -> int:
    """Show where a study stands."""
    from contextlib import closing

    if address is not None:
        return send(Errand(study=name, arguments=["status", name]), address, home=home, database=database)

    from study.history import study_record
    from study.site import site
    from study.status import status_lines

    where = site(name, home=home, database=database)
    with closing(where.open()) as store:
        record, owner = study_record(where.database, name), store.lease(name).owner()
    for line in status_lines(record, owner):
        click.echo(line)
    return 0


@study.command()
@click.argument("name", required=False)
@_place
@click.option(
    "--out",
    type=PathTo(file=False),
    help="Folder (default: HOME/NAME/report; of a table: its name with -report, here).",
)
@click.option("--from-csv", "table", type=PathTo(), help="A table of another tool's trials.")
@click.option(
    "--unit",
    type=click.Choice(["trials", "epochs", "device_seconds"]),
    show_default="trials",
    help="With --from-csv: what its budgets are counted in.",
)
def report(
    name: str | None, home: Path | None, database: str | None, out: Path | None, table: Path | None, unit: str | None
) -> None:
    """Write a study's report from its database, whatever state the study is in.

    With --from-csv and without NAME: the report of finished trials that another tool wrote as a table.
    """
    if (name is None) == (table is None):
        raise click.UsageError("report: must be given NAME or --from-csv FILE, one of them")
    if unit is not None and table is None:
        raise click.UsageError("--unit: must come with --from-csv")
    if table is not None and (home, database) != (None, None):
        raise click.UsageError("--home and --database: must come with NAME")

    files = _table_report(table, unit, out) if table else _study_report(str(name), home, database, out, _say)
    for file in files:
        click.echo(file)


def _table_report(table: Path, unit: str | None, out: Path | None) -> tuple[Path, ...]:
    from study import report
    from study.external import read_table

    folder = writable_folder(out or Path(f"{table.stem}-report"), "--out")
    return report.build(read_table(table, unit=unit or "trials"), folder)


def _study_report(
    name: str, home: Path | None, database: str | None, out: Path | None, say: Callable[[str], None]
) -> tuple[Path, ...]:
    from study.evidence import write_report
    from study.fetching import fetch_ranks
    from study.history import study_record
    from study.site import site

    where = site(name, home=home, database=database)
    where.open().close()
    folder = writable_folder(out or where.folder / "report", "--out")
    record = study_record(where.database, name)
    fetch_ranks(record, where.folder, say)
    files = write_report(record, folder=where.folder, out=folder, say=say, replaces=False)
    if out is None:
        _send_report(where, say)
    return files


def _send_report(where: "Site", say: Callable[[str], None]) -> None:
    """Replace the report on the study's MLflow run, where there is an MLflow."""
    from study.tracking.process import is_tracked
    from study.tracking.worker import sync_command

    if is_tracked(where.home):
        try:
            result = sync_command(name=where.name, home=where.home, database=where.database)
            if result.refused:
                say(str(result))
        except StudyError as error:
            say(f"MLflow has no copy of this report, `study sync {where.name}` sends it: {error}")


@study.command()
@click.argument("name")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Of the pages.")
@_place
def ui(name: str, port: int, home: Path | None, database: str | None) -> None:
    """Serve MLflow's pages on the study's tracking database, until Ctrl-C.

    Where MLflow is a tracking server already, only its address is said.
    """
    from contextlib import closing

    from study.database import without_password
    from study.site import site
    from study.tracking.process import HOST, check_port, is_tracked, serve, tracking_uri

    where = site(name, home=home, database=database)
    with closing(where.open()) as store:
        store.registration(name)
    if not is_tracked(where.home):
        raise UserError(f"study {name!r}: must be in MLflow to be looked at there, `study sync {name}` sends it")
    is_server = (server := tracking_uri(where.home)).startswith("http")
    if not is_server:
        check_port(port)
    address = without_password(server) if is_server else f"http://{HOST}:{port}"
    click.echo(f'{address}: under "Model training", experiment {name}')
    if not is_server:
        click.echo("MLflow takes up to a minute before that page answers; Ctrl-C ends it")
        serve(where.home, port=port)


@study.command()
@click.argument("name")
@_place
def sync(name: str, home: Path | None, database: str | None) -> int:
    """Bring MLflow up to the study: after an outage, or to a new tracking server.

    Exit code 1 when it does not take all of it.
    """
    from study.fetching import fetch_models
    from study.history import study_record
    from study.site import site
    from study.tracking.worker import sync_command

    where = site(name, home=home, database=database)
    where.open().close()
    fetch_models(study_record(where.database, name), where.folder, _say)
    result = sync_command(name=name, home=where.home, database=where.database)
    click.echo(str(result))
    return 1 if result.refused else 0


@study.command()
@click.argument("name")
@click.argument("trial", metavar="ARM/NUMBER")
@click.option("--replicate", "replicate_", is_flag=True, help="ARM/NUMBER is a replicate of the arm's selection.")
@click.option("--device", metavar="[cpu|cuda]", callback=kind_of_device, help="Default: as in the study.")
@click.option("--tolerance", type=FiniteRange(min=0), default=0.001, show_default=True, help="Of validation MRR.")
@_place
def replay(
    name: str,
    trial: str,
    replicate_: bool,
    device: str | None,
    tolerance: float,
    home: Path | None,
    database: str | None,
) -> int:
    """Train one trial again from its record and say whether its numbers hold; exit code 1 when they do not.

    Nothing is written to the study.
    """
    from study import replay
    from study.site import site

    found = replay.again(
        site(name, home=home, database=database),
        trial,
        is_replicate=replicate_,
        device=device,
        tolerance=tolerance,
        say=click.echo,
    )
    return 0 if found.holds else 1


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
    unequal: bool,
) -> int:
    from study import drive

    place = _place_in_words(home, database, address)
    with _audience(plain=plain) as audience, _closed(where.name, place):
        finished = drive.resume(
            where, revision=revision, address=address, audience=audience, search=search, unequal=unequal
        )
    return _ended(finished, where.name, f"{place} --unequal" if unequal else place)


def _place_in_words(home: Path | None, database: str | None, address: str) -> str:
    """The options that a command on the same study needs."""
    place = (f" --home {shlex.quote(str(home))}" if home else "") + (" --database ..." if database else "")
    return place if address == "local" else f"{place} --address {address}"


@contextmanager
def _closed(name: str, place: str) -> Iterator[None]:
    """A test split that stays closed comes with the command that opens it."""
    try:
        yield
    except UnequalError as error:
        opens = f"`study resume {name}{place} --unequal` opens it all the same."
        raise UnequalError(f"{error} {opens}") from None


def _ended(finished: bool, name: str, options: str) -> int:
    if finished:
        return 0
    click.echo(f"interrupted: `study resume {name}{options}` continues it", err=True)
    return console.INTERRUPTED


if __name__ == "__main__":
    main()
