"""A few of the moments of `make test-crash`, for the slow tests."""

from pathlib import Path

import pytest

from tests.crash import moments, serial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # five drivers start Ray, and a machine may be busy


def test_a_study_that_was_killed_three_times_is_the_undisturbed_one(tmp_path: Path) -> None:
    through = (moments.TRAINING[2], moments.COMPLETION[1], moments.SELECTION[1])
    rows = list(serial.killed(tmp_path, serial.FILE.format(name="few", budget="trials: 4"), through))
    assert [row.problems for row in rows] == [()] * 5
