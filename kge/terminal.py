"""A line on the terminal that the next one replaces. A log gets none: it keeps every line."""

import sys

_ERASED = "\r\x1b[K"


def show(text: str) -> None:
    """Write the line over the last one of these; "" takes it away."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{_ERASED}{text}")
        sys.stderr.flush()
