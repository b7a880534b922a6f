"""How far apart the two libraries were, printed when the tests end: the differences in docs/peers.md are these."""

import pytest
import torch
from torch import Tensor

from tests.peer.shared import Close

_LARGEST: dict[str, float] = {}


@pytest.fixture
def close() -> Close:
    """Assert that two values agree to a tolerance, and keep the largest difference under a name."""

    def check(name: str, mine: Tensor | float, other: Tensor | float, *, tolerance: float = 1e-12) -> None:
        ours, theirs = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (mine, other))
        _LARGEST[name] = max(_LARGEST.get(name, 0.0), (ours - theirs).abs().max().item())
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the largest difference of each comparison."""
    if _LARGEST:
        terminalreporter.section("largest differences")
    for name, difference in _LARGEST.items():
        terminalreporter.write_line(f"{name:<48} {difference:.1e}")
