"""Files of queries in, files of answers out.

A query is a line head<TAB>relation<TAB>? or ?<TAB>relation<TAB>tail, with ids or labels. An answer is a line with
the query's three columns (ids, and ? where it asks), rank, entity, label, score and known: tab-separated under a
header, or JSON. Scores have nine digits in text, enough to tell any two numbers of 32 bits apart.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kge.data import Side
from kge.errors import DataError
from kge.folders import read_fields
from kge.predict import Answer, Predictor, Query

ASKED = "?"
COLUMNS = ("head", "relation", "tail", "rank", "entity", "label", "score", "known")
Record = dict[str, str | int | float | bool | None]


def read_queries(path: Path, predictor: Predictor) -> list[Query]:
    """All queries of a file; DataError names file:line."""
    queries = [parse_query(f"{path}:{number}", fields, predictor) for number, fields in read_fields(path)]
    if not queries:
        raise DataError(f"{path}: must hold at least one query, got an empty file")
    return queries


def parse_query(where: str, fields: Sequence[str], predictor: Predictor) -> Query:
    """The query of the three columns of a line; DataError says where it is wrong."""
    if len(fields) != 3 or (fields[0] == ASKED) == (fields[2] == ASKED):
        came = "\t".join(fields)
        raise DataError(f"{where}: must be head<TAB>relation<TAB>? or ?<TAB>relation<TAB>tail, got {came!r:.80}")
    side = Side.HEAD if fields[0] == ASKED else Side.TAIL
    try:
        return predictor.query(side, fields[2] if side is Side.HEAD else fields[0], fields[1])
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def records(queries: Iterable[Query], answers: Iterable[tuple[Answer, ...]]) -> Iterator[Record]:
    """A record for each answer, query by query."""
    for query, found in zip(queries, answers, strict=True):
        head, tail = (query.anchor, ASKED) if query.side is Side.TAIL else (ASKED, query.anchor)
        for rank, answer in enumerate(found, start=1):
            values = (head, query.relation, tail, rank, answer.entity, answer.label, answer.score, answer.known)
            yield dict(zip(COLUMNS, values, strict=True))


def as_tsv(found: Iterable[Record]) -> Iterator[str]:
    """Lines of a table with a header."""
    yield "\t".join(COLUMNS) + "\n"
    for record in found:
        shown = record | {"label": record["label"] or "", "score": f"{record['score']:.9g}", "known": _word(record)}
        yield "\t".join(str(shown[column]) for column in COLUMNS) + "\n"


def as_text(found: Iterable[Record]) -> Iterator[str]:
    """Lines for a reader, known answers with a star."""
    for record in found:
        star, label = "*" if record["known"] else " ", f"  {record['label']}" if record["label"] else ""
        yield f"{record['rank']:>4} {record['score']:>10.4f} {star} {record['entity']}{label}\n"


def as_json(found: Iterable[Record]) -> Iterator[str]:
    """A JSON object a line."""
    for record in found:
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _word(record: Record) -> str:
    return "yes" if record["known"] else "no"
