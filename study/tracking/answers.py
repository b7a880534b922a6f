"""What MLflow loads as the model of an arm: a table of queries in, a table of answers out.

    mlflow.pyfunc.load_model("models:/STUDY.ARM@best").predict(queries, params={"top": 3})

A query has a head and a relation; where the head is `?`, the tail stands in a third column. An answer is a row
as `kge predict --batch` writes it. This module is named in the model, and its files hold no code: loading one
runs what is installed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kge.bundle import read_bundle
from kge.errors import DataError
from kge.predict import Predictor
from kge.queries import ASKED, COLUMNS, parse_query, records


def _load_pyfunc(path: str) -> "AnswerModel":
    """The name and the argument are MLflow's."""
    return AnswerModel(read_bundle(Path(path)))


class AnswerModel:
    """Answers tables of queries."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, queries: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The best answers of each row; DataError names the first row that is wrong."""
        top, new_only = (params or {}).get("top", 10), (params or {}).get("new_only", False)
        if top < 1:
            raise DataError(f"top: must be at least 1, got {top}")
        given = queries.reindex(columns=list(COLUMNS[:3])).astype(object)
        rows = given.fillna({"head": "", "relation": "", "tail": ASKED}).itertuples(index=False)
        asked = [parse_query(f"row {number}", row, self._predictor) for number, row in enumerate(rows)]
        found = records(asked, self._predictor.answers(asked, top=top, new_only=new_only))
        return pd.DataFrame(list(found), columns=list(COLUMNS))
