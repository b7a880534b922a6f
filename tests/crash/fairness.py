"""The recorded timeline of a study that was killed three times: charged and reserved of its arms, at every moment.

gap = (largest - smallest charged + reserved of the arms) / the most that one trial reserved
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from kge.files import write_atomically
from study.records import StudyRecord
from study.timeline import Moment, timeline
from tests.crash import moments
from tests.crash.lives import Patient, Row, die, finish

FILE_NAME = "anytime-fairness.csv"
STUDY = """\
name: anytime
dataset: synthetic
seed: 1
arms: {models: [complex, distmult, transe], losses: [sce]}
budget: {epochs: 40}
search: {random_trials: 3}
pruning: {min_epochs: 2, reduction_factor: 2}
replicates: 1
fixed: {training.max_epochs: 8, model.dim: 32, training.batch_size: 128,
        validation.every: 1, early_stopping.patience: null}
resources: {max_concurrent: 2}
"""


def anytime(folder: Path) -> Iterator[Row]:
    """Three drivers die, the fourth ends the study; its database tells what happened when."""
    patient = Patient.of(folder, STUDY, width=2)
    deaths = []
    for number, moment in enumerate(moments.STOPS, start=1):
        yield die(patient, moment)
        deaths.append((patient.marker(moment).stat().st_mtime, f"driver {number} killed"))
    yield finish(patient)
    write_atomically(folder / FILE_NAME, _csv(patient.record, deaths).encode())


def shown(file: Path) -> str:
    """The starts and ends of trials and the deaths of drivers, and the largest distance."""
    header, *rows = csv.reader(file.read_text().splitlines())
    lines = [row for row in rows if row[1] != "charged"]
    largest = max(rows, key=lambda row: float(row[-1]))
    text = "\n".join("  ".join(f"{cell:>16}" for cell in line) for line in (header, *lines))
    return f"{text}\nlargest distance between two arms: {largest[-1]} trials' worth, after {largest[0]} s"


def _csv(record: StudyRecord, deaths: Iterable[tuple[float, str]]) -> str:
    """A line for each start, charge and end of a trial and each death of a driver: where all arms stood then."""
    arms = [arm.name for arm in record.arms]
    charged, committed, gap = dict.fromkeys(arms, 0.0), dict.fromkeys(arms, 0.0), 0.0
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = (f"{arm} {kind}" for arm in arms for kind in ("charged", "committed"))
    table.writerow(["seconds", "event", "arm", "trial", *columns, "gap"])
    found = timeline(record)
    events: list[tuple[float, str | Moment]] = [*((each.time, each) for each in found), *deaths]
    for time, event in sorted(events, key=lambda each: each[0]):
        if isinstance(event, str):
            what = [event, "", ""]
        else:
            what = [event.event, event.arm, str(event.trial)]
            charged[event.arm], committed[event.arm], gap = event.charged, event.committed, event.gap
        stands = (f"{value[arm]:g}" for arm in arms for value in (charged, committed))
        table.writerow([f"{time - found[0].time:.3f}", *what, *stands, f"{gap:.3f}"])
    return text.getvalue()
