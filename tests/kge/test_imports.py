"""What importing kge costs and what it does without. Each in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_WITHOUT = """
import importlib, pkgutil, sys
FORBIDDEN = {"ray", "optuna", "mlflow", "sqlalchemy", "pydantic", "ruamel", "safetensors", "study"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocker())
import kge
modules = [module.name for module in pkgutil.walk_packages(kge.__path__, "kge.") if module.name != "kge.documents"]
assert len(modules) > 30, modules
for name in modules:
    importlib.import_module(name)
"""

_HELP = """
import sys
from kge import cli
sys.argv = ["kge", *sys.argv[1:], "--help"]
try:
    cli.main()
finally:
    heavy = {"torch", "numpy", "numba", "pandas", "pyarrow", "pydantic", "ruamel"} & set(sys.modules)
    assert not heavy, heavy
"""

_TRAINING = """
import sys
from pathlib import Path
from kge.fitting import fit
from kge.footprint import Sizes, predicted
from kge.models import MODELS
from tests.kge import graphs
for name, model in MODELS.items():
    options = {"model.reciprocal": model.reciprocal_only, "model.dropout.relation": 0.1}
    for device in ("cpu", "cuda"):
        assert predicted(graphs.config(options, model=name), Sizes.of(graphs.ring()), device=device).peak
for name in ("adagrad", "adam", "adamw", "sgd"):
    config = graphs.config({"optimizer.name": name, "optimizer.max_norm": 0.1, "training.max_epochs": 2})
    for _ in range(2):  # once from the beginning, once from its checkpoint
        assert list(fit(config, graphs.ring(), directory=Path(sys.argv[1], name)))
assert "torch._dynamo" not in sys.modules
"""


def _python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_kge_needs_neither_an_orchestrator_nor_yaml_to_be_imported() -> None:
    done = _python(_WITHOUT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["", "train", "evaluate", "predict", "data"])
def test_help_answers_without_heavy_imports(command: str) -> None:
    done = _python(_HELP, *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: kge {command}".rstrip() in done.stdout


def test_a_training_does_not_wait_for_a_compiler_that_it_does_not_use(tmp_path: Path) -> None:
    done = _python(_TRAINING, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
