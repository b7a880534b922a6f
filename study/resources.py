"""Where the files that ship with the program are: search spaces and built-in studies.

A checkout is read as it stands, so that an edit takes effect at once; a wheel carries copies in
study/_data (pyproject.toml puts them there).
"""

from pathlib import Path

KINDS = ("search_spaces", "studies")


def resource_folder(kind: str) -> Path:
    """The folder of `search_spaces` or of `studies`."""
    assert kind in KINDS, kind
    package = Path(__file__).resolve().parent
    shipped = package / "_data" / kind
    return shipped if shipped.is_dir() else package.parent / kind
