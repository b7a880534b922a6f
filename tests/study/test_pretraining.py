"""Arms that start from another arm's best trial or from a checkpoint: when, from what, and at whose cost."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kge import checkpoint
from kge.catalog import load
from kge.checkpoint import config_of
from kge.documents import parse_config
from kge.fitting import fit
from kge.joining import join_models
from study import attempts, report
from study.budget import Ledger, Stake
from study.config import load_study, parse_study
from study.errors import StudyFileError, UserError
from study.plan import plan_lines
from study.pretraining import generations
from study.records import (
    WORKERS_LOST,
    Arm,
    Assignment,
    Cost,
    FailureClass,
    Outcome,
    StudyRecord,
    TrialRecord,
    TrialState,
)
from study.report import fairness
from study.space import Space, compose_all
from study.status import status_lines
from study.timeline import timeline
from study.trial import cost_of_checkpoint, same_starts
from tests.study import records_factory, toy_study
from tests.study.front_door import Home
from tests.study.toy_study import FILE, NS, SCE, Toy

PRE = "complex.pre"
LOSSES = ("losses: [sce, ns]", "losses: [{name: ns, label: pre, pretrain: sce}, sce, ns]")
THREE = ("trials: 2", "trials: 3")
EPOCHS = ("trials: 2", "epochs: 11")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def trials_of(record: StudyRecord, arm: str) -> list[TrialRecord]:
    return [trial for trial in record.trials if trial.arm == arm]


def best_of(record: StudyRecord, arm: str) -> TrialRecord:
    return max(trials_of(record, arm), key=lambda trial: (trial.best_mrr or 0, -trial.number))


def starts(toy: Toy, arm: str, stage: str) -> list[str]:
    """What the trainings of an arm started from, in the order of their issue."""
    issued = [each for each in toy.issued if (each.arm, each.stage) == (arm, stage)]
    return [pretrain_of(each) for each in issued]


def pretrain_of(assignment: Assignment) -> Any:
    pretrain = assignment.config["pretrain"]
    assert isinstance(pretrain, dict)
    return pretrain["checkpoint"]


def table(record: StudyRecord) -> list[Any]:
    return [(t.arm, t.number, t.params, t.seed, t.state, t.source, t.cost, t.pretraining) for t in record.trials]


def test_an_arm_starts_from_the_best_trial_of_its_source_and_pays_for_it(toy: Toy) -> None:
    toy.launch(LOSSES, THREE)
    toy.go_on()
    record = toy.record()
    best, [first, second] = best_of(record, SCE), trials_of(record, PRE)
    assert first.pretraining == best.cost == Cost(trials=1, epochs=3, device_seconds=1.5)
    assert second.pretraining == Cost()
    assert (first.source, second.source) == (best.number, best.number)
    assert starts(toy, PRE, "search") == [f"trials/{SCE}/{best.number}/best.pt"] * 2
    assert {pretrain_of(each) for each in toy.issued if each.arm != PRE} == {None}
    last_of_source = max(place for place, each in enumerate(toy.issued) if (each.arm, each.stage) == (SCE, "search"))
    assert toy.issued.index(next(each for each in toy.issued if each.arm == PRE)) > last_of_source
    spent = fairness.spendings(record)
    assert [row.search.trials for row in spent] == [3, 3, 3]
    assert spent[0].start == f"starts from trial {best.number} of {SCE}, charged for it: 1 trial, 3 epochs"
    assert fairness.verdict(record, spent).fair


def test_the_random_draws_of_other_arms_are_as_without_it(toy: Toy, tmp_path: Path) -> None:
    toy.launch(LOSSES, THREE)
    toy.go_on()
    (tmp_path / "other").mkdir()
    other = Toy(tmp_path / "other")
    other.launch(THREE)
    other.go_on()
    for arm in (SCE, NS):
        ours, theirs = (trials_of(each.record(), arm) for each in (toy, other))
        assert [(t.params, t.seed, t.best_mrr) for t in ours] == [(t.params, t.seed, t.best_mrr) for t in theirs]


def test_a_replicate_starts_from_the_replicate_in_the_same_place(toy: Toy) -> None:
    toy.launch(LOSSES, THREE)
    toy.go_on()
    assert starts(toy, PRE, "replicate") == [f"replicates/{SCE}/{index}/best.pt" for index in range(2)]
    [chosen] = [each for each in toy.record().selections if each.arm == PRE]
    assert chosen.config["pretrain"] == {"checkpoint": f"trials/{SCE}/{best_of(toy.record(), SCE).number}/best.pt"}


def test_a_replicate_fails_with_the_one_that_it_starts_from(toy: Toy) -> None:
    toy.breaks = lambda each: (each.arm, each.stage, each.trial) == (SCE, "replicate", 1)
    toy.launch(LOSSES, THREE)
    toy.go_on()
    states = {(each.arm, each.index): (each.state.value, each.reason) for each in toy.record().replicate_records}
    assert states[PRE, 0] == ("COMPLETE", "max_epochs")
    assert states[PRE, 1] == ("FAIL", f"it starts from replicate 1 of {SCE}, which failed")


def test_a_replicate_is_missing_as_the_one_that_it_starts_from(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Outcome(state=TrialState.FAIL, failure=FailureClass.INFRASTRUCTURE, reason=f"{WORKERS_LOST} 5 times")
    monkeypatch.setattr(toy_study, "BROKEN", lost)
    monkeypatch.setattr(attempts, "MAX_LOSSES", 1)
    toy.breaks = lambda each: (each.arm, each.stage, each.trial) == (SCE, "replicate", 1)
    toy.launch(LOSSES, THREE)
    toy.go_on()
    missing = [each for each in toy.record().replicate_records if each.state is TrialState.FAIL]
    assert [(each.arm, each.index, each.broke) for each in missing] == [(PRE, 1, False), (SCE, 1, False)]


@pytest.mark.parametrize("budget", [THREE, EPOCHS], ids=["trials", "epochs"])
def test_killed_after_any_measurement_it_ends_as_if_undisturbed(toy: Toy, tmp_path: Path, budget: Any) -> None:
    toy.launch(LOSSES, budget)
    toy.go_on()
    (tmp_path / "killed").mkdir()
    killed = Toy(tmp_path / "killed")
    killed.launch(LOSSES, budget)
    for _ in range(20):  # lives; a training that the last one left begins again
        killed.go_on(until=4)
    killed.go_on()
    assert table(killed.record()) == table(toy.record())
    assert max(moment.gap for moment in timeline(toy.record())) <= 1


def test_a_budget_of_epochs_is_used_up_to_the_last_one_with_what_the_start_took(toy: Toy) -> None:
    toy.launch(LOSSES, EPOCHS)
    toy.go_on()
    record = toy.record()
    assert [row.search.epochs for row in fairness.spendings(record)] == [11, 11, 11]
    assert sum(trial.cost.epochs for trial in trials_of(record, PRE)) == 8
    config = load_study(toy.file)
    planned = "\n".join(plan_lines(config, compose_all(config)))
    assert [len(trials_of(record, arm)) for arm in (PRE, SCE, "complex.ns")] == [3, 4, 4]
    assert "Trainings: at least 11 trials + 3 arms x 2 replicates = at least 17." in planned


def test_arms_that_start_from_arms_that_start_from_arms_pay_for_all(toy: Toy) -> None:
    chain = "losses: [{name: ns, label: c, pretrain: b}, {name: ns, label: b, pretrain: sce}, sce]"
    toy.launch(("losses: [sce, ns]", chain), ("trials: 2", "trials: 4"))
    toy.go_on()
    record = toy.record()
    assert generations(record.arms) == {"complex.c": 2, "complex.b": 1, SCE: 0}
    assert [len(trials_of(record, arm)) for arm in ("complex.c", "complex.b", SCE)] == [2, 3, 4]
    assert trials_of(record, "complex.c")[0].pretraining == Cost(trials=2, epochs=6, device_seconds=3.0)
    assert [row.search.trials for row in fairness.spendings(record)] == [4, 4, 4]
    config = load_study(toy.file)
    planned = "\n".join(plan_lines(config, compose_all(config)))
    trained = len(record.trials) + len(record.replicate_records)
    assert f"3 arms x 4 trials - 3 that pay for pretraining + 3 arms x 2 replicates = {trained}." in planned


def test_an_arm_whose_source_completed_nothing_gets_no_trials_and_the_others_go_on(toy: Toy, tmp_path: Path) -> None:
    toy.breaks = lambda each: each.arm == SCE
    toy.launch(LOSSES, THREE)
    toy.go_on()
    toy.go_on()
    record = toy.record()
    assert [len(trials_of(record, arm)) for arm in (PRE, SCE, NS)] == [0, 3, 3]
    [stop] = record.stops
    assert (stop.arm, stop.said) == (PRE, f"it starts from {SCE}, which completed no trial")
    assert f"  stopped     {stop.said}" in list(status_lines(record, None))
    report.build(record, tmp_path / "report")
    assert f"{PRE} got no trials: {stop.said}" in (tmp_path / "report" / "index.html").read_text()


def test_an_arm_whose_start_took_its_whole_budget_gets_no_trials(toy: Toy) -> None:
    toy.launch(LOSSES, ("trials: 2", "epochs: 3"))
    toy.go_on()
    [stop] = toy.record().stops
    assert (stop.arm, stop.said) == (PRE, "what it starts from took its whole budget")


def test_status_and_plan_say_what_an_arm_starts_from(toy: Toy) -> None:
    toy.launch(LOSSES, THREE)
    config = load_study(toy.file)
    planned = "\n".join(plan_lines(config, compose_all(config)))
    assert f"{PRE}  starts from the best trial of {SCE}" in planned
    assert "3 arms x 3 trials - 1 that pay for pretraining + 3 arms x 2 replicates = 14." in planned
    toy.go_on(until=1)
    assert f"  starts from the best trial of {SCE}, not charged yet" in list(status_lines(toy.record(), None))
    toy.go_on()
    record = toy.record()
    said = f"  starts from trial {best_of(record, SCE).number} of {SCE}, charged 1 trials, 3 epochs"
    assert said in list(status_lines(record, None))


def test_a_ledger_starts_a_generation_when_nothing_of_the_one_before_runs() -> None:
    ledger = Ledger(arms=["a", "b"], budget=Cost(trials=1), unit="trials", generations={"b": 1})
    assert ledger.next_arm() == "a"
    ledger.put(Stake(arm="a", trial=0))
    assert ledger.next_arm() is None
    ledger.put(Stake(arm="a", trial=0, running=False))
    assert ledger.next_arm() == "b"


REFUSED = {
    "an unknown label": ("pretrain: scs", "unknown label of a loss 'scs' (known: sce, ns; did you mean 'sce'?)"),
    "itself": ("pretrain: pre", "must not come back to where it starts, got pre <- pre"),
    "neither label nor file": ("pretrain: 3", "must be the label of another loss, or {checkpoint: FILE}, got 3"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_start_is_refused_at_its_line(value: str, message: str) -> None:
    text = FILE.replace(LOSSES[0], LOSSES[1].replace("pretrain: sce", value))
    with pytest.raises(StudyFileError) as refusal:
        parse_study(text, "toy.yaml")
    assert str(refusal.value).startswith("toy.yaml:4: arms.losses")
    assert message in str(refusal.value)


def test_tables_of_a_tuned_size_cannot_be_started_from() -> None:
    text = FILE.replace(*LOSSES).replace(" model.dim: 32,", "")
    with pytest.raises(StudyFileError) as refusal:
        compose_all(parse_study(text, "toy.yaml"))
    must = f"must have model.dim under `fixed`: {PRE} starts from the tables of {SCE}, got a range in {PRE} ("
    assert str(refusal.value).startswith(f"toy.yaml:4: arms.losses[0].pretrain: {must}")
    assert str(refusal.value).endswith("base.yaml:6: model.dim)")  # that of the program


def test_a_start_is_declared_with_the_arm_and_nowhere_else() -> None:
    text = FILE.replace("{training.max_epochs", "{pretrain.checkpoint: x.pt, training.max_epochs")
    with pytest.raises(StudyFileError, match=r"toy\.yaml:8: .*must be left to the study and its arms"):
        compose_all(parse_study(text, "toy.yaml"))


def test_one_trial_cannot_pay_for_pretraining() -> None:
    text = FILE.replace(*LOSSES).replace("trials: 2", "trials: 1")
    with pytest.raises(StudyFileError, match=r"toy\.yaml:5: budget\.trials: must be >= 2 where losses are pretrained"):
        parse_study(text, "toy.yaml")


def test_an_amendment_may_add_such_an_arm_but_not_what_its_source_could_do_better_with(toy: Toy) -> None:
    toy.launch(THREE)
    toy.go_on()
    before = {arm: trials_of(toy.record(), arm) for arm in (SCE, NS)}
    toy.write(LOSSES, THREE)
    toy.go_on(amend=True)
    assert {arm: trials_of(toy.record(), arm) for arm in (SCE, NS)} == before
    assert len(trials_of(toy.record(), PRE)) == 2
    assert starts(toy, PRE, "replicate") == [f"replicates/{SCE}/{index}/best.pt" for index in range(2)]
    toy.write(LOSSES, ("trials: 2", "trials: 4"))
    with pytest.raises(StudyFileError, match=rf"budget: must stay .* where arms start from the best of others \({PRE}"):
        toy.go_on(amend=True, reopen=True)


REAL = """\
name: {name}
dataset: synthetic
arms: {{models: [complex], losses: {losses}}}
budget: {{trials: {trials}}}
search: {{random_trials: 1}}
replicates: 1
fixed: {{training.max_epochs: 8, model.dim: 32, model.reciprocal: false, validation.every: 1, training.batch_size: 512,
        optimizer.name: adagrad, optimizer.lr: 0.1}}
