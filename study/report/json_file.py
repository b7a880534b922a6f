"""record.json: the whole record, and every number that the page shows of it.

Strict JSON with sorted keys: what is not finite becomes null.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum

from study.records import StudyRecord
from study.report.page import Page


def dump(record: StudyRecord, page: Page) -> str:
    """The text of record.json."""
    return (
        json.dumps({"record": plain(record), "report": plain(page)}, indent=1, sort_keys=True, allow_nan=False) + "\n"
    )


def plain(value: object) -> object:
    """Records, mappings and tuples as JSON values."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _scalar(value)


def _scalar(value: object) -> str | int | float | None:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
