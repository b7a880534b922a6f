"""Folders that go with their process, and what is swept of those that stayed."""

import os
import time
from pathlib import Path

import pytest

from study.scratch import scratch_folder


def _aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_folder_goes_with_its_use(tmp_path: Path) -> None:
    with scratch_folder("x-", root=tmp_path) as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_locked", [True, False])
def test_what_nobody_holds_is_swept_after_a_while(tmp_path: Path, is_locked: bool) -> None:
    for name, age in (("x-old", 3600), ("x-new", 60), ("y-old", 3600)):
        (tmp_path / name / "session").mkdir(parents=True)
        if is_locked:
            (tmp_path / name / "lock").touch()
            _aged(tmp_path / name / "lock", age)
        _aged(tmp_path / name, age)
    with scratch_folder("x-", root=tmp_path) as folder:
        assert {each.name for each in tmp_path.iterdir()} == {"x-new", "y-old", folder.name}


def test_what_is_held_stays_however_old(tmp_path: Path) -> None:
    with scratch_folder("x-", root=tmp_path) as held:
        _aged(held / "lock", 3600)
        _aged(held, 3600)
        with scratch_folder("x-", root=tmp_path):
            assert held.is_dir()
