"""One training from configuration to checkpoints: resuming exactly, stopping, refusing what does not fit."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from kge import checkpoint
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.errors import CheckpointError, DataError, DivergenceError
from kge.evaluation import rank
from kge.filters import filter_from
from kge.fitting import BEST, LAST, Validation, evaluate_split, fit, fit_by_epoch, load_model, read_curve
from kge.metrics import metrics
from tests.kge import graphs

GRAPH = graphs.random_graph()
DROPOUT = {"model.dropout": {"entity": 0.3, "relation": 0.2, "query": 0.1}}
PLATEAU = {"schedule": {"name": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.2}}
LONG: dict[str, object] = {"training.max_epochs": 6, "early_stopping.patience": None} | DROPOUT | PLATEAU
CASES = [
    pytest.param("transe", "sans", {"optimizer": {"name": "adam", "lr": 0.01}}, id="negative_sampling-adam"),
    pytest.param("complex", "sce_ls", {"optimizer": {"name": "adagrad", "lr": 0.1}}, id="one_vs_all-adagrad"),
    pytest.param("rotate", "ns_freq", {"loss.noise": "sampled", "negatives.filtered": True}, id="sampled-filtered"),
    pytest.param("distmult", "sce_bc", {"training.precision": "bfloat16", "model.reciprocal": True}, id="bfloat16"),
    pytest.param("tucker", "sce", {"optimizer": {"name": "adam", "lr": 0.01}, "validation.every": 4}, id="every-4"),
    pytest.param(
        "conve",
        "sce",
        {"optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "cosine", "warmup": 2}},
        id="batch-norm-cosine",
    ),
    pytest.param("distmult", "sce", {"schedule": {"name": "plateau", "patience": 0, "cooldown": 3}}, id="cooldown"),
    pytest.param(
        "complex",
        "sce_ls",
        {"training.type": "k_vs_all", "auxiliary.relation_weight": 0.5, "regularizer": {"name": "n3", "weight": 0.1}},
        id="k_vs_all",
    ),
    pytest.param(
        "simple",
        "tans",
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "relation_factor": 0.5, "max_norm": 1.0}},
        id="tans-sgd",
    ),
]


def _curve(validations: Iterator[Validation]) -> list[Validation]:
    """What decides the future, without the clock."""
    return [dataclasses.replace(each, device_seconds=0.0) for each in validations if not each.replayed]


def _one_at_a_time(config: TrainingConfig, directory: Path) -> Iterator[Validation]:
    """Abandon the training after each validation, and begin anew from its directory."""
    stop = None
    while stop is None:
        with closing(fit(config, GRAPH, directory=directory)) as validations:
            for validation in validations:
                stop = validation.stop
                if not validation.replayed:
                    yield validation
                    break


def _tensors(content: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(content, torch.Tensor):
        yield path, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{path}.{key}")


def _assert_same_file(one: Path, other: Path) -> None:
    mine, theirs = (dict(_tensors(checkpoint.load(path))) for path in (one, other))
    assert mine.keys() == theirs.keys()
    assert mine
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize(("model", "loss", "paths"), CASES)
def test_a_training_resumes_bit_by_bit(model: str, loss: str, paths: dict[str, object], tmp_path: Path) -> None:
    config = graphs.config(LONG | paths, model=model, loss=loss)
    straight = _curve(fit(config, GRAPH, directory=tmp_path / "straight"))
    pieces = _curve(_one_at_a_time(config, tmp_path / "pieces"))
    assert pieces == straight
    assert straight[-1].epoch == 6
    assert len({each.lr for each in straight}) > 1 or config.validation.every > 1  # the plateau was felt
    for name in (LAST, BEST):
        _assert_same_file(tmp_path / "straight" / name, tmp_path / "pieces" / name)
    assert _curve(iter(read_curve(tmp_path / "pieces" / LAST))) == straight


def test_a_directory_changes_nothing(tmp_path: Path) -> None:
    config = graphs.config(LONG, loss="sans")
    assert _curve(fit(config, GRAPH, directory=None)) == _curve(fit(config, GRAPH, directory=tmp_path))


def test_another_seed_gives_another_curve() -> None:
    one, other = (_curve(fit(graphs.config(LONG | {"seed": seed}), GRAPH, directory=None)) for seed in (0, 1))
    assert [each.loss for each in one] != [each.loss for each in other]


def test_resuming_first_repeats_the_last_validation(tmp_path: Path) -> None:
    config = graphs.config(LONG)
    with closing(fit(config, GRAPH, directory=tmp_path)) as validations:
        next(validations)
        second = next(validations)
    again = next(fit(config, GRAPH, directory=tmp_path))
    assert again == dataclasses.replace(second, replayed=True)


def test_a_finished_training_only_repeats_its_end(tmp_path: Path) -> None:
    config = graphs.config(LONG)
    *_, last = fit(config, GRAPH, directory=tmp_path)
    before = (tmp_path / LAST).read_bytes()
    assert last.stop == "max_epochs"
    assert list(fit(config, GRAPH, directory=tmp_path)) == [dataclasses.replace(last, replayed=True)]
    assert (tmp_path / LAST).read_bytes() == before


def test_epochs_between_validations_and_a_last_one_at_the_end() -> None:
    curve = list(fit(graphs.config(LONG | {"validation.every": 4}), GRAPH, directory=None))
    assert [(each.epoch, each.epochs) for each in curve] == [(4, 4), (6, 2)]
    assert [each.stop for each in curve] == [None, "max_epochs"]
    assert all(each.device_seconds > 0 for each in curve)


def test_a_training_that_stops_early_by_order_is_the_beginning_of_the_whole_one(tmp_path: Path) -> None:
    cosine = LONG | {"schedule": {"name": "cosine"}, "validation.every": 4}
    ordered = list(fit(graphs.config(cosine | {"training.stop_epoch": 5}), GRAPH, directory=tmp_path))
    assert [(each.epoch, each.epochs, each.stop) for each in ordered] == [(4, 4, None), (5, 1, "stop_epoch")]
    whole = list(fit(graphs.config(cosine), GRAPH, directory=None))
    assert ordered[0].mrr == whole[0].mrr
    replayed, last = fit(graphs.config(cosine), GRAPH, directory=tmp_path)
    assert (replayed.epoch, replayed.stop) == (5, None)
    assert (last.epoch, last.mrr, last.loss, last.stop) == (6, whole[1].mrr, whole[1].loss, "max_epochs")


def test_its_own_curve_or_end_comes_before_the_order_to_stop() -> None:
    late = {"training.stop_epoch": 9, "training.max_epochs": 3}
    assert list(fit(graphs.config(LONG | late), GRAPH, directory=None))[-1].stop == "max_epochs"
    floor = {"early_stopping": {"patience": None, "floor_epoch": 2, "floor_mrr": 0.99}, "training.stop_epoch": 2}
    assert list(fit(graphs.config(LONG | floor), GRAPH, directory=None))[-1].stop == "early_stopping"


def test_every_epoch_is_told_before_its_validation() -> None:
    config = graphs.config(LONG | {"validation.every": 4})
    events = fit_by_epoch(config, GRAPH, directory=None)
    told = [(type(each).__name__, each.epoch) for each in events]
    epochs = [("EpochReport", epoch) for epoch in range(1, 7)]
    assert told == [*epochs[:4], ("Validation", 4), *epochs[4:], ("Validation", 6)]


def test_more_epochs_may_be_asked_for_later(tmp_path: Path) -> None:
    short, long = (graphs.config(LONG | {"training.max_epochs": epochs}) for epochs in (3, 6))
    first = _curve(fit(short, GRAPH, directory=tmp_path))
    replayed, *rest = fit(long, GRAPH, directory=tmp_path)
    assert (replayed.epoch, replayed.replayed, replayed.stop) == (3, True, None)
    straight = _curve(fit(long, GRAPH, directory=None))
    assert [dataclasses.replace(each, stop=None) for each in first] + _curve(iter(rest)) == straight


def test_early_stopping_ends_a_training_and_holds_when_it_resumes(tmp_path: Path) -> None:
    paths = {"training.max_epochs": 50, "early_stopping.patience": 2, "optimizer.lr": 5.0}
    config = graphs.config(paths)
    curve = list(fit(config, GRAPH, directory=tmp_path))
    assert curve[-1].stop == "early_stopping"
    assert curve[-1].epoch == curve[-1].best_epoch + 2
    assert curve[-1].epoch < 50
    assert [each.stop for each in curve[:-1]] == [None] * (len(curve) - 1)
    assert [each.stop for each in fit(config, GRAPH, directory=tmp_path)] == ["early_stopping"]


@pytest.mark.parametrize("floor_epoch", [1, 3, 4, 5])
def test_the_floor_ends_a_training_at_a_validation(floor_epoch: int) -> None:
    rule = {"patience": None, "floor_epoch": floor_epoch, "floor_mrr": 0.99}
    paths = {"training.max_epochs": 20, "validation.every": 4, "early_stopping": rule}
    curve = list(fit(graphs.config(paths), GRAPH, directory=None))
    assert [each.epoch for each in curve] == ([4] if floor_epoch <= 4 else [4, 8])
    assert curve[-1].stop == "early_stopping"


def test_best_holds_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    config = graphs.config(LONG | {"optimizer.lr": 1.5, "training.max_epochs": 12})
    curve = list(fit(config, GRAPH, directory=tmp_path))
    best = max(curve, key=lambda each: each.mrr)
    last = curve[-1]
    assert (last.best_mrr, last.best_epoch) == (best.mrr, best.epoch)
    assert best.epoch < last.epoch
    until = graphs.config(LONG | {"optimizer.lr": 1.5, "training.max_epochs": best.epoch})
    list(fit(until, GRAPH, directory=tmp_path / "until"))
    assert torch.equal(
        load_model(tmp_path / BEST, GRAPH)[0].entities, load_model(tmp_path / "until" / LAST, GRAPH)[0].entities
    )
    for path, each in ((tmp_path / BEST, best), (tmp_path / LAST, last)):
        evaluation = evaluate_split(path, GRAPH, split="valid", filter_splits=("train", "valid"))
        assert evaluation.metrics == each.metrics
        assert evaluation.metrics["mrr"] == each.mrr


def test_evaluation_filters_by_the_splits_that_are_asked_for(tmp_path: Path) -> None:
    config = graphs.config()
    list(fit(config, GRAPH.sealed(), directory=tmp_path))
    model, loaded = load_model(tmp_path / BEST, GRAPH)
    assert loaded == config
    assert not model.training
    found = {}
    for splits in (("train", "valid"), ("train", "valid", "test")):
        expected = rank(model, GRAPH.split("test"), filter_from(GRAPH, splits), block_size=7)
        found[splits] = evaluate_split(tmp_path / BEST, GRAPH, split="test", filter_splits=splits).metrics
        assert found[splits] == metrics(expected)
    assert len({each["mrr"] for each in found.values()}) == 2


def test_a_sealed_graph_trains_and_never_yields_test(tmp_path: Path) -> None:
    config = graphs.config()
    sealed = _curve(fit(config, GRAPH.sealed(), directory=tmp_path))
    assert sealed == _curve(fit(config, GRAPH, directory=None))
    changed = dataclasses.replace(GRAPH, test=GRAPH.split("test")[:1])
    assert sealed == _curve(fit(config, changed, directory=None))
    for split, filters in (("test", ("train",)), ("valid", ("train", "valid", "test"))):
        with pytest.raises(DataError, match="the test split is sealed"):
            evaluate_split(tmp_path / BEST, GRAPH.sealed(), split=split, filter_splits=filters)


def test_a_training_may_be_given_a_cooldown_until_it_begins(tmp_path: Path) -> None:
    plain = LONG | {"training.max_epochs": 3}
    cooled = LONG | {"schedule.cooldown": 3, "training.max_epochs": 6}
    list(fit(graphs.config(plain), GRAPH, directory=tmp_path))
    *_, last = _curve(fit(graphs.config(cooled | {"training.stop_epoch": 4}), GRAPH, directory=tmp_path))
    *_, straight = _curve(fit(graphs.config(cooled), GRAPH, directory=None))
    assert straight.lr < last.lr
    for other in (plain, cooled | {"training.max_epochs": 7}, cooled | {"schedule.cooldown": 2}):
        with pytest.raises(CheckpointError, match=r"(cooldown|max_epochs) is \d there and \d here"):
            list(fit(graphs.config(other), GRAPH, directory=tmp_path))
    assert _curve(fit(graphs.config(cooled), GRAPH, directory=tmp_path))[-1] == straight


def test_a_training_that_stopped_early_goes_on_with_more_patience(tmp_path: Path) -> None:
    paths = {"training.max_epochs": 50, "optimizer.lr": 5.0, "early_stopping.patience": 2}
    *_, stopped = fit(graphs.config(paths), GRAPH, directory=tmp_path)
    assert stopped.stop == "early_stopping"
    paths |= {"early_stopping.patience": 4, "training.stop_epoch": stopped.epoch + 1}
    *_, last = fit(graphs.config(paths), GRAPH, directory=tmp_path)
    assert (last.epoch, last.stop) == (stopped.epoch + 1, "stop_epoch")


def test_a_directory_of_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    list(fit(graphs.config(), GRAPH, directory=tmp_path))
    other = graphs.config({"optimizer.lr": 0.2, "loss.name": "sce_ls", "training.max_epochs": 9})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError) as caught:
        list(fit(other, GRAPH, directory=tmp_path))
    sentence = str(caught.value)
    assert sentence.startswith(f"{tmp_path / LAST}: must be of the same configuration; ")
    assert "optimizer.lr is 0.1 there and 0.2 here" in sentence
    assert "loss.name is 'sce' there and 'sce_ls' here" in sentence
    assert "max_epochs" not in sentence
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_directory_of_another_graph_is_refused(tmp_path: Path) -> None:
    list(fit(graphs.config(), GRAPH, directory=tmp_path))
    other = graphs.ring()
    for call in (
        lambda: list(fit(graphs.config(), other, directory=tmp_path)),
        lambda: load_model(tmp_path / BEST, other),
        lambda: evaluate_split(tmp_path / BEST, other, split="valid", filter_splits=("train",)),
    ):
        with pytest.raises(CheckpointError, match=rf"must be of data set {other.fingerprint[:12]} \(toy\), got"):
            call()


def test_the_best_model_is_no_training_to_go_on_with(tmp_path: Path) -> None:
    list(fit(graphs.config(), GRAPH, directory=tmp_path))
    (tmp_path / BEST).replace(tmp_path / LAST)
    with pytest.raises(
        CheckpointError, match=r"last\.pt: must hold a training to go on with, got the best model alone$"
    ):
        list(fit(graphs.config(), GRAPH, directory=tmp_path))


def test_divergence_leaves_the_checkpoint_of_the_last_validation(tmp_path: Path) -> None:
    paths = {"optimizer": {"name": "adam", "lr": 1e38}, "training.max_epochs": 5}
    with pytest.raises(DivergenceError):
        list(fit(graphs.config(paths), GRAPH, directory=tmp_path / "never"))
    assert not (tmp_path / "never" / LAST).exists()

    config = graphs.config({"training.max_epochs": 5})
    with closing(fit(config, GRAPH, directory=tmp_path)) as validations:
        kept = next(validations)
    content = checkpoint.load(tmp_path / LAST)
    content["training"]["model"]["entities"][0, 0] = float("nan")
    checkpoint.save(tmp_path / LAST, {name: content[name] for name in ("fingerprint", "curve", "training")}, config)
    with pytest.raises(DivergenceError, match="the loss of epoch 2 is nan"):
        list(fit(config, GRAPH, directory=tmp_path))
    assert [each.epoch for each in read_curve(tmp_path / LAST)] == [kept.epoch]


_KILLED_WRITE = """
import os, signal, stat
from pathlib import Path
from kge import files
from kge.fitting import fit
from tests.kge import graphs
from tests.kge.test_fitting import GRAPH, LONG
folder, fatal = Path({folder!r}), {fatal}
writes = 0
def fsync(descriptor, real=os.fsync):
    global writes
    writes += stat.S_ISREG(os.fstat(descriptor).st_mode)  # folders are flushed, too
    if writes == fatal:
        os.truncate(descriptor, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
files.os.fsync = fsync
for _ in fit(graphs.config(LONG), GRAPH, directory=folder):
    pass
"""


@pytest.mark.parametrize("fatal", [2, 4])  # the first best.pt after its last.pt; what epoch 2 brings
def test_a_killed_write_leaves_the_old_checkpoint(fatal: int, tmp_path: Path) -> None:
    script = _KILLED_WRITE.format(folder=str(tmp_path), fatal=fatal)
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    killed = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    half_written = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(half_written) == 1
    whole = [path for path in (tmp_path / LAST, tmp_path / BEST) if path.exists()]
    assert all(read_curve(path) for path in whole)
    assert len(whole) == min(fatal - 1, 2)
    config = graphs.config(LONG)
    events = fit(config, GRAPH, directory=tmp_path)
    best = next(events).best_epoch
    assert read_curve(tmp_path / BEST)[-1].epoch == best, "made of last.pt where the crash came before it"
    assert list(events)
    assert _curve(iter(read_curve(tmp_path / LAST))) == _curve(fit(config, GRAPH, directory=None))


def test_a_graph_is_not_changed_by_training() -> None:
    before: list[Any] = [GRAPH.train.clone(), GRAPH.valid.clone()]
    list(fit(graphs.config(LONG), GRAPH, directory=None))
    assert torch.equal(GRAPH.train, before[0])
    assert torch.equal(GRAPH.valid, before[1])
    assert isinstance(GRAPH, Dataset)
