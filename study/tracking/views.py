"""Saved views of a study in MLflow's UI: a search, a sort and columns, under "Views" and `?viewStateShareKey=KEY`.

Without one, MLflow 3.17 lists runs with no tag and no metric beside their names. It keeps a view as a tag of
the experiment: `mlflow.sharedViewState.KEY` with the state that the page has in the browser.
"""

import json
from collections.abc import Sequence

from study.tracking.moments import milliseconds

_TAG = "mlflow.sharedViewState."
_WHO = ("tags.arm", "tags.model", "tags.loss")
_MRR = "metrics.best_mrr"
_TEST = ("metrics.test_mrr_mean", "metrics.test_mrr_std")
_NEWEST = "attributes.start_time"  # the only order in which the page nests runs
_SPENT = ("metrics.epochs_charged", "metrics.device_seconds_charged", "tags.state")


def views(created: float) -> dict[str, str]:
    """The tags; `created` is when the study was registered."""
    failed = (*_WHO, "tags.failure", "tags.reason", *_SPENT)
    nested = ("tags.arm", "tags.trial", *_WHO[1:], _MRR, _TEST[0], *_SPENT)
    shown = {
        "nested": ("Study, arms and trials, nested", "", _NEWEST, nested),
        "arms": ("Arms, best test mean first", "tags.stage = 'arm'", _TEST[0], (*_WHO, _MRR, *_TEST, *_SPENT)),
        "trials": ("Trials, best validation MRR first", "tags.stage = 'search'", _MRR, (*_WHO, _MRR, *_SPENT)),
        "failed": ("What failed", "tags.state = 'FAIL'", _NEWEST, failed),
    }
    return {f"{_TAG}{key}": _view(*view, time=milliseconds(created)) for key, view in shown.items()}


def _view(name: str, search: str, order: str, columns: Sequence[str], *, time: int) -> str:
    chosen = [_quoted(each) for each in columns]
    state = {
        "searchFilter": search,
        "orderByKey": order if order == _NEWEST else _quoted(order),
        "orderByAsc": False,
        "selectedColumns": chosen,
        "columnOrder": chosen,
    }
    return json.dumps({"name": name, "createdAt": time, "updatedAt": time, "state": json.dumps(state)})


def _quoted(column: str) -> str:
    """As the page names it."""
    kind, _, name = column.partition(".")
    return f"{kind}.`{name}`"
