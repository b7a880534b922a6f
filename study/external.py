"""Finished trials of any other tool, from a table, as a record that the report judges by the same statistics.

    arm,trial,value,epochs,random,param.lr
    a,0,0.31,20,true,0.01

One row a trial. What such a table cannot hold (seeds, ranks, a sealed test split, the order of events) stays empty in
the record, and the report withholds what would rest on it. A mistake is one sentence with file, line and column.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kge.names import unknown
from study.errors import UserError
from study.records import Arm, Cost, StudyRecord, TrialRecord, TrialState, Value

REQUIRED = ("arm", "trial", "value")
OPTIONAL = ("state", "random", "epochs", "device_seconds", "params")
PREFIXES = ("param.", "params.")
UNKNOWN = "unknown"  # what the losses of such arms aim at
_MOST = 10**15  # of a count or an amount, so that their sums are finite
_COUNT, _AMOUNT = f"an integer from 0 to {_MOST:.0e}", f"a number from 0 to {_MOST:.0e}"
_SHOWN = 60  # characters of a cell in an error
_STATES = {state.value: state for state in TrialState if state.is_final}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One line of the table, by column."""

    file: str
    line: int
    cells: Mapping[str, str]

    def wrong(self, column: str, must: str, got: str | None = None) -> UserError:
        """The mistake in one of its cells."""
        came = repr(self.cells.get(column, "") if got is None else got)
        cut = came if len(came) <= _SHOWN else f"{came[: _SHOWN - 3]}..."
        return UserError(f"{self.file}:{self.line}: {column}: must be {must}, got {cut}")

    def read(self, column: str, must: str, convert: Callable[[str], T]) -> T:
        """A cell as a value; any ValueError is the mistake that it is."""
        try:
            return convert(self.cells[column])
        except (ValueError, KeyError):
            raise self.wrong(column, must) from None


def read_table(file: Path, *, unit: str) -> StudyRecord:
    """The record of a table; `unit` is what the budgets of its arms are counted in."""
    text = _text(file)
    rows = list(_rows(text, str(file)))
    if unit != "trials" and unit not in rows[0].cells:
        raise UserError(f"{file}:1: must have the column {unit!r} for budgets in {unit}, got {_listed(rows[0].cells)}")
    trials = tuple(_trials(rows))
    arms = tuple(_arm(name) for name in dict.fromkeys(trial.arm for trial in trials))
    budget = _largest(trials, unit)
    if not getattr(budget, unit) > 0:
        raise UserError(f"{file}: {unit}: must be above 0 in some trial, got 0 in all")
    return StudyRecord(
        name=file.stem,
        spec="",
        spec_sha256=hashlib.sha256(text.encode()).hexdigest(),
        launched_sha256="",
        seed=0,
        dataset="",
        passport={},
        arms=arms,
        spaces=(),
        budget=budget,
        budget_unit=unit,
        replicates=0,
        identical_errors=None,
        pruning=None,
        environment={},
        created=0.0,
        trials=trials,
        selections=(),
        replicate_records=(),
        openings=(),
        imported_from=file.name,
    )


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{file}: cannot be read: {reason}") from None


