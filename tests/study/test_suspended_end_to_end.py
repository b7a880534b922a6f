"""A driver that is suspended in the middle of an event while another one takes its study over, through the front door.

It has charged a validation and has not told Optuna when it is stopped. Where it goes on it writes nothing more.
"""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from study.lease import LOST
from tests.crash.lives import Patient
from tests.crash.moments import CHARGED, Moment
from tests.study.front_door import PATIENCE, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a driver starts Ray, and a machine may be busy

FILE = """\
name: asleep
dataset: synthetic
arms: {models: [distmult], losses: [sce]}
budget: {trials: 1}
search: {random_trials: 1}
replicates: 1
fixed: {training.max_epochs: 200, validation.every: 1, model.dim: 16, early_stopping.patience: null}
"""
ASLEEP = Moment("in the middle of an event", (CHARGED,), signal="SIGSTOP")


def test_a_driver_that_lost_its_study_in_the_middle_of_an_event_writes_nothing_more(tmp_path: Path) -> None:
    patient = Patient.of(tmp_path / "home", FILE)
    driver = patient.begin(ASLEEP)
    try:
        wait_until(lambda: patient.marker(ASLEEP).exists() and state_of(driver.pid) == "T", driver)
        with closing(sqlite3.connect(patient.home.database)) as taken, taken:
            taken.execute("UPDATE kge_lease SET token = 'another', host = 'elsewhere'")
        everything = dump(patient.home.database)
        assert patient.home.charged() == 1
        os.kill(driver.pid, signal.SIGCONT)
        assert driver.wait(PATIENCE) == 1
        assert driver.said().endswith(f"error: study 'asleep': {LOST}\n")
        assert dump(patient.home.database) == everything
    finally:
        driver.kill_all()
        patient.cut_power()


def state_of(pid: int) -> str:
    """T once a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())
