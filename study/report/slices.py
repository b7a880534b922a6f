"""Test MRR by category of relations as a table: where an arm is good and where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.records import SliceRecord


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An arm on one category; None where it has no such query."""

    both: float | None
    head: float | None
    tail: float | None


@dataclass(frozen=True, kw_only=True)
class SliceTable:
    """A row an arm, a column a category."""

    columns: tuple[tuple[str, int], ...]  # name and number of queries
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def by_category(slices: Sequence[SliceRecord]) -> SliceTable | None:
    """The slices by category; None where there are none."""
    chosen = [each for each in slices if each.by == "category"]
    columns = {each.name: each.queries for each in chosen if each.side == "both"}
    mrr = {(each.arm, each.name, each.side): each.mrr for each in chosen}
    arms = dict.fromkeys(each.arm for each in chosen)
    if not arms:
        return None

    def cell(arm: str, name: str) -> Cell:
        return Cell(
            both=mrr.get((arm, name, "both")), head=mrr.get((arm, name, "head")), tail=mrr.get((arm, name, "tail"))
        )

    return SliceTable(
        columns=tuple(columns.items()),
        rows=tuple((arm, tuple(cell(arm, name) for name in columns)) for arm in arms),
    )
