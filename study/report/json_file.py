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

_PLAIN = (str, int, bool, type(None))


def dump(record: StudyRecord, page: Page) -> str:
    """The text of record.json."""
    return json.dumps({"record": plain(record), "report": plain(page)}, sort_keys=True, allow_nan=False) + "\n"


def plain(value: object) -> object:
    """Records, mappings and tuples as JSON values."""
    if type(value) in _PLAIN:  # first, because nearly all of a record is numbers and names
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {name: plain(item) for name, item in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return _scalar(value)


def _scalar(value: object) -> str | int | None:
    if isinstance(value, Enum):
        value = value.value
    return value if value is None or isinstance(value, str | int) else str(value)
