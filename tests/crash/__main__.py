"""Hits studies, and what they stand on, at many moments, and looks what `study resume` makes of it (make test-crash).

    python -m tests.crash                          every program below, a table, exit code 1 when one line is FAILED
    python -m tests.crash --only anytime --json FILE

Each line is a life of a study: where it was hit, what was hit, where the study stood then. A line is OK when the
process was hit at exactly that moment, nothing in the database contradicts tests/crash/checks.py, and, on the
last line of a study, all that was promised is there.
"""

import json
import logging
import os
import shutil
import sys
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp

import click

from kge.files import write_atomically
from tests.crash import doors, fairness, outages, parallel, serial
from tests.crash.lives import Row

Program = Callable[[Path], Iterator[Row]]
PROGRAMS: dict[str, Program] = {
    each.__name__.replace("_", "-"): each
    for each in (
        serial.searching,
        serial.ending,
        fairness.anytime,
        parallel.losing_workers,
        parallel.losing_ray,
        outages.tracking,
        outages.postgres,
        doors.stopping,
        doors.asking,
        doors.two_drivers,
    )
}
_CLEAN = ("KGE_STUDY_HOME", "KGE_STUDY_DATABASE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "PYTHONPATH")
_QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
_LINE = "{study:<10} {life:>4}  {moment:<42} {hit:<28} {seen:<62} {seconds:>5}  {outcome}"


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(sorted(PROGRAMS)), help="Only these.")
@click.option("--jobs", default=2, show_default=True, help="How many programs at a time.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the table here, too.")
@click.option("--timeline", type=click.Path(path_type=Path), help="Write what `anytime` recorded here, as CSV.")
def main(only: tuple[str, ...], jobs: int, json_file: Path | None, timeline: Path | None) -> None:
    """Run the programs and print what became of every life."""
    for name in _CLEAN:
        os.environ.pop(name, None)
    os.environ |= _QUIET
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    started = time.monotonic()
    folder = Path(mkdtemp(prefix="kge-crash-", dir="/tmp"))
    click.echo(
        _LINE.format(
            study="study",
            life="life",
            moment="when",
            hit="what was hit",
            seen="where it stood",
            seconds="took",
            outcome="",
        )
    )
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda name: list(_lines(name, folder / name)), only or PROGRAMS)
        rows = [row for each in found for row in each]
    recorded = folder / "anytime" / fairness.FILE_NAME
    if recorded.is_file():
        click.echo("\n" + fairness.shown(recorded))
    if timeline is not None:
        write_atomically(timeline, recorded.read_bytes())
    if json_file is not None:
        write_atomically(json_file, json.dumps([asdict(row) for row in rows], indent=1).encode())
    failed = sum(bool(row.problems) for row in rows)
    click.echo("\n" + _total(rows, failed, time.monotonic() - started))
    if failed:
        click.echo(f"the studies are in {folder}")
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)


def _lines(name: str, folder: Path) -> Iterator[Row]:
    """Print the rows of a program as they come; what breaks it is a row, too."""
    started = time.monotonic()
    try:
        for row in PROGRAMS[name](folder):
            _show(row)
            yield row
    except Exception:  # noqa: BLE001  the other programs are still to run
        seconds, problems = time.monotonic() - started, (traceback.format_exc(),)
        row = Row(study=name, life=0, moment="", hit="", seen="", seconds=seconds, problems=problems)
        _show(row)
        yield row


def _show(row: Row) -> None:
    outcome = "FAILED" if row.problems else "OK"
    seen = textwrap.shorten(row.seen, 62, placeholder=" ...")
    cells = vars(row) | {"seen": seen, "seconds": f"{row.seconds:.0f} s", "outcome": outcome}
    click.echo("\n".join([_LINE.format(**cells), *(f"    {problem}" for problem in row.problems)]))


def _total(rows: list[Row], failed: int, seconds: float) -> str:
    hits = Counter(row.hit for row in rows if row.hit)
    parts = ", ".join(f"{count} x {hit}" for hit, count in hits.most_common())
    return f"{len(rows)} lines, {failed} FAILED, {seconds / 60:.1f} minutes; hit: {parts}"


if __name__ == "__main__":
    main()