"""
FIRST = {
    "dataset": "synthetic",
    "model": {"name": "complex", "dim": 32},
    "loss": {"name": "sce"},
    "training": {"max_epochs": 8, "batch_size": 512},
    "optimizer": {"name": "adagrad", "lr": 0.1},
    "validation": {"every": 1},
}
FROM_BOTH = "[sce, {name: sce, label: pre, pretrain: sce}, {name: sce, label: file, pretrain: {checkpoint: BEST}}]"


def run_study(folder: Path, name: str, *, losses: str, trials: int) -> tuple[int, str]:
    (folder / f"{name}.yaml").write_text(REAL.format(name=name, losses=losses, trials=trials))
    return Home(folder, name).finish("run", str(folder / f"{name}.yaml"))


def test_real_trainings_start_from_the_tables_that_they_name(tmp_path: Path) -> None:
    first = tmp_path / "first"
    given = list(fit(parse_config(FIRST), load("synthetic"), directory=first))
    best = first / "best.pt"
    code, said = run_study(tmp_path, "second", losses=FROM_BOTH.replace("BEST", str(best)), trials=2)
    assert code == 0, said
    record = Home(tmp_path, "second").record()
    assert [len(trials_of(record, arm.name)) for arm in record.arms] == [2, 1, 1]
    tuned = {card.arm: {each.path for each in card.tuned} for card in record.spaces}
    idle = {path for path in tuned["complex.sce"] if path.startswith("model.init.")}
    assert idle
    assert tuned["complex.pre"] == tuned["complex.file"] == tuned["complex.sce"] - idle
    source = best_of(record, "complex.sce")
    for arm, epochs in (("complex.pre", source.cost.epochs), ("complex.file", given[-1].best_epoch)):
        [trial] = trials_of(record, arm)
        assert trial.curve[0].mrr > 1.5 * source.curve[0].mrr, "the first epoch goes on from tables that were trained"
        assert (trial.pretraining.trials, trial.pretraining.epochs) == (1, epochs)
    assert all(each.state is TrialState.COMPLETE for each in record.replicate_records)
    assert config_of(checkpoint.load(tmp_path / "second/replicates/complex.pre/0/best.pt")).pretrain.checkpoint == (
        "replicates/complex.sce/0/best.pt"
    )


def test_a_file_that_is_another_now_is_refused(tmp_path: Path) -> None:
    start = tmp_path / "best.pt"
    start.write_bytes(b"tables")
    sha256 = hashlib.sha256(b"tables").hexdigest()
    declared = records_factory.arm("complex", "sce")
    arm = replace(declared, name="complex.file", checkpoint=str(start), checkpoint_sha256=sha256)
    same_starts([arm, replace(arm, checkpoint_sha256="")])
    start.write_bytes(b"others")
    with pytest.raises(UserError, match=r"^arm complex\.file: pretrain\.checkpoint: .*best\.pt must be the file that"):
        same_starts([arm])
    start.unlink()
    with pytest.raises(UserError, match=r"got no file$"):
        same_starts([arm])


def space_of(arm: Arm) -> Space:
    return Space(arm=arm, tuned=(), fixed=())


def test_a_file_is_charged_with_all_that_it_was_made_of(tmp_path: Path) -> None:
    data = load("synthetic")
    config = parse_config({**FIRST, "training": {"max_epochs": 2, "batch_size": 512}})
    for name in ("a", "b"):
        list(fit(config, data, directory=tmp_path / name))
    parts = [tmp_path / name / "last.pt" for name in ("a", "b")]
    join_models(parts, data, joined := tmp_path / "joined.pt")
    arm = replace(records_factory.arm("complex", "sce"), name="complex.file", checkpoint=str(joined))
    whole = cost_of_checkpoint(space_of(arm))
    assert (whole.trials, whole.epochs) == (2, 4)
    assert (
        whole.device_seconds > cost_of_checkpoint(space_of(replace(arm, checkpoint=str(parts[0])))).device_seconds > 0
    )
    content = checkpoint.load(joined)
    torch.save({key: value for key, value in content.items() if key != "before"}, joined)
    with pytest.raises(StudyFileError, match=r"^arm complex\.file: pretrain\.checkpoint: \S+ must say what its tables"):
        cost_of_checkpoint(space_of(arm))


@pytest.mark.parametrize(("file", "message"), [("none.pt", "does not exist"), ("text.pt", "must be a checkpoint")])
def test_a_file_that_is_no_start_is_refused_before_anything_is_written(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / "text.pt").write_text("tables")
    code, said = run_study(tmp_path, "refused", losses=FROM_BOTH.replace("BEST", str(tmp_path / file)), trials=2)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: {tmp_path / 'refused.yaml'}:")
    assert f": arms.losses[2].pretrain: {tmp_path / file}: " in said
    assert message in said
    assert not (tmp_path / "refused").exists()
    plan = [sys.executable, "-m", "study.cli", "plan", str(tmp_path / "refused.yaml")]
    planned = subprocess.run(plan, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (planned.returncode, planned.stderr) == (code, said)
