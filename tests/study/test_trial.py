"""One attempt: measurements, then an outcome, whatever the training does."""

import errno
import fcntl
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from kge import checkpoint
from kge.catalog import load
from kge.data import SPLITS, Dataset
from kge.documents import parse_config
from kge.errors import DivergenceError
from kge.fitting import LAST
from kge.footprint import Sizes, predicted
from kge.memory import halved
from kge.models.distmult import DistMult
from study import trial
from study.errors import UserError, WorldError
from study.records import Assignment, FailureClass, Measurement, Outcome, TrialState
from study.trial import classify, one_line, run_attempt, same_dataset, sealed_dataset
from tests.kge.graphs import write_folder

CONFIG: dict[str, Any] = {
    "dataset": "synthetic",
    "seed": 1,
    "model": {"name": "complex", "dim": 8},
    "loss": {"name": "sce"},
    "training": {"max_epochs": 3, "batch_size": 1024},
    "validation": {"every": 1},
}
COMPLETE = Outcome(state=TrialState.COMPLETE, reason="max_epochs")


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    directory = str(tmp_path / "trial")
    return Assignment(
        folder=".", study="s", arm="complex.sce", stage="search", trial=4, attempt=0, config=CONFIG, directory=directory
    )


def failing(error: Exception) -> Any:
    def load(_: str) -> Dataset:
        raise error

    return load


def test_an_attempt_is_a_measurement_per_validation_and_then_its_outcome(assignment: Assignment) -> None:
    *measured, outcome = run_attempt(assignment)
    assert outcome == COMPLETE
    assert [each.epoch for each in measured if isinstance(each, Measurement)] == [1, 2, 3]
    for each in measured:
        assert isinstance(each, Measurement)
        assert (each.arm, each.trial, each.epochs) == ("complex.sce", 4, 1)
        assert each.device_seconds > 0
        assert 0 < each.mrr <= 1
        assert {"hits_at_10", "mrr_optimistic"} <= {name for name, _ in each.metrics}


def test_an_attempt_begins_with_the_rows_that_its_share_of_the_memory_has_room_for(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *whole, _ = run_attempt(replace(assignment, directory=str(tmp_path / "whole")), share=1.0)
    sizes, config = Sizes.of(sealed_dataset("synthetic")), parse_config(CONFIG)
    half = halved(config)
    assert half is not None
    needs = predicted(half, sizes).peak
    assert needs < predicted(config, sizes).peak, "else the case shows nothing"
    monkeypatch.setattr("study.trial.room", lambda device, *, share: share * 4 * needs)
    *measured, outcome = run_attempt(assignment, share=0.25)
    assert outcome == COMPLETE
    assert [each.mrr for each in measured] == pytest.approx([each.mrr for each in whole], rel=1e-3)
    trained = checkpoint.config_of(checkpoint.load(Path(assignment.directory) / LAST))
    assert (trained.training.sub_batch_size, trained.validation) == (half.training.sub_batch_size, half.validation)


def test_an_attempt_goes_on_where_the_last_was_closed(assignment: Assignment, tmp_path: Path) -> None:
    *whole, _ = run_attempt(replace(assignment, directory=str(tmp_path / "whole")))
    first = run_attempt(assignment)
    heard = [next(first), next(first)]
    first.close()
    again, *rest, outcome = run_attempt(replace(assignment, attempt=1))
    assert outcome == COMPLETE
    pieces = [*heard, *rest]
    assert [values(each) for each in pieces] == [values(each) for each in whole]
    assert values(again) == values(heard[-1]), "what was saved is told again: its listener may have died"


def test_a_damaged_checkpoint_is_set_aside_and_the_trial_trained_anew(assignment: Assignment, tmp_path: Path) -> None:
    *whole, _ = run_attempt(replace(assignment, directory=str(tmp_path / "whole")))
    first = run_attempt(assignment)
    next(first)
    first.close()
    last = Path(assignment.directory) / "last.pt"
    last.write_bytes(last.read_bytes()[:2000])
    *again, outcome = run_attempt(replace(assignment, attempt=1))
    assert outcome == COMPLETE
    assert [values(each) for each in again] == [values(each) for each in whole]
    assert last.with_suffix(".damaged").stat().st_size == 2000


def values(event: Measurement | Outcome) -> tuple[int, float, float, int]:
    assert isinstance(event, Measurement)
    return event.epoch, event.mrr, event.loss, event.epochs


def test_no_search_worker_holds_the_test_split() -> None:
    assert sealed_dataset("synthetic").test is None
    assert sealed_dataset("synthetic") is sealed_dataset("synthetic")


def test_a_node_without_the_data_set_or_with_another_one_is_at_fault(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(name: str, fingerprint: str) -> None:
        load = partial(sealed_dataset, fingerprint=fingerprint)
        list(run_attempt(replace(assignment, config={**CONFIG, "dataset": name}), dataset=load))

    monkeypatch.setattr(trial.socket, "gethostname", lambda: "node-7")
    with pytest.raises(WorldError, match=r"^node-7: unknown dataset 'nowhere/to/be/found': must be a folder or one of"):
        attempt("nowhere/to/be/found", "0" * 64)
    must = r"^node-7: data set 'synthetic': must be the one that the study began with \(fingerprint 000000000000\), got"
    with pytest.raises(WorldError, match=must):
        attempt("synthetic", "0" * 64)
    attempt("synthetic", load("synthetic").fingerprint)


def test_a_folder_that_was_moved_may_be_linked_to(tmp_path: Path) -> None:
    names = {split: [("a", "likes", "b")] for split in SPLITS}
    graph = write_folder(tmp_path / "graph", names)
    began = {"fingerprint": load(str(graph)).fingerprint}
    graph.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"^unknown dataset '.*/graph': .*; where it was moved, a link there to where"):
        same_dataset(str(graph), began)
    graph.symlink_to(tmp_path / "moved")
    assert same_dataset(str(graph), began).num_entities == 2


def test_a_node_without_the_checkpoint_to_start_from_is_at_fault(assignment: Assignment) -> None:
    config = {**CONFIG, "pretrain": {"checkpoint": "nowhere/best.pt"}}
    with pytest.raises(WorldError, match=r": pretrain\.checkpoint: must be a file, got nowhere/best\.pt$"):
        list(run_attempt(replace(assignment, config=config)))


def test_a_diverging_training_is_an_outcome(assignment: Assignment) -> None:
    optimizer = {"name": "adagrad", "lr": 1e38}
    *_, outcome = run_attempt(replace(assignment, config={**CONFIG, "optimizer": optimizer}))
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.failure) == (TrialState.FAIL, FailureClass.DIVERGENCE)
    assert outcome.reason.startswith("DivergenceError: ")


