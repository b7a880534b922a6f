"""What a process does once is done before a training is timed."""

import subprocess
import sys
from contextlib import nullcontext

import pytest

from kge.errors import DivergenceError
from kge.fitting import Validation, fit, fit_by_epoch
from kge.losses import LOSSES
from kge.models import MODELS
from kge.rehearsal import rehearse
from tests.kge import graphs

ASKED = """
import gc, sys
from kge.fitting import fit_by_epoch
from kge.rehearsal import rehearse
from tests.kge import graphs

model, loss, type_ = sys.argv[1:]
options = {"training.type": type_, "model.dropout.entity": 0.1, "model.dropout.relation": 0.1, "optimizer.name": "adam"}
config = graphs.config(options, model=model, loss=loss)

def done():
    from numba.core.dispatcher import Dispatcher
    loops = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return set(sys.modules), sum(len(each.signatures) for each in loops)

rehearse(config, device="cpu")
before, compiled = done()
for _ in fit_by_epoch(config, graphs.random_graph(), directory=None):
    break
after, compiled_now = done()
print(sorted(after - before), compiled_now - compiled, compiled > 0)
"""


@pytest.mark.parametrize(
    "case",
    [
        ("complex", "sce", "one_vs_all"),
        ("transe", "ns", "negative_sampling"),
        ("rotate", "sce", "one_vs_all"),
        ("rescal", "sce_ls", "k_vs_all"),
    ],
    ids="-".join,
)
def test_the_first_epoch_imports_and_compiles_nothing(case: tuple[str, str, str]) -> None:
    found = subprocess.run([sys.executable, "-c", ASKED, *case], capture_output=True, text=True, check=False)
    assert found.stdout == "[] 0 True\n", found.stdout + found.stderr


@pytest.mark.parametrize("model", MODELS)
def test_nothing_that_is_registered_fails_in_it(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kge.rehearsal.suppress", lambda _: nullcontext())
    shape = {"model.dim": 20, "model.reciprocal": True} if model == "conve" else {}
    for loss, each in LOSSES.items():
        for type_ in each.training_types:
            rehearse(graphs.config({"training.type": type_, **shape}, model=model, loss=loss), device="cpu")


def test_a_rehearsal_changes_no_training() -> None:
    config, graph = graphs.config({"training.max_epochs": 2, "model.dropout.entity": 0.2}), graphs.random_graph()
    without = [each for each in fit_by_epoch(config, graph, directory=None) if isinstance(each, Validation)]
    rehearse(config, device="cpu")
    rehearsed = list(fit(config, graph, directory=None))
    assert [(each.loss, each.mrr) for each in rehearsed] == [(each.loss, each.mrr) for each in without]


def test_what_fails_is_said_by_the_training() -> None:
    config = graphs.config({"optimizer.lr": 1e30, "training.max_epochs": 3})
    rehearse(config, device="cpu")
    with pytest.raises(DivergenceError, match="epoch"):
        list(fit(config, graphs.random_graph(), directory=None))
