"""`study submit` and `study logs`; and how resume, status and stop are run on a Ray cluster, by --address http://...

Each of them is a job there: a database that only the cluster reaches needs no way to it from here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kge import console

if TYPE_CHECKING:
    from study.cluster import Jobs

JOB_SERVER = "Job server of a Ray cluster, http://HEAD:8265"
CHECKPOINTS_HELP = "Keep checkpoints there, such as s3://bucket/prefix, and not in HOME (KGE_STUDY_CHECKPOINTS)."

_address_option = click.option("--address", required=True, help=f"{JOB_SERVER}.")
no_wait_option = click.option("--no-wait", is_flag=True, help="Leave the job to itself once it is submitted.")
with_code_option = click.option(
    "--with-code", is_flag=True, help="Send this program along, for a cluster where it is not installed."
)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A command for the cluster."""

    study: str
    arguments: list[str]
    file: str | None = None  # the text of the study file that it is about


@click.command()
@click.argument("file")
@click.option("--name", help="Another name than the file's own.")
@_address_option
@click.option("--home", help="On the cluster: the folder of studies (default: KGE_STUDY_HOME there, else ~/kge-study).")
@click.option("--database", help="URL of a database, without a password (default: KGE_STUDY_DATABASE there).")
@click.option("--checkpoints", metavar="URL", help=CHECKPOINTS_HELP)
@no_wait_option
@with_code_option
def submit(
    file: str,
    name: str | None,
    address: str,
    checkpoints: str | None,
    no_wait: bool,
    **terms: Any,
) -> int:
    """Run a study on a Ray cluster, as a job that outlives this command, and show its progress.

    FILE is a study file or the name of a built-in study. `study logs` shows the progress again; status, stop and
    resume take the same --address.
    """
    from study.cluster import STUDY_FILE, Jobs, Terms
    from study.config import load_study, new_name
    from study.object_store import study_url

    config = load_study(file)
    study = new_name(config, name)
    arguments = ["run", STUDY_FILE, "--address", "auto", "--plain", *([] if name is None else ["--name", name])]
    if checkpoints is not None:
        study_url(checkpoints, study)
        arguments += ["--checkpoints", checkpoints]
    where = Terms(**terms)
    jobs = Jobs(address)
    job = jobs.submit(arguments, study=study, terms=where, file=config.text)
    return _accompany(jobs, job, study, address, wait=not no_wait)


@click.command()
@click.argument("name")
@_address_option
def logs(name: str, address: str) -> int:
    """Show the progress of a study that was submitted to a Ray cluster, from its beginning to its end."""
    from study.cluster import Jobs

    jobs = Jobs(address)
    return _follow(jobs, jobs.latest(name), name, address)


def is_job_server(address: str) -> bool:
    """Whether an address is that of a job server; what a driver joins is HOST:PORT."""
    return "://" in address


def resumption(name_or_file: str, file: Path | None, name: str | None, flags: list[str]) -> Errand:
    """`study resume` as an errand; the study file travels with it, and its name where that is not the file's own."""
    from study.cluster import STUDY_FILE
    from study.config import load_study

    config = load_study(file) if file else None
    arguments = ["resume", STUDY_FILE if config else name_or_file, "--address", "auto", "--plain", *flags]
    study = name if name is not None else config.name if config else name_or_file
    arguments += [] if name is None else ["--name", name]
    return Errand(study=study, arguments=arguments, file=config.text if config else None)


def send(
    errand: Errand,
    address: str,
    *,
    home: Path | None,
    database: str | None,
    with_code: bool = False,
    wait: bool = True,
) -> int:
    """Run an errand on the terms of the study's last job, but for what is given; its exit code."""
    from study.cluster import DRIVING, Jobs, Terms

    jobs, study = Jobs(address), errand.study
    given = Terms(home=str(home) if home else None, database=database, with_code=with_code)
    job = jobs.submit(errand.arguments, study=study, terms=jobs.terms(study).but(given), file=errand.file)
    if errand.arguments[0] in DRIVING:
        return _accompany(jobs, job, study, address, wait=wait)
    return _follow(jobs, job, study, address)


def _accompany(jobs: "Jobs", job: str, study: str, address: str, *, wait: bool) -> int:
    click.echo(f"study {study}: job {job}; `study logs {study} --address {address}` follows it", err=True)
    return _follow(jobs, job, study, address) if wait else 0


def _follow(jobs: "Jobs", job: str, study: str, address: str) -> int:
    try:
        return jobs.follow(job, lambda line: click.echo(line, err=line.startswith("error: ")))
    except KeyboardInterrupt:
        click.echo(f"study {study}: job {job} goes on; `study stop {study} --address {address}` ends it", err=True)
        return console.INTERRUPTED
