"""Test MRR by category of relations and by frequency of answers as tables: where an arm is good and where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.records import SliceRecord

_SHOWN = ("category", "answer_frequency")  # the others are in slices.csv


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An arm on one slice; None where it has no such query."""

    both: float | None
    head: float | None
    tail: float | None


@dataclass(frozen=True, kw_only=True)
class SliceTable:
    """A row an arm, a column a slice."""

    by: str
    columns: tuple[tuple[str, int], ...]  # name and number of queries
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def slice_tables(slices: Sequence[SliceRecord]) -> tuple[SliceTable, ...]:
    """One for each kind that has few slices enough for a table; none where there are no slices."""
    return tuple(_table(by, slices) for by in _SHOWN) if slices else ()


def _table(by: str, slices: Sequence[SliceRecord]) -> SliceTable:
    chosen = [each for each in slices if each.by == by]
    columns = {each.name: each.queries for each in chosen if each.side == "both"}
    mrr = {(each.arm, each.name, each.side): each.mrr for each in chosen}
    arms = dict.fromkeys(each.arm for each in chosen)

    def cell(arm: str, name: str) -> Cell:
        return Cell(
            both=mrr.get((arm, name, "both")), head=mrr.get((arm, name, "head")), tail=mrr.get((arm, name, "tail"))
        )

    return SliceTable(
        by=by,
        columns=tuple(columns.items()),
        rows=tuple((arm, tuple(cell(arm, name) for name in columns)) for arm in arms),
    )
