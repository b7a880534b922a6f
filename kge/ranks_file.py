"""Ranks as a parquet file: one row per query, head queries first, each side in the order of the split.

head, relation and tail are ids, which are positions in the sorted vocabularies of the graph (kge.data).
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from kge.files import replacing
from kge.ranks import Ranks

_COLUMNS = ("head", "relation", "tail", "side", "optimistic", "pessimistic", "realistic", "candidates")


def write_ranks(path: Path, ranks: Sequence[Ranks]) -> None:
    """Write the queries of all sides, each with its three ranks and the number of candidates ranked."""
    tables = [pa.table({name: _column(each, name) for name in _COLUMNS}) for each in ranks]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        pyarrow.parquet.write_table(pa.concat_tables(tables).unify_dictionaries(), file)


def _column(ranks: Ranks, name: str) -> pa.Array:
    if name == "side":
        return pa.array([str(ranks.side)] * len(ranks.head)).dictionary_encode()
    return pa.array(getattr(ranks, name))
