"""methods.txt: the methods paragraph and the checklist as plain text."""

import textwrap

from study.records import StudyRecord
from study.report.page import Page

_WIDTH = 100


def render(record: StudyRecord, page: Page) -> str:
    """The text of methods.txt."""
    items = [_wrapped(f"[{item.answer}] {item.question}: {item.value}", indent="      ") for item in page.checklist]
    return "\n".join((f"Study {record.name}", "", _wrapped(page.methods), "", *items)) + "\n"


def _wrapped(content: str, indent: str = "") -> str:
    return textwrap.fill(content, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