def _rows(text: str, file: str) -> Iterator[_Row]:
    """Every row below the header, which is checked first; there is one at least."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = tuple(name.strip() for name in next(reader, []))
        _check_columns(columns, f"{file}:1")
        line, count = reader.line_num, 0
        for cells in reader:
            line, start = reader.line_num, line + 1
            if not cells:
                continue
            if len(cells) != len(columns):
                raise UserError(f"{file}:{start}: must have {len(columns)} cells as the header, got {len(cells)}")
            count += 1
            yield _Row(file=file, line=start, cells={n: c.strip() for n, c in zip(columns, cells, strict=True)})
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: must be CSV: {error}") from None
    if not count:
        raise UserError(f"{file}: must have a trial below its header, got none")


def _check_columns(columns: tuple[str, ...], where: str) -> None:
    known = (*REQUIRED, *OPTIONAL, "param.*")
    for place, name in enumerate(columns):
        if name in columns[:place]:
            raise UserError(f"{where}: column {name!r}: must be given once")
        if name not in known and not _path(name):
            raise UserError(f"{where}: {unknown('column', name, known)}")
    for name in REQUIRED:
        if name not in columns:
            raise UserError(f"{where}: must have the column {name!r}, got {_listed(columns)}")


def _trials(rows: Iterable[_Row]) -> Iterator[TrialRecord]:
    lines: dict[tuple[str, int], int] = {}
    for row in rows:
        trial = _trial(row)
        before = lines.setdefault((trial.arm, trial.number), row.line)
        if before != row.line:
            raise row.wrong("trial", f"given once for each arm (arm {trial.arm!r} has it in line {before})")
        yield trial


def _trial(row: _Row) -> TrialRecord:
    if not row.cells["arm"].isprintable() or not row.cells["arm"]:
        raise row.wrong("arm", "a name")
    state = _state(row)
    value = None
    if row.cells["value"] or state is TrialState.COMPLETE:
        value = row.read("value", "a validation score from 0 to 1, higher is better", _score)
    return TrialRecord(
        arm=row.cells["arm"],
        number=row.read("trial", _COUNT, _count),
        state=state,
        params=tuple(sorted(_params(row).items())),
        seed=0,
        random=row.read("random", "true or false", _flag) if "random" in row.cells else False,
        epochs=0,
        best_mrr=value,
        best_epoch=None,
        attempts=1,
        failure=None,
        reason="",
        cost=Cost(
            trials=1,
            epochs=row.read("epochs", _COUNT, _count) if "epochs" in row.cells else 0,
            device_seconds=row.read("device_seconds", _AMOUNT, _amount) if "device_seconds" in row.cells else 0.0,
        ),
        curve=(),
        started=None,
        ended=None,
    )


def _state(row: _Row) -> TrialState:
    """As given; without a column, a trial is complete when it has a value, and failed otherwise."""
    if "state" not in row.cells:
        return TrialState.COMPLETE if row.cells["value"] else TrialState.FAIL
    return row.read("state", f"one of {', '.join(_STATES)}", lambda cell: _known(_STATES, cell.upper()))


def _params(row: _Row) -> dict[str, Value]:
    """The JSON object of `params`, and the columns of single ones; an empty cell of these was not sampled."""
    params: dict[str, Value] = {}
    if row.cells.get("params"):
        params |= row.read("params", "a JSON object of plain values", _plain_object)
    for name, cell in row.cells.items():
        path = _path(name)
        if path and cell:
            if path in params:
                raise row.wrong(name, "given once")
            params[path] = _scalar(cell)
    return params


def _arm(name: str) -> Arm:
    model, dot, loss = name.rpartition(".")
    model, loss = (model, loss) if dot and model and loss else (name, "")
    return Arm(name=name, dataset="", model=model, loss=loss, training_type="", objective=UNKNOWN)


def _largest(trials: Iterable[TrialRecord], unit: str) -> Cost:
    """The largest spending of an arm, in one unit."""
    spent: dict[str, Cost] = {}
    for trial in trials:
        spent[trial.arm] = spent.get(trial.arm, Cost()) + trial.cost
    return Cost(**{unit: max(getattr(cost, unit) for cost in spent.values())})


def _path(name: str) -> str:
    """What a column of one parameter is named after; empty for other columns."""
    return next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), "")


def _count(cell: str) -> int:
    if not cell.isascii() or not cell.isdigit() or int(cell) > _MOST:
        raise ValueError(cell)
    return int(cell)


def _amount(cell: str) -> float:
    number = float(cell)
    if not 0 <= number <= _MOST:
        raise ValueError(cell)
    return number


def _score(cell: str) -> float:
    number = _amount(cell)
    if number > 1:
        raise ValueError(cell)
    return number


def _flag(cell: str) -> bool:
    return _known({"true": True, "false": False, "": False}, cell.lower())


def _known(values: Mapping[str, T], cell: str) -> T:
    if cell not in values:
        raise ValueError(cell)
    return values[cell]


def _plain_object(cell: str) -> dict[str, Value]:
    found = _json(cell)
    if not isinstance(found, dict) or not all(isinstance(each, Value) for each in found.values()):
        raise ValueError(cell)
    return found


def _scalar(cell: str) -> Value:
    """As JSON reads it, else the text itself."""
    try:
        found = _json(cell)
    except ValueError:
        return cell
    return found if isinstance(found, Value) else cell


def _json(cell: str) -> object:
    """As `json.loads`, without its NaN and infinities; what it cannot nest so deeply is none either."""
    try:
        return json.loads(cell, parse_constant=_count, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError(cell) from None


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; ValueError where it says a name twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(pairs)
    return found


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns) or "nothing"
