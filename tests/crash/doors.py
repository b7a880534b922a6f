"""Ctrl-C, a polite end and `study stop`; and two drivers at a door for one."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash import moments
from tests.crash.lives import Patient, Row, finish, finished, missed, wait
from tests.crash.parallel import BUDGET, FILE, until_charged
from tests.study.front_door import Driver, wait_until

INTERRUPTED = 130


def stopping(folder: Path) -> Iterator[Row]:
    """The driver settles: it says how to go on, gives the study back, and leaves no process behind."""
    patient = Patient.of(folder, FILE.format(name="stopping", budget=BUDGET), new_tracking=True, width=2)
    for moment in moments.INTERRUPTIONS:
        started = time.monotonic()
        driver = patient.begin(moment)
        problems = [*_settled(patient, driver), *missed(patient, driver, moment)]
        yield patient.row(moment.name, moment.hit, started, problems)
    yield finish(patient)


def asking(folder: Path) -> Iterator[Row]:
    """Who presses Ctrl-C twice does not want to wait; `study stop` asks from outside."""
    patient = Patient.of(folder, FILE.format(name="asking", budget=BUDGET), width=2)
    started = time.monotonic()
    driver = patient.begin()
    until_charged(patient, driver, 2)
    for _ in range(2):
        os.killpg(driver.pid, signal.SIGINT)
    yield patient.row("while trials run", "SIGINT twice to all", started, [*wait(driver), *patient.look()])
    started = time.monotonic()
    driver = patient.begin()
    until_charged(patient, driver, 2)
    code, said = patient.home.finish("stop", patient.home.study)
    problems = [*_settled(patient, driver), *[f"exit {code}: {said}"] * (code != 0)]
    yield patient.row("while trials run", "`study stop`", started, problems, said.strip())
    yield finish(patient)


def two_drivers(folder: Path) -> Iterator[Row]:
    """The second is refused, whether it comes later or at the same moment."""
    patient = Patient.of(folder, FILE.format(name="doors", budget=BUDGET), width=2)
    yield _one_of_two(patient, "two `study run` at once")
    yield _one_of_two(patient, "two `study resume` at once")
    started = time.monotonic()
    driver = patient.begin()
    until_charged(patient, driver, 1)
    refused = [patient.home.finish(*command) for command in (("resume", "doors"), ("run", str(patient.file)))]
    problems = [f"exit {code}: {said}" for code, said in refused if code != 2 or not said.startswith("error: study")]
    problems += finished(patient, driver)
    yield patient.row("`study resume` and `study run` beside it", "", started, problems, refused[0][1].strip())


def _one_of_two(patient: Patient, name: str) -> Row:
    """One is refused in a sentence, and the other trains until it is killed."""
    started = time.monotonic()
    drivers = [patient.begin(), patient.begin()]
    wait_until(lambda: drivers[0].poll() is not None or drivers[1].poll() is not None, drivers[0])
    refused, driver = drivers if drivers[0].poll() is not None else reversed(drivers)
    until_charged(patient, driver, 1)
    driver.kill_all()
    problems = list(patient.look())
    if refused.returncode != 2 or not refused.said().startswith("error: study"):
        problems.append(f"exit {refused.returncode}: {refused.said()[-300:]}")
    return patient.row(name, "then the driver and its group", started, problems, refused.said().strip())


def _settled(patient: Patient, driver: Driver) -> Iterator[str]:
    yield from wait(driver)
    yield from patient.look()
    if driver.returncode != INTERRUPTED or "interrupted: `study " not in driver.said():
        yield f"exit {driver.returncode}: {driver.said()[-300:]}"
    for row in patient.home.rows("SELECT host, pid FROM kge_lease"):
        yield f"the lease is left with {tuple(row)}"
    yield from patient.bury()
