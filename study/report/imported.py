"""What a table of another tool's trials cannot support, and is therefore withheld."""

from collections.abc import Iterator
from dataclasses import dataclass

from study.budget import UNIT_NAMES
from study.records import StudyRecord


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """Something that a study's report says and this one does not."""

    what: str
    why: str


def withheld(record: StudyRecord) -> tuple[Withheld, ...]:
    """All of it, in the order of the page; nothing of a study of ours."""
    return tuple(Withheld(what=what, why=why) for what, why in _missing(record)) if record.imported_from else ()


def _missing(record: StudyRecord) -> Iterator[tuple[str, str]]:
    yield "Test results and their intervals", "the table has no trainings of the best configurations with fresh seeds"
    yield "Probabilities, p-values and verdicts for pairs of arms", "there are no ranks of test triples"
    yield "Objective distributions", "the table does not say what the losses aim at"
    if not any(trial.random for trial in record.trials):
        yield "Expected best against budget", "no trial is marked as drawn independently at random (column random)"
    for unit in ("epochs", "device_seconds"):
        if not any(getattr(trial.cost, unit) for trial in record.trials):
            yield f"Budgets and curves in {UNIT_NAMES[unit]}", f"the table has no column {unit}, or zeros alone"
    yield "Fair at every moment", "the table has no times; trials count in the order of their numbers"
    yield "Search spaces, best values near a bound, importances", "the table has values and no ranges"
    yield "The seal on the test split", "nothing says when it was looked at"
    yield "Data set, environment, replay", "the table has no seeds, checksums, versions or hardware"
