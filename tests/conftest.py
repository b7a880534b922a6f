"""What every test stands on: a clean environment, and the published graphs where this machine has them."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

if TYPE_CHECKING:
    from kge.data import Dataset

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# A contributor's own home, database or tracking server must neither be written to nor decide a test.
for _variable in ("KGE_STUDY_HOME", "KGE_STUDY_DATABASE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
    os.environ.pop(_variable, None)
# A cluster that a test starts is its own: no token is written to the user's home, and nobody is called.
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}

# One thread: most tests are many small steps, and several test runs share a machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A command that a test runs in this process may have asked for all cores."""
    yield
    torch.set_num_threads(1)


# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

if _SHARED_DATA.is_dir():
    os.environ.setdefault("KGE_DATA_DIR", str(_SHARED_DATA))


@pytest.fixture(scope="session")
def published() -> "Callable[[str], Dataset]":
    """Load a published graph by name; the test is skipped where loading it would mean downloading it."""
    from kge import catalog

    @functools.cache
    def load(name: str) -> "Dataset":
        if not any(folder.is_dir() for folder in catalog._local_folders(name)):
            pytest.skip(f"{name} is neither in KGE_DATA_DIR nor in the cache")
        return catalog.load(name)

    return load


@pytest.fixture
def float64() -> Iterator[None]:
    """Tables, counts and losses in double precision, for comparisons with formulas."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
