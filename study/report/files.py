"""Files appear whole or not at all: written beside, then renamed."""

import os
from pathlib import Path


def write(path: Path, content: str) -> Path:
    """Replace the file by this text (UTF-8, no newline translation)."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content.encode("utf-8", "replace"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
