"""What was changed after the study had begun, and what was known of the test split by then."""

from collections.abc import Iterator
from dataclasses import dataclass

from study.records import StudyRecord
from study.report import text


@dataclass(frozen=True, kw_only=True)
class AmendmentRow:
    """One amendment of the study file."""

    number: int
    time: float
    changes: tuple[str, ...]
    spec_sha256: str
    reopens: bool
    opened: tuple[str, ...]  # the arms whose test split had been opened before


def amendment_rows(record: StudyRecord) -> tuple[AmendmentRow, ...]:
    """One row an amendment, in their order."""
    return tuple(_rows(record))


def summary(rows: tuple[AmendmentRow, ...]) -> str:
    """One sentence for the head of the page; empty when nothing was amended."""
    if not rows:
        return ""
    knowing = sum(bool(row.opened) for row in rows)
    seen = f", {knowing} of them after the test split of an arm was opened" if knowing else ""
    return f"The study file was amended after the study had begun: {text.plural(len(rows), 'amendment')}{seen}."


def _rows(record: StudyRecord) -> Iterator[AmendmentRow]:
    for amendment in record.amendments:
        opened = {opening.arm for opening in record.openings if opening.amendment < amendment.number}
        yield AmendmentRow(
            number=amendment.number,
            time=amendment.time,
            changes=amendment.changes,
            spec_sha256=amendment.spec_sha256,
            reopens=amendment.reopens,
            opened=tuple(arm.name for arm in record.arms if arm.name in opened),
        )
