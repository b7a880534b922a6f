"""The seal on the test split: what was selected before it opened, and how often it opened."""

from collections.abc import Iterable
from dataclasses import dataclass

from study.records import Opening, Selection
from study.report.lookup import ArmRecord


@dataclass(frozen=True, kw_only=True)
class SealRow:
    """The selection of one arm and the openings of test that followed."""

    arm: str
    selection: Selection | None
    openings: tuple[Opening, ...]
    problems: tuple[str, ...]  # broken rules, in words; empty when the seal held


def seals(arms: Iterable[ArmRecord]) -> tuple[SealRow, ...]:
    """One row an arm, in the order of the study."""
    return tuple(
        SealRow(arm=arm.arm.name, selection=arm.selection, openings=arm.openings, problems=tuple(_problems(arm)))
        for arm in arms
    )


def _problems(arm: ArmRecord) -> Iterable[str]:
    if len(arm.openings) > 1:
        yield f"test was opened {len(arm.openings)} times, once is allowed"
    if arm.selection is None:
        if arm.openings:
            yield "test was opened without a selection"
        return
    if any(opening.time < arm.selection.time for opening in arm.openings):
        yield "test was opened before the selection was frozen"
    if any(opening.selection_sha256 != arm.selection.sha256 for opening in arm.openings):
        yield "test was opened for a selection with another hash"
