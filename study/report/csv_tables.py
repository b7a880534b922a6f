"""The tables as CSV: full precision, empty cells where there is no number, always a header line."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import Any

from study.budget import UNITS
from study.records import StudyRecord
from study.report.expected import COSTS
from study.report.page import Page
from study.report.tables import HITS
from study.timeline import Moment

Columns = dict[str, Callable[[Any], object]]  # name -> reader of a row

_HEADLINE = {
    **{name: name for name in ("arm", "model", "loss", "training_type", "objective")},
    "test_seeds": "test_mrr.count",
    "seeds_planned": "seeds_planned",
    "test_mrr_mean": "test_mrr.mean",
    "test_mrr_std": "test_mrr.std",
    "test_mrr_low": "test_mrr.low",
    "test_mrr_high": "test_mrr.high",
    "valid_mrr_mean": "valid_mean",
    "search_best_valid_mrr": "search_best",
    "optimism": "optimism",
    "gap": "gap",
    "trials_complete": "counts.complete",
    "trials_pruned": "counts.pruned",
    "trials_failed": "counts.failed",
    "trials_running": "counts.running",
    "charged_trials": "search.trials",
    "charged_epochs": "search.epochs",
    "charged_device_seconds": "search.device_seconds",
}
_TRIAL = {
    **{name: name for name in ("arm", "number", "state", "random", "seed", "best_mrr", "best_epoch", "attempts")},
    **{name: name for name in ("failure", "reason", "started", "ended")},
    "reserved_epochs": "epochs",
    **{f"charged_{unit}": f"charged.{unit}" for unit in UNITS},
    "source": "source",
}
_OURS = ("seed", "attempts", "reserved_epochs", "source")  # what no table of another tool has
_REPLICATE = {
    **{name: name for name in ("arm", "index", "selection_sha256", "seed", "state", "best_epoch", "valid_mrr")},
    **{name: name for name in ("ranks_file", "reason")},
    **{unit: f"cost.{unit}" for unit in ("epochs", "device_seconds")},
}
_MOMENT = ("arm", "trial", "event", "time", "charged", "committed", "gap", "ahead", "behind")
_MEASUREMENT = ("arm", "trial", "epoch", "mrr", "loss", "epochs", "device_seconds", "time")


_DECISION = {
    **{name: f"pair.{name}" for name in ("first", "second", "difference", "low", "high", "se", "df", "p", "adjusted")},
    **{name: f"pair.{name}" for name in ("beats", "beats_low", "beats_high", "effect", "detectable")},
    **{name: name for name in ("outcome", "better", "sentence")},
    "supported_by_theory": "theory.supported",
    "theory": "theory.sentence",
}
_EXPECTED = ("trials", "mean", "median", "low", "high")
_CROSSING = ("unit", "ahead", "behind", "charged", "share", "times")
_PLACE = ("arm", "stage", "trial", "attempt", "node", "host", "device")
_SLICE = ("arm", "by", "name", "side", "queries", "mrr", "std")


def arms(record: StudyRecord, page: Page) -> str:
    """One row an arm, in the order of the study."""
    rows = {row.arm: row for group in page.groups for row in group.rows}
    shares = {row.arm: row for row in page.spendings}
    budget: Columns = {
        "budget_share": lambda row: shares[row.arm].share,
        "budget_completion": lambda row: shares[row.arm].completion,
        "search_seconds_per_epoch": lambda row: shares[row.arm].seconds_per_epoch,
        "parameters": lambda row: page.num_parameters.get(row.arm),
    }
    numbers = ("mean", "std", "low", "high")
    hits: Columns = {f"test_{name}_{number}": _of_hits(name, number) for name in HITS for number in numbers}
    columns = _columns(_HEADLINE) | hits | budget
    return _table(columns, [rows[arm.name] for arm in record.arms])


def trials(record: StudyRecord) -> str:
    """One row a trial, with a column for each path that any arm samples."""
    rows = sorted(record.trials, key=attrgetter("arm", "number"))
    known = {name: path for name, path in _TRIAL.items() if not record.imported_from or name not in _OURS}
    return _table(_columns(known) | _pairs("params.", "params", rows), rows)


def replicates(record: StudyRecord) -> str:
    """One row a replicate, with a column for each test metric."""
    rows = sorted(record.replicate_records, key=attrgetter("arm", "index"))
    return _table(_columns(_REPLICATE) | _pairs("test_", "test_metrics", rows), rows)


def curves(record: StudyRecord) -> str:
    """One row a validation of a trial, with a column for each further metric."""
    rows = sorted((m for trial in record.trials for m in trial.curve), key=attrgetter("arm", "trial", "epoch"))
    return _table(_columns({name: name for name in _MEASUREMENT}) | _pairs("valid_", "metrics", rows), rows)


def timeline(moments: Iterable[Moment]) -> str:
    """One row a change of what an arm has charged and reserved, in the order of time."""
    return _table(_columns({name: name for name in _MOMENT}), moments)


def decisions(page: Page) -> str:
    """One row a pair that was compared."""
    return _table(_columns(_DECISION), page.decisions.rows)


def expected_best(page: Page) -> str:
    """One row for each arm and number of random trials."""
    rows = [
        (curve.arm, *(getattr(point, name) for name in _EXPECTED), *(curve.charges[unit][place] for unit in COSTS))
        for curve in page.expected
        for place, point in enumerate(curve.points)
    ]
    return _table(_numbered("arm", *_EXPECTED, *COSTS), rows)


def flips(page: Page) -> str:
    """One row for each pair and number of random trials."""
    rows = [(row.first, row.second, row.trials, *pair) for row in page.flips for pair in row.probabilities]
    return _table(_numbered("first", "second", "of_trials", "trials", "probability"), rows)


def readings(page: Page) -> str:
    """One row for each unit and arm."""
    rows = [(each.unit, each.limit, p.arm, p.best, p.rank) for each in page.readings for p in each.places]
    return _table(_numbered("unit", "limit", "arm", "best_valid_mrr", "rank"), rows)


def crossings(page: Page) -> str:
    """One row for each unit and pair that changed places in it, the latest first."""
    return _table(_columns({name: name for name in _CROSSING}), page.crossings)


def importances(page: Page) -> str:
    """One row for each arm and tuned dimension of more than one value; where they are withheld one row says why."""
    rows = [
        (found.arm, path, share, found.trials, found.withheld)
        for found in (card.importance for card in page.cards)
        if found is not None
        for path, share in found.shares or ((None, None),)
    ]
    return _table(_numbered("arm", "path", "importance", "trials", "withheld"), rows)


def slices(page: Page) -> str:
    """One row for each arm, category or relation, and side."""
    return _table(_columns({name: name for name in _SLICE}), page.slices)


def places(record: StudyRecord) -> str:
    """One row an attempt whose place is known."""
    return _table(_columns({name: name for name in _PLACE}), record.places)


def _columns(paths: Mapping[str, str]) -> Columns:
    """Columns that read a dotted attribute."""
    return {name: attrgetter(path) for name, path in paths.items()}


def _pairs(prefix: str, attribute: str, rows: Iterable[object]) -> Columns:
    """A column for each name that occurs in the rows' (name, value) pairs, sorted by name."""
    names = sorted({name for row in rows for name, _ in getattr(row, attribute)})
    return {f"{prefix}{name}": _named(attribute, name) for name in names}


def _numbered(*names: str) -> Columns:
    """Columns that read an item by place."""
    return {name: itemgetter(place) for place, name in enumerate(names)}


def _of_hits(name: str, number: str) -> Callable[[Any], object]:
    return lambda row: getattr(row.hits[name], number)


def _named(attribute: str, name: str) -> Callable[[Any], object]:
    """A reader of one name among (name, value) pairs; None where a row lacks it."""
    return lambda row: dict(getattr(row, attribute)).get(name)


def _table(columns: Columns, rows: Iterable[object]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(read(row)) for read in columns.values()] for row in rows)
    return file.getvalue()


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)
