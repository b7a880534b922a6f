"""A study that is killed again and again: each life is a command that begins or resumes it, watched to its end."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from study.records import StudyRecord
from tests.crash import checks
from tests.crash.moments import Moment
from tests.crash.servers import tracking_tables
from tests.study.front_door import Driver, Home, title

_HERE = Path(__file__).parent
PATIENCE = 300.0  # seconds that a life may last; a machine may be busy
_TAG = "KGE_CRASH_STUDY"  # marks every process that a study has started


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: what was done to a study, and what became of it."""

    study: str
    life: int
    moment: str
    hit: str
    seen: str  # where it stood then
    seconds: float
    problems: tuple[str, ...]


@dataclass
class Patient:
    """A study, and what was last seen of it."""

    home: Home
    file: Path
    width: int = 1  # trials that may run at once
    arguments: tuple[str, ...] = ()  # of every command that drives it
    tag: str = field(default_factory=lambda: uuid.uuid4().hex)
    lives: int = 0
    known: StudyRecord | None = None

    @classmethod
    def of(cls, folder: Path, text: str, *, new_tracking: bool = False, **fields: Any) -> "Patient":
        """A study of a file with this text that has not begun. MLflow's tables are there, which take it a while."""
        folder.mkdir(parents=True)
        if not new_tracking:
            (folder / "mlflow.db").write_bytes(tracking_tables())
        name = text.splitlines()[0].removeprefix("name: ")
        (file := folder / f"{name}.yaml").write_text(text)
        return cls(Home(folder, name), file, **fields)

    @property
    def record(self) -> StudyRecord:
        """What was last seen."""
        assert self.known is not None, "the study was not written"
        return self.known

    @property
    def is_registered(self) -> bool:
        """Can it be resumed?"""
        return bool(self.home.rows("SELECT name FROM kge_studies"))

    def begin(self, *moments: Moment) -> Driver:
        """The next life, with its fail points."""
        self.lives += 1
        path = f"{_HERE / 'inject'}{os.pathsep}{_HERE.parents[1]}"
        points = [vars(moment) | {"marker": str(self.marker(moment))} for moment in moments]
        variables = {"CRASH_AT": json.dumps(points), "PYTHONPATH": path, _TAG: self.tag}
        command = ("resume", self.home.study) if self.is_registered else ("run", str(self.file))
        return self.home.start(*command, *self.arguments, **variables)

    def marker(self, moment: Moment) -> Path:
        """The file in which a process says that it met a moment of this life."""
        return self.home.folder / f"met-{self.lives}-{moment.name.replace(' ', '-')}"

    def met(self, moment: Moment) -> str:
        """The file that was at stake in a moment of this life."""
        marker = self.marker(moment)
        return marker.read_text().partition(f"/{self.home.study}/")[2] if marker.exists() else ""

    def look(self) -> Iterator[str]:
        """What is wrong with the study as it stands, and with its way there."""
        if not self.is_registered:
            return
        record = self.home.record()
        yield from checks.always(self.home, record, width=self.width)
        if self.known is not None:
            yield from checks.since(self.known, record)
        self.known = record

    def cut_power(self) -> None:
        """End whatever of it is left."""
        while left := _tagged(self.tag):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def bury(self) -> Iterator[str]:
        """Wait until nothing is left of its processes; what stays is ended and told."""
        deadline = time.monotonic() + PATIENCE / 5
        while (left := _tagged(self.tag)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            yield f"process {pid} is left: {title(pid)[:80]}"
        self.cut_power()

    def row(self, moment: str, hit: str, since: float, problems: Iterable[str], seen: str = "") -> Row:
        """What became of this life."""
        found = tuple(problems)
        return Row(
            study=self.home.study,
            life=self.lives,
            moment=moment,
            hit=hit,
            seen=seen or stands(self.known),
            seconds=time.monotonic() - since,
            problems=found,
        )


def die(patient: Patient, moment: Moment) -> Row:
    """A life that ends at a moment."""
    started = time.monotonic()
    driver = patient.begin(moment)
    problems = [*wait(driver), *missed(patient, driver, moment)]
    if moment.power_cut:
        patient.cut_power()
    problems += patient.look()
    return patient.row(moment.name, moment.hit, started, problems)


def finish(patient: Patient, moment: str = "nothing, to the end") -> Row:
    """A life that nothing disturbs."""
    started = time.monotonic()
    return patient.row(moment, "", started, finished(patient, patient.begin()))


def finished(patient: Patient, driver: Driver, *, mirrored: bool = True) -> Iterator[str]:
    """What is wrong with a study whose driver is to bring it to its end, and MLflow along."""
    yield from wait(driver)
    yield from patient.look()
    yield from patient.bury()
    if driver.returncode:
        yield f"exit {driver.returncode}: {driver.said()[-300:]}"
        return
    yield from checks.at_the_end(patient.home, patient.record)
    if mirrored:
        yield from checks.mirrored(f"sqlite:///{patient.home.folder / 'mlflow.db'}", patient.record)


def missed(patient: Patient, driver: Driver, *moments: Moment) -> Iterator[str]:
    """Moments that did not come."""
    for moment in moments:
        if not patient.marker(moment).exists():
            yield f"{moment.name!r} did not come; {driver.said()[-300:]}"


def wait(driver: Driver) -> Iterator[str]:
    """Wait for the end of a life; one that does not end is ended and told."""
    try:
        driver.wait(PATIENCE)
    except TimeoutExpired:
        driver.kill_all()
        yield f"did not end in {PATIENCE:g} s"


def stands(record: StudyRecord | None) -> str:
    """Where a study stands, in a few words."""
    if record is None:
        return "nothing"
    ended = sum(trial.state.is_final for trial in record.trials)
    words = [f"{ended} trials", f"{len(record.trials) - ended} running"]
    words += [f"{sum(trial.cost.epochs for trial in record.trials)} epochs"]
    if record.selections:
        words.append(f"{sum(each.state.is_final for each in record.replicate_records)} replicates")
    if record.openings:
        words.append(f"{sum(bool(each.test_metrics) for each in record.replicate_records)} tested")
    return ", ".join(words)


def _tagged(tag: str) -> list[int]:
    """Processes that a study has started, in any of its lives."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{_TAG}={tag}".encode() in file.read_bytes():
                found.append(int(file.parent.name))
        except OSError:
            continue  # just ended, or not ours
    return found
