"""Where a study's commands are told to write: what is no place is refused before any work is done."""

from pathlib import Path

import pytest

from study.runner import Cluster
from tests.study.study_files import VALID, write
from tests.study.test_plan_cli import Captured, study


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a study file and a file that is taken for a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KGE_STUDY_HOME", raising=False)
    (tmp_path / "afile").touch()
    write(tmp_path, VALID)
    return tmp_path


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_home_is_refused_before_ray_starts(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, by_variable: bool
) -> None:
    monkeypatch.setattr(Cluster, "connect", lambda _: pytest.fail("Ray is started"))
    home = ("--home", "afile/sub")
    if by_variable:
        monkeypatch.setenv("KGE_STUDY_HOME", home[1])
    assert study(monkeypatch, "run", "small.yaml", *(() if by_variable else home)) == 2
    said = f"error: --home: must be a folder that can be written, got {here / 'afile' / 'sub'}\n"
    assert capsys.readouterr() == ("", said)


def test_a_file_in_the_place_of_the_study_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(Cluster, "connect", lambda _: pytest.fail("Ray is started"))
    assert study(monkeypatch, "run", "small.yaml", "--home", ".", "--name", "afile") == 2
    said = f"error: folder of the study: must be a folder that can be written, got {here / 'afile'}\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("run",), "--name: must be up to 100 letters, digits, ., _ and -, the first a letter or a digit, got ''"),
        (
            ("submit", "--address", "http://127.0.0.1:9"),
            "--name: must be up to 100 letters, digits, ., _ and -, the first a letter or a digit, got ''",
        ),
        (("resume",), "study name: must be the name of a folder, got ''"),
    ],
)
@pytest.mark.usefixtures("here")
def test_no_name_is_not_the_files_own(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, command: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.setattr(Cluster, "connect", lambda _: pytest.fail("Ray is started"))
    assert study(monkeypatch, *command, "small.yaml", "--name", "") == 2
    assert capsys.readouterr() == ("", f"error: {sentence}\n")


@pytest.mark.parametrize("place", ["small/study.db/x", "/proc/x"])
def test_a_report_goes_to_a_folder(
    home_of_small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, place: str
) -> None:
    out = home_of_small / place
    assert study(monkeypatch, "report", "small", "--home", str(home_of_small), "--out", str(out)) == 2
    assert capsys.readouterr() == ("", f"error: --out: must be a folder that can be written, got {out}\n")


@pytest.mark.usefixtures("here")
def test_prices_go_to_a_file_of_a_folder(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert study(monkeypatch, "plan", "small.yaml", "--prices", "afile/x.json", "--measure", "cpu") == 2
    said = "error: --prices: must be a file in a folder that can be written, got afile/x.json\n"
    assert capsys.readouterr() == ("", said)
    assert study(monkeypatch, "plan", "small.yaml", "--prices", "afile/x.json") == 2
    said = "error: afile/x.json: must be a file of prices (study plan --measure writes one), there is none\n"
    assert capsys.readouterr() == ("", said)