def test_a_broken_configuration_is_an_outcome(assignment: Assignment) -> None:
    [outcome] = run_attempt(replace(assignment, config={**CONFIG, "model": {"name": "complex", "dim": 7}}))
    assert isinstance(outcome, Outcome)
    assert outcome.failure is FailureClass.BUG
    assert "model.dim: must be even" in outcome.reason


BROKEN = {**CONFIG, "training": {"max_epochs": 9, "batch_size": 10**6}, "validation": {"every": 3}}  # a step an epoch


@pytest.mark.parametrize(("epochs", "used"), [(0, 0), (1, 2), (3, 1), (5, 3)])
def test_what_was_used_since_the_last_measurement_is_told_with_the_failure(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch, epochs: int, used: int
) -> None:
    """The epoch in which it broke counts; before the first, the model may not even stand."""
    monkeypatch.setattr("study.trial.rehearse", lambda *_, **__: None)
    steps = 0
    real = DistMult.tail_query

    def breaks(model: DistMult, *vectors: Any) -> Any:
        nonlocal steps
        if model.training:
            steps += 1
            if steps > epochs:
                raise ValueError("broken")
        return real(model, *vectors)

    monkeypatch.setattr(DistMult, "tail_query", breaks)
    config = {**BROKEN, "model": {"name": "distmult", "dim": 8}}
    *measured, outcome = run_attempt(replace(assignment, config=config))
    assert isinstance(outcome, Outcome)
    assert outcome.failure is FailureClass.BUG
    assert [each.epoch for each in measured if isinstance(each, Measurement)] == list(range(3, epochs + 1, 3))
    assert outcome.unmeasured.epochs == used
    assert outcome.unmeasured.device_seconds > 0


def test_a_failing_validation_is_charged_its_epochs_and_no_more(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kge.fitting.rank", lambda *_, **__: failing(ValueError("broken"))(""))
    [outcome] = run_attempt(replace(assignment, config=BROKEN))
    assert isinstance(outcome, Outcome)
    assert outcome.unmeasured.epochs == 3


def test_a_truncated_training_says_so(assignment: Assignment) -> None:
    config = {**CONFIG, "training": {"max_epochs": 3, "batch_size": 1024, "stop_epoch": 2}}
    *measured, outcome = run_attempt(replace(assignment, config=config))
    assert outcome == Outcome(state=TrialState.COMPLETE, reason="stop_epoch")
    assert len(measured) == 2


def test_an_unknown_error_is_a_bug_with_its_type_and_place(assignment: Assignment) -> None:
    [outcome] = run_attempt(assignment, dataset=failing(KeyError("nope")))
    assert isinstance(outcome, Outcome)
    assert outcome.failure is FailureClass.BUG
    assert outcome.reason.startswith("KeyError: 'nope' (test_trial.py:")


@pytest.mark.parametrize("error", [WorldError("the cluster"), OSError(errno.ENOSPC, "No space left on device")])
def test_the_worlds_failures_are_no_outcome_of_the_trial(assignment: Assignment, error: Exception) -> None:
    with pytest.raises(type(error)):
        list(run_attempt(assignment, dataset=failing(error)))


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DivergenceError("nan"), FailureClass.DIVERGENCE),
        (MemoryError(), FailureClass.MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), FailureClass.MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), FailureClass.MEMORY),
        (RuntimeError("shapes do not match"), FailureClass.BUG),
        (ValueError("x"), FailureClass.BUG),
    ],
)
def test_errors_are_classed(error: Exception, failure: FailureClass) -> None:
    assert classify(error) is failure


def test_torchs_own_refusal_of_memory_is_classed() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert classify(raised.value) is FailureClass.MEMORY


def test_an_error_is_one_line() -> None:
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(ValueError()) == "ValueError"


@pytest.fixture
def held(assignment: Assignment) -> Iterator[Path]:
    directory = Path(assignment.directory)
    directory.mkdir()
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def test_two_workers_never_share_a_trials_folder(
    assignment: Assignment, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LOCK_PATIENCE", 0.1)
    with pytest.raises(WorldError, match=f"{held}: must be free"):
        list(run_attempt(assignment))


def test_an_attempt_in_a_process_whose_gpu_is_broken_is_nobodys_fault(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_: str) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", answer)
    with pytest.raises(WorldError, match=r"^cuda: must answer, got: CUDA error: device-side assert triggered$"):
        next(run_attempt(assignment, device="cuda"))
