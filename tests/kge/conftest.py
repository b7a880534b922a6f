"""The `kge` command, run in a folder of its own."""

import sys
from pathlib import Path

import pytest

from tests.kge.command_line import CONFIG, Kge, Ran


@pytest.fixture
def kge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kge:
    """Run the command in an own folder that holds a graph and a configuration."""
    from kge import cli  # after the shapes of kge's functions are set to be checked
    from tests.kge import graphs
    from tests.kge.test_data import NAMES

    graphs.write_folder(tmp_path / "graph", NAMES)
    (tmp_path / "small.yaml").write_text(CONFIG.format(dataset="graph"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["kge", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, captured.out, captured.err)

    return run
