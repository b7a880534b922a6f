"""A seeded serial study, killed at many moments, against the same study undisturbed: the same tables, bit for bit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.crash import checks, moments
from tests.crash.lives import Patient, Row, die, finish
from tests.crash.moments import Moment

FILE = """\
name: {name}
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{{budget}}}
search: {{random_trials: 4}}
pruning: {{min_epochs: 1, reduction_factor: 2}}
replicates: 2
fixed: {{training.max_epochs: 4, model.dim: 16, training.batch_size: 256,
        validation.every: 1, early_stopping.patience: null}}
resources: {{max_concurrent: 1}}
"""


def searching(folder: Path) -> Iterator[Row]:
    """Drivers die from the first start to the last trial."""
    through = (*moments.START_UP, *moments.TRAINING, *moments.PRUNING, *moments.COMPLETION)
    yield from killed(folder, FILE.format(name="searching", budget="trials: 12"), through)


def ending(folder: Path) -> Iterator[Row]:
    """Drivers die a few times in a search whose budgets are epochs, and then from the selection to the report."""
    search = (moments.TRAINING[2], moments.PRUNING[1], moments.COMPLETION[0], moments.COMPLETION[1])
    through = (*search, *moments.SELECTION, *moments.REPLICATION, *moments.TEST, *moments.REPORT)
    yield from killed(folder, FILE.format(name="ending", budget="epochs: 22"), through)


def killed(folder: Path, text: str, through: Sequence[Moment]) -> Iterator[Row]:
    """A study undisturbed; again, with a death at each moment; and what it is then."""
    undisturbed = Patient.of(folder / "undisturbed", text)
    yield finish(undisturbed, "undisturbed, to compare with")
    patient = Patient.of(folder / "killed", text)
    for moment in through:
        yield die(patient, moment)
    yield against(undisturbed, patient, finish(patient))


def against(undisturbed: Patient, patient: Patient, row: Row) -> Row:
    """The last row of a study, with what is not as in the undisturbed one."""
    found = [*checks.differences(patient.record, undisturbed.record)]
    found += checks.ranks_differ(patient.home, patient.record, undisturbed.home)
    return replace(row, problems=(*row.problems, *found))
