"""The seal on the test split: what was selected before it opened, how often it opened, and who allowed that.

An arm's test split opens once. To open it again needs an amendment that says so, made after it opened last;
the number of the amendment in force is written with each opening, so that no clock decides.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from study.records import Amendment, Opening, Selection
from study.report.lookup import ArmRecord


@dataclass(frozen=True, kw_only=True)
class OpeningRow:
    """One opening and the selection it was for."""

    number: int  # from 1
    opening: Opening
    selection: Selection | None


@dataclass(frozen=True, kw_only=True)
class SealRow:
    """The selection of one arm and the openings of test that followed."""

    arm: str
    selection: Selection | None
    openings: tuple[OpeningRow, ...]
    problems: tuple[str, ...]  # broken rules, in words; empty when the seal held
    reopened: str  # said of an arm that was opened again as an amendment allowed; empty otherwise

    @property
    def is_reopened(self) -> bool:
        """True when test was opened more than once, allowed or not."""
        return len(self.openings) > 1


def seals(arms: Iterable[ArmRecord], amendments: tuple[Amendment, ...]) -> tuple[SealRow, ...]:
    """One row an arm, in the order of the study."""
    return tuple(_seal(arm, amendments) for arm in arms)


def _seal(arm: ArmRecord, amendments: tuple[Amendment, ...]) -> SealRow:
    chosen = {selection.sha256: selection for selection in arm.selections}
    rows = tuple(
        OpeningRow(number=number, opening=opening, selection=chosen.get(opening.selection_sha256))
        for number, opening in enumerate(arm.openings, start=1)
    )
    problems = tuple(_problems(arm, rows, amendments))
    reopened = "" if problems or len(rows) < 2 else _reopened(rows)
    return SealRow(arm=arm.name, selection=arm.selection, openings=rows, problems=problems, reopened=reopened)


def _problems(arm: ArmRecord, rows: tuple[OpeningRow, ...], amendments: tuple[Amendment, ...]) -> Iterator[str]:
    allowed = [amendment.number for amendment in amendments if amendment.reopens]
    for before, after in pairwise(row.opening.amendment for row in rows):
        if not any(before < number <= after for number in allowed):
            yield f"test was opened {len(rows)} times, once is allowed and again only where an amendment says so"
            break
    if rows and not arm.selections:
        yield "test was opened without a selection"
        return
    if any(row.selection is not None and row.opening.time < row.selection.time for row in rows):
        yield "test was opened before the selection was frozen"
    if any(row.selection is None for row in rows):
        yield "test was opened for a selection with another hash"


def _reopened(rows: tuple[OpeningRow, ...]) -> str:
    last = rows[-1].opening.amendment
    return f"test was opened {len(rows)} times, the last under amendment {last}: later choices knew earlier results"
