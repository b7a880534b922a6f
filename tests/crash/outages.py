"""A study whose tracking server or database goes away and comes back."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash import checks, moments
from tests.crash.lives import Patient, Row, die, finish, finished, wait
from tests.crash.parallel import BUDGET, FILE, until_charged
from tests.crash.serial import FILE as SERIAL
from tests.crash.serial import against
from tests.crash.servers import Postgres, Server, postgres_binaries, tracking_server
from tests.study.front_door import Driver, wait_until


def tracking(folder: Path) -> Iterator[Row]:
    """The tracking server is killed in two lives of a study; it is back in the next, and for `study sync`."""
    patient = Patient.of(folder, FILE.format(name="tracking", budget=BUDGET), width=2)
    server, uri = tracking_server(folder)
    patient.home.variables["MLFLOW_TRACKING_URI"] = uri
    with server:
        yield _without_tracking(patient, server)
        server.start()
        started = time.monotonic()
        driver = patient.begin()
        until_charged(patient, driver, 3)
        server.kill()
        problems = [*finished(patient, driver, mirrored=False)]
        if "`study sync tracking` sends the rest" not in driver.said():
            problems.append("it did not say that MLflow is behind")
        yield patient.row("until the study has ended", "tracking server", started, problems)
        server.start()
        yield _synchronized(patient, uri)


def _without_tracking(patient: Patient, server: Server) -> Row:
    started = time.monotonic()
    driver = patient.begin()
    until_charged(patient, driver, 3)
    server.kill()
    until_charged(patient, driver, 6)  # nothing waits for it
    driver.kill_all()
    return patient.row("while trials run; then the driver", "tracking server", started, patient.look())


def _synchronized(patient: Patient, uri: str) -> Row:
    started = time.monotonic()
    code, said = patient.home.finish("sync", patient.home.study)
    problems = [*checks.mirrored(uri, patient.record), *[said] * (code != 0)]
    return patient.row("`study sync`", "", started, problems, said.strip())


def postgres(folder: Path) -> Iterator[Row]:
    """A serial study on PostgreSQL, which is stopped and started; the same tables as on SQLite, undisturbed."""
    text = SERIAL.format(name="postgres", budget="trials: 6")
    undisturbed, patient = Patient.of(folder / "sqlite", text), Patient.of(folder / "postgres", text)
    binaries = postgres_binaries()
    if binaries is None:
        yield patient.row("skipped: no PostgreSQL here", "", time.monotonic(), ())
        return
    yield finish(undisturbed, "undisturbed, on SQLite")
    with Postgres(binaries) as server:
        patient.home.url = server.url
        driver = patient.begin()
        for mode in ("fast", "immediate"):
            yield _stopped_and_started(patient, driver, server, mode)
        driver.kill_all()
        yield die(patient, moments.COMPLETION[1])
        server.stop("immediate")
        yield _refused(patient)
        server.start()
        yield against(undisturbed, patient, finish(patient))


def _stopped_and_started(patient: Patient, driver: Driver, server: Postgres, mode: str) -> Row:
    """It is away until the driver has noticed, and the driver goes on once it is back."""
    started = time.monotonic()
    log = patient.home.folder / patient.home.study / "driver.log"
    until_charged(patient, driver, 3)
    noticed = log.read_text().count("trying again")
    server.stop(mode)
    wait_until(lambda: log.read_text().count("trying again") > noticed, driver)
    server.start()
    until_charged(patient, driver, 2)
    return patient.row("while a trial runs", f"PostgreSQL, -m {mode}", started, patient.look())


def _refused(patient: Patient) -> Row:
    started = time.monotonic()
    driver = patient.begin()
    problems = [*wait(driver)]
    said = driver.said()
    if driver.returncode != 1 or not said.startswith("error: database"):
        problems.append(said[-300:])
    return patient.row("before `study resume`", "PostgreSQL, -m immediate", started, problems, said.strip())
