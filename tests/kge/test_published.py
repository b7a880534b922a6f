"""Every published setting constructs, trains one epoch and is validated: the shapes and options all go together."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import published
from kge.config import TrainingConfig
from kge.documents import parse_config, read
from kge.fitting import fit
from tests.kge import graphs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "studies" / "published"
SETTINGS = ROOT.parent / "shared" / "spec" / "settings.json"
GRAPH = graphs.random_graph()
FILES = sorted(FOLDER.glob("*.yaml"))


def load(file: Path) -> TrainingConfig:
    document = read(file)
    return parse_config(document.data, document.where)


def test_all_are_here() -> None:
    assert len(FILES) == 52
    models, datasets = ({load(file).model.name for file in FILES}, {load(file).dataset for file in FILES})
    assert models == {"rescal", "tucker", "distmult", "complex", "transe", "rotate"}
    assert datasets == {"fb15k-237", "wn18rr"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_published_setting_trains_one_epoch(file: Path) -> None:
    config = load(file)
    short = replace(config, training=replace(config.training, max_epochs=1))
    [validation] = fit(short, GRAPH, directory=None)
    assert math.isfinite(validation.loss)
    assert 0 < validation.mrr <= 1


@pytest.mark.skipif(not SETTINGS.is_file(), reason="the published settings are not beside this checkout")
def test_the_files_are_what_the_published_settings_are_converted_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["published", str(SETTINGS), str(tmp_path)])
    published.main()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        each.name: each.read_text() for each in FILES
    }
