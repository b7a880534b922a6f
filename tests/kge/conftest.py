"""One thread: the tests of the core are many small steps, and several test runs share a machine."""

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def float64() -> Iterator[None]:
    """Tables, counts and losses in double precision, for comparisons with formulas."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
