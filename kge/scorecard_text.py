"""A scorecard as lines for a person: one table of metrics with a column for each reading, then the slices.

Of long tables the first rows are shown; the record has all.
"""

from collections.abc import Iterator, Mapping

from kge.scorecard import Record

_READINGS = {
    "filtered_with_test": "answers known from test are left out too, as in older publications; never select on it",
    "drop_unseen": "triples left out because train never saw one of their entities: {dropped}",
}
_SLICE_COLUMNS = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10", "amri", "adjusted_mrr")
_ROWS = 20


def lines(record: Record) -> Iterator[str]:
    """What the command prints."""
    yield _heading(record)
    readings = {name: record[name] for name in _READINGS if name in record and record[name].get("dropped", 1)}
    yield from _metrics(record, readings)
    for name, reading in readings.items():
        yield f"{name}: {_READINGS[name].format(**reading)}"
    for kind, rows in record.get("slices", {}).items():
        yield ""
        yield from _slices(kind, rows)


def _heading(record: Record) -> str:
    parts = [
        record["split"],
        f"filtered by {' + '.join(record['filter'])}",
        f"{record['triples']} triples",
        "both sides",
    ]
    if "sample_of" in record:
        parts[2] = f"a random sample of {record['triples']} of {record['sample_of']} triples"
    if "sampled_candidates" in record:
        parts.append(f"sampled: {record['sampled_candidates']} random candidates a query")
    if "seed" in record:
        parts.append(f"seed {record['seed']}")
    return ", ".join(parts)


def _metrics(record: Record, readings: Mapping[str, Record]) -> Iterator[str]:
    columns = {"filtered": record, **readings}
    names = [name for name, value in record.items() if isinstance(value, float)]
    width = max(16, *(len(name) for name in names))
    if readings:
        yield " " * width + "".join(f"  {label:>10}" for label in columns)
    for name in names:
        cells = (f"  {_cell(column.get(name)):>{max(10, len(label))}}" for label, column in columns.items())
        yield f"{name:>{width}}" + "".join(cells)


def _slices(kind: str, rows: Mapping[str, Record]) -> Iterator[str]:
    every = dict.fromkeys(name for row in rows.values() for name in row)
    wanted = _SLICE_COLUMNS if kind == "side" else (*_SLICE_COLUMNS, "mrr_head", "mrr_tail")
    columns = [name for name in every if name.removeprefix("sampled_") in wanted]
    shown = list(rows.items())[:_ROWS]
    width = max(len(kind), *(len(name) for name, _ in shown))
    yield f"{kind:<{width}}  {'queries':>8}" + "".join(f"  {name:>10}" for name in columns)
    for name, row in shown:
        cells = (f"  {_cell(row.get(column)):>{max(10, len(column))}}" for column in columns)
        yield f"{name:<{width}}  {row['queries']:>8}" + "".join(cells)
    if len(rows) > len(shown):
        yield f"and {len(rows) - len(shown)} more with fewer queries: --json has all"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
