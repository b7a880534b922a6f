"""Reciprocal ranks of the replicates of a study, triple by triple: what arms are compared on.

A replicate's file has a row per query; the two queries of a triple depend on each other, so a triple
counts once, with the mean of both. The triples of all files are brought into one order.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from study.errors import WorldError
from study.records import ReplicateRecord

_TRIPLE = ("head", "relation", "tail")
_SIDES = ("head", "tail")  # of the queries of a triple


def reciprocal_ranks(
    folder: Path, replicates: Iterable[ReplicateRecord]
) -> tuple[Mapping[str, NDArray[np.float64]], Mapping[str, WorldError]]:
    """For each arm a row a tested replicate, by index, and a column a test triple; or why one of its files is none."""
    tested = sorted((each for each in replicates if each.ranks_file), key=lambda each: (each.arm, each.index))
    problems: dict[str, WorldError] = {}
    found: list[tuple[str, Path, bytes, NDArray[np.float64]]] = []
    for replicate in tested:
        path = folder / str(replicate.ranks_file)
        try:
            triples, scores = _read(path)
        except WorldError as error:
            problems.setdefault(replicate.arm, error)
        else:
            found.append((replicate.arm, path, triples.tobytes(), scores))
    counts = Counter(ranked for _, _, ranked, _ in found)
    common = max(counts, key=counts.__getitem__, default=b"")
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for arm, path, ranked, scores in found:
        if ranked != common:
            problems.setdefault(arm, WorldError(f"{path}: must rank the same triples as most of the replicates"))
        rows.setdefault(arm, []).append(scores)
    return {arm: np.stack(scores) for arm, scores in rows.items() if arm not in problems}, problems


def read_columns(path: Path, columns: Iterable[str]) -> Mapping[str, NDArray[Any]]:
    """Columns of a file of ranks, a row a query; WorldError when it is none."""
    try:
        table = pyarrow.parquet.read_table(path, columns=list(columns))
    except FileNotFoundError:
        raise WorldError(f"{path}: must be a file of ranks, but it does not exist") from None
    except (OSError, pa.ArrowException) as error:
        raise WorldError(f"{path}: must be a file of ranks, got: {' '.join(str(error).split())}") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def _read(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The triples, in order, as often as the split has them, and the mean reciprocal rank of each over its queries."""
    table = read_columns(path, (*_TRIPLE, "realistic"))
    triples, places = np.unique(np.stack([table[name] for name in _TRIPLE]), axis=1, return_inverse=True)
    counts = np.bincount(places)
    scores, times = np.bincount(places, weights=1 / table["realistic"]) / counts, counts // len(_SIDES)
    return np.repeat(triples, times, axis=1), np.repeat(scores, times)
