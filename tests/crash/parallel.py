"""A study of two trials at a time that loses its workers, or its Ray."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash import moments
from tests.crash.lives import Patient, Row, finish, finished, missed, wait
from tests.crash.servers import ray_head
from tests.study.front_door import Driver, below, is_lost, title, wait_until, workers

FILE = """\
name: {name}
dataset: synthetic
seed: 5
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{{budget}}}
search: {{random_trials: 2}}
replicates: 1
fixed: {{training.max_epochs: 20, model.dim: 128, training.batch_size: 128,
        validation.every: 1, early_stopping.patience: null}}
resources: {{max_concurrent: 2}}
"""
BUDGET = "trials: 3"


def losing_workers(folder: Path) -> Iterator[Row]:
    """Workers die by themselves at moments, and once all that there are; the driver goes on with others."""
    patient = Patient.of(folder, FILE.format(name="workers", budget=BUDGET), width=2)
    started = time.monotonic()
    driver = patient.begin(*moments.WORKERS)
    killed = _kill_all_workers(patient, driver)
    problems = [*finished(patient, driver)]
    for moment in moments.WORKERS:
        yield patient.row(moment.name, moment.hit, started, missed(patient, driver, moment), patient.met(moment))
    lost = sum(is_lost(each) for stage in ("search", "replicate") for each in patient.home.attempts(stage))
    wanted = len(moments.WORKERS) + killed
    if lost != wanted:
        problems.append(f"{lost} attempts lost their worker where {wanted} workers were killed")
    yield patient.row("while both train", f"{killed} workers at once", started, problems)


def losing_ray(folder: Path) -> Iterator[Row]:
    """Its own cluster loses its raylet; a cluster that it was sent to loses everything; its own loses the GCS."""
    patient = Patient.of(folder, FILE.format(name="ray", budget=BUDGET), width=2)
    yield _without(patient, "raylet", "/raylet/raylet ")
    head, address = ray_head(folder, cpus=2)
    with head:
        started = time.monotonic()
        patient.arguments = ("--address", address)
        driver = patient.begin()
        until_charged(patient, driver, 3)
        head.kill()
        yield _ended(patient, driver, "Ray head and all its processes", started)
    patient.arguments = ()
    yield _without(patient, "GCS", "/gcs/gcs_server ")
    yield finish(patient)


def _without(patient: Patient, name: str, program: str) -> Row:
    started = time.monotonic()
    driver = patient.begin()
    until_charged(patient, driver, 3)
    os.kill(next(pid for pid in below(driver.pid) if program in title(pid)), signal.SIGKILL)
    return _ended(patient, driver, name, started)


def _ended(patient: Patient, driver: Driver, killed: str, started: float) -> Row:
    """The driver ends by itself: at once, or after a minute when it is Ray that ends it."""
    problems = [*wait(driver), *patient.look()]
    said = (driver.said().strip().splitlines() or [""])[-1]
    if driver.returncode != 1 or not said.startswith(("error: Ray", "[")):
        problems.append(f"exit {driver.returncode}: {driver.said()[-300:]}")
    return patient.row("in the middle of trials", killed, started, problems, said)


def until_charged(patient: Patient, driver: Driver, times: int) -> None:
    """Wait for a few more validations."""
    query = "SELECT epoch FROM kge_charges"
    before = len(patient.home.rows(query))
    wait_until(lambda: len(patient.home.rows(query)) >= before + times, driver)


def _kill_all_workers(patient: Patient, driver: Driver) -> int:
    until_charged(patient, driver, 3)
    hit = wait_until(lambda: len(found := workers(driver.pid)) == 2 and found, driver)
    for pid in hit or []:
        os.kill(pid, signal.SIGKILL)
    return len(hit or [])
