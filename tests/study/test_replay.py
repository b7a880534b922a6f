"""`study replay` through the front door: real trainings, recorded by real works, trained again from their record.

The study's attempts run one after the other in this process. Its budget of epochs cuts the last trial of `sce`
short, so that it ends off its validation interval; `sans-pre` starts from the tables of the best `sce`.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kge.catalog import load
from kge.fitting import BEST, fit
from study.records import Continuation, FailureClass, Measurement, Outcome, TrialState
from study.replay import Judgement, Recorded, judge, recorded_trial
from study.store import Store
from study.trial import run_attempt
from study.work import Work
from tests.kge import graphs
from tests.study import records_factory as factory
from tests.study.test_plan_cli import Captured, study
from tests.study.toy_study import Toy

ARMS = ("losses: [sce, ns]", "losses: [sce, {name: sans, label: sans-pre, pretrain: sce}]")
BUDGET = ("budget: {trials: 2}", "budget: {epochs: 7}")
EPOCHS = ("training.max_epochs: 3", "training.max_epochs: 4")
EVERY = ("validation.every: 1", "validation.every: 2, training.batch_size: 1024")


class Trained(Toy):
    """A toy whose attempts are trainings."""

    def _execute(self, work: Work, until: int) -> int:
        while (assignment := work.next()) is not None:
            with closing(run_attempt(assignment)) as events:
                for event in events:
                    if isinstance(event, Outcome):
                        work.ended(assignment, event)
                    elif not work.measured(assignment, event):
                        break
        return until


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = Trained(tmp_path_factory.mktemp("home"))
    toy.launch(ARMS, BUDGET, EPOCHS, EVERY)
    toy.go_on()
    return toy


@pytest.fixture
def replay(trained: Toy, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> "Replay":
    return Replay(trained, monkeypatch, capsys)


class Replay:
    def __init__(self, toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        self.toy, self._monkeypatch, self._capsys = toy, monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, list[str]]:
        """The exit code, and the lines that were said."""
        code = study(self._monkeypatch, "replay", "toy", *arguments, "--home", str(self.toy.home))
        said = self._capsys.readouterr()
        return code, (said.out + said.err).splitlines()


@pytest.fixture
def changed(trained: Toy) -> Iterator[None]:
    """The database with one recorded validation MRR that is .01 higher."""
    where = "arm = 'complex.sce' AND trial = 0 AND epoch = 4 AND stage = 'search'"
    for change in ("+ 0.01", "- 0.01"):
        with closing(sqlite3.connect(trained.folder / "study.db")) as database, database:
            database.execute(f"UPDATE kge_charges SET mrr = mrr {change} WHERE {where}")
        if change.startswith("+"):
            yield


def test_every_trial_and_replicate_comes_out_to_the_last_bit(replay: Replay) -> None:
    record = replay.toy.record()
    truncated = [trial for trial in record.trials if trial.is_truncated]
    assert [trial.curve[-1].epoch for trial in truncated if trial.arm == "complex.sce"] == [3]
    for trial in record.trials:
        code, said = replay(f"{trial.arm}/{trial.number}")
        assert (code, said[-1][:13]) == (0, "holds exactly"), said
        assert said[1:-1] == [f"epoch {m.epoch}: mrr {m.mrr:.6f}, recorded {m.mrr:.6f}" for m in trial.curve]
    for each in record.replicate_records:
        code, said = replay(f"{each.arm}/{each.index}", "--replicate")
        assert (code, said[-1]) == (0, f"holds exactly: {len(said) - 2} validations, the same to the last bit"), said


def test_nothing_is_written_to_the_study(replay: Replay) -> None:
    def content() -> tuple[list[str], list[Path]]:
        with closing(sqlite3.connect(replay.toy.folder / "study.db")) as database:
            return list(database.iterdump()), sorted(replay.toy.home.rglob("*"))

    before = content()
    assert replay("complex.sans-pre/0")[0] == 0
    assert content() == before


@pytest.mark.usefixtures("changed")
def test_another_number_does_not_hold_unless_the_tolerance_says_so(replay: Replay) -> None:
    far = "the largest difference of validation MRR is 0.01, at epoch 4, that of the best 0.01"
    code, said = replay("complex.sce/0")
    assert (code, said[-1]) == (1, f"does not hold within 0.001: {far}")
    code, said = replay("complex.sce/0", "--tolerance", "0.02")
    assert (code, said[-1]) == (0, f"holds within 0.02: {far}")


def test_what_is_not_there_is_refused(replay: Replay) -> None:
    names = "known: complex.sce, complex.sans-pre; did you mean 'complex.sce'?"
    for named, sentence in {
        "complex.sce": "trial: must be ARM/NUMBER, got 'complex.sce'",
        "complex.scee/0": f"trial: unknown arm 'complex.scee' ({names})",
        "complex.sce/9": "trial: must be one of the 2 trials of complex.sce, counted from 0, got 9",
    }.items():
        assert replay(named) == (2, [f"error: {sentence}"])
    code, said = replay("complex.sce/7", "--replicate")
    assert (code, said) == (2, ["error: replicate: must be one of complex.sce's (known: 0, 1), got 7"])


@pytest.mark.parametrize(
    ("arguments", "start", "whose", "training"),
    [
        (("complex.sans-pre/0",), "trials", "trial", "trial complex.sans-pre/0"),
        (("complex.sans-pre/1", "--replicate"), "replicates", "replicate", "replicate complex.sans-pre/1"),
    ],
)
def test_a_checkpoint_that_is_gone_is_named(
    replay: Replay, arguments: tuple[str, ...], start: str, whose: str, training: str
) -> None:
    record = replay.toy.record()
    source = next(trial.source for trial in record.trials if trial.arm == "complex.sans-pre")
    number = source if start == "trials" else 1
    file = replay.toy.folder / start / "complex.sce" / str(number) / BEST
    away = file.rename(file.with_name("away"))
    try:
        code, said = replay(*arguments)
    finally:
        away.rename(file)
    must = f"must be the best checkpoint of {whose} {number} of complex.sce, from which {training} started"
    assert (code, said) == (2, [f"error: {file}: {must}, but it does not exist"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(replay: Replay) -> None:
    code, said = replay("complex.sce/0", "--device", "cuda")
    assert code == 2
    assert said[0].startswith("error: device: must be on this machine, got 'cuda'")


def test_a_training_is_repeated_with_the_threads_and_against_the_programs_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    toy = Trained(tmp_path)
    one, three = (("seed: 7", f"seed: 7\nresources: {{cpus_per_trial: {cpus}}}") for cpus in (1, 3))
    toy.launch(one)
    toy.go_on()
    toy.write(three, ("trials: 2", "trials: 3"))
    with closing(Store(toy.database)) as store:
        newer = {**toy.record().environment, "torch": "9.0"}
        store.record_continuation("toy", Continuation(number=1, environment=newer, time=time.time()))
    toy.go_on(amend=True, reopen=True)
    replay, before = Replay(toy, monkeypatch, capsys), torch.get_num_threads()
    assert replay("complex.sce/1")[1][0].endswith("on cpu (threads: 1), as far as the record goes")
    _, said = replay("complex.sce/2")
    assert said[0].endswith("on cpu (threads: 3), as far as the record goes")
    assert said[1].startswith("torch: 9.0 then, ")
    torch.set_num_threads(before)


def test_a_trial_that_diverged_must_diverge_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    toy = Trained(tmp_path)
    toy.launch(("fixed: {", "fixed: {optimizer.lr: 1.0e+30, "), ("losses: [sce, ns]", "losses: [sce]"))
    toy.go_on()
    assert {trial.failure for trial in toy.record().trials} == {FailureClass.DIVERGENCE}
    code, said = Replay(toy, monkeypatch, capsys)("complex.sce/0")
    assert (code, said[-1].partition(": ")[0]) == (0, "holds exactly"), said
    assert said[-1].endswith("and it breaks by divergence again")


# ---- what cannot be replayed, and verdicts that a CPU does not give


def test_a_draw_that_was_refused_is_refused_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    schedules = "spaces:\n  schedule.name: {choices: [plateau, none, cosine]}\n  schedule.cooldown: {choices: [2, 0]}"
    toy = Toy(tmp_path)
    toy.launch(("budget: {trials: 2}", f"budget: {{trials: 12}}\n{schedules}"))
    toy.go_on()
    refused = next(trial for trial in toy.record().trials if trial.failure is FailureClass.BUG)
    named = f"{refused.arm}/{refused.number}"
    code, said = Replay(toy, monkeypatch, capsys)(named)
    must = f"trial: must be one that can train, {named} is refused as it was drawn"
    why = refused.reason.removeprefix("ConfigError: ").partition(" (")[0]
    assert (code, said) == (2, [f"error: {must}: {why}"])


def test_a_checkpoint_to_start_from_must_be_the_file_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    start = tmp_path / "start.pt"
    config = graphs.config({"training.max_epochs": 1, "training.batch_size": 512}, name="synthetic")
    list(fit(config, load("synthetic"), directory=tmp_path / "first"))
    (tmp_path / "first" / BEST).rename(start)
    toy = Trained(tmp_path)
    losses = f"losses: [{{name: sce, pretrain: {{checkpoint: {start}}}}}]"
    toy.launch(("losses: [sce, ns]", losses), ("model.dim: 32", "model.dim: 8"))
    toy.go_on()
    replay = Replay(toy, monkeypatch, capsys)
    assert replay("complex.sce/0")[0] == 0
    start.write_bytes(start.read_bytes()[:-1])
    code, said = replay("complex.sce/0")
    assert (code, "must be the file that the arm began with" in said[-1]) == (2, True), said


def test_a_trial_must_have_ended_and_been_validated() -> None:
    from study.errors import UserError

    with pytest.raises(UserError, match=r"must have ended, complex\.sce/3 is running"):
        recorded_trial(factory.running(), "complex.sce/3")
    with pytest.raises(UserError, match=r"must have been validated, complex\.sans/2 was not"):
        recorded_trial(factory.finished(), "complex.sans/2")


CURVE = factory.curve(factory.arm("complex", "sce"), 0, started=0.0, epochs=4, of=4)
RECORDED = Recorded(name="", arm="complex.sce", number=0, config={}, curve=CURVE, started=0.0, failure=None)
DONE = Outcome(state=TrialState.COMPLETE)


def moved(by: float, curve: tuple[Measurement, ...] = CURVE) -> list[Measurement | Outcome]:
    return [replace(each, mrr=each.mrr + by) for each in curve]


def judged(events: list[Measurement | Outcome], recorded: Recorded = RECORDED) -> Judgement:
    return judge(recorded, events, tolerance=1e-3)


def test_a_replay_that_ends_by_its_own_curve_is_compared_as_far_as_it_goes() -> None:
    near = judged([*moved(1e-4, CURVE[:3]), DONE])
    assert near.holds
    assert near.sentence.endswith("its own curve ended the replay after epoch 3 of 4")
    far = judged([*moved(1e-4, CURVE[:1]), DONE])
    assert not far.holds, "the best of the record is not among what was compared"
    assert not judged([DONE]).holds


def test_a_replay_that_breaks_holds_nothing() -> None:
    broken = Outcome(state=TrialState.FAIL, failure=FailureClass.MEMORY, reason="out of memory")
    found = judged([*CURVE[:2], broken])
    assert (found.holds, found.sentence) == (
        False,
        "does not hold: the replay broke before epoch 3: out of memory",
    )
    diverged = replace(RECORDED, failure=FailureClass.DIVERGENCE)
    assert judged([*CURVE, DONE], diverged).sentence == "does not hold: it broke by divergence and now not at all"


def test_a_loss_that_differs_is_not_exact() -> None:
    other = [replace(each, loss=each.loss + 1e-9) for each in CURVE]
    found = judged([*other])
    assert found.holds
    assert found.sentence.startswith("holds within 0.001: the largest difference of validation MRR is 0,")
