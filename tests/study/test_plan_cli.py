"""`study plan` through the front door: what it says, what it refuses, and that it leaves nothing behind."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from study import cli, machine
from tests.study.study_files import VALID, changed, line_of, write

Captured = pytest.CaptureFixture[str]
MANY = f"1{'0' * 400}"  # more than a float holds


def study(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["study", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture
def nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; the test fails if it ends with more than its study file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KGE_STUDY_HOME", raising=False)
    return tmp_path


def test_the_plan_of_a_study(nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    write(nothing_written, VALID)
    assert study(monkeypatch, "plan", "small.yaml") == 0
    said = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0].startswith("study small: data set synthetic, seed 7, sha256 ")
    assert "arm model loss training type objective tuned" in lines
    assert any(line.startswith("transe-l1.ns transe ns negative_sampling p_d ") for line in lines)
    assert "p_d complex.sce, complex.ns, transe-l1.sce, transe-l1.ns" in lines
    shared, own = " ".join(said.split()).split("Only in complex.ns:")
    assert "optimizer.lr float in [0.001, 1], log" in shared
    assert "loss.margin" not in shared
    assert "loss.normalize fixed at mean" in own
    assert "Only in transe-l1.ns:" in own
    assert "Budget of each arm: 4 trials, the first 2 drawn alike in all arms, then tpe." in lines
    assert "Pruning: within each arm, at 2, 6, ... epochs the best 1/3 go on." in lines
    assert "Trainings: 4 arms x 4 trials + 4 arms x 2 replicates = 24." in lines
    assert "Epochs: 72 at most." in lines
    assert [each.name for each in nothing_written.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("change", "is_warned"),
    [
        (("seed: 7", "seed: 8"), True),
        (("{trials: 4}", "{epochs: 12}"), False),
        (("pruning: {min_epochs: 2, reduction_factor: 3}\n", ""), False),
        (("min_epochs: 2", "min_epochs: 3"), False),  # as long as a training: nothing is pruned
    ],
)
def test_a_budget_that_counts_pruned_trials_as_whole_ones_is_warned_of(
    nothing_written: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    change: tuple[str, str],
    is_warned: bool,
) -> None:
    write(nothing_written, changed(change))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    said = capsys.readouterr().out
    cautions = [line for line in said.splitlines() if line.startswith("Caution: a pruned")]
    assert len(cautions) == is_warned
    if is_warned:
        assert "a pruned trial counts as a whole one" in cautions[0]
        assert "`budget: {epochs: 12}` costs no more" in cautions[0]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{float: [0.1, 1.0], step: 1.0e-320}", "step must be at least 1e-07 of the larger bound, got 1e-320"),
        ("{float: [1000.0, 1000.1], step: 1.0e-5}", "step must be at least 1e-07 of the larger bound, got 1e-05"),
        ("{float: [0.1, 1.0], step: 0.4}", "must be a whole number of steps wide, got [0.1, 1.0] in steps of 0.4"),
        ("{float: [0.1, 1.0], step: 1.0e+9}", "must be a whole number of steps wide, got [0.1, 1.0] in steps of 1000"),
        ("{float: [0.0, 1.0], step: 0.3333333333333333}", "must be a whole number of steps wide, got [0.0, 1.0] in"),
        (f"{{float: [0.1, 1.0], step: {MANY}}}", "step must be a number > 0 and up to 1e+300, got 1000"),
        (f"{{float: [0.1, {MANY}]}}", "must be [low, high] of numbers up to 1e+300 in size, got [0.1, 1000"),
        ("{float: [-1.0e+308, 1.0e+308]}", "must be [low, high] of numbers up to 1e+300 in size, got [-1e+308"),
        ("{float: [0.1, .inf]}", "must be [low, high] of numbers up to 1e+300 in size, got [0.1, inf]"),
        (f"{{int: [1, {MANY}]}}", "must be [low, high] of integers up to 1e+15 in size, got [1, 1000"),
        ("{int: [1, 10000000002], step: 10}", "must be a whole number of steps wide, got [1, 10000000002] in steps"),
    ],
    ids=lambda text: text[:40],
)
def test_a_range_that_nothing_could_be_drawn_from_is_one_sentence(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, entry: str, sentence: str
) -> None:
    text = changed(("{float: [1e-3, 1.0], log: true}", entry))
    write(nothing_written, text)
    assert study(monkeypatch, "plan", "small.yaml") == 2
    said = capsys.readouterr().err
    assert f"small.yaml:{line_of(text, 'optimizer.lr')}: spaces.optimizer.lr: {sentence}" in said
    assert said.count("\n") == 1


def test_a_tuned_number_of_epochs_counts_with_its_highest(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    tuned = "spaces:\n  training.max_epochs: {int: [10, 50]}\n"
    write(nothing_written, changed(("  training.max_epochs: 3\n", ""), ("spaces:\n", tuned)))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    assert "Epochs: 1200 at most." in capsys.readouterr().out


def test_replicates_go_no_further_than_a_trial_of_the_budget(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, changed(("trials: 4", "epochs: 2")))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    assert "Epochs: 24 at most." in capsys.readouterr().out


def test_rungs_that_no_training_reaches_are_no_pruning(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, changed(("min_epochs: 2", "min_epochs: 3")))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    assert "Caution: no training is longer than 3 epochs, so none is pruned." in capsys.readouterr().out


def test_a_choice_of_none_is_no_number_of_epochs(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    tuned = "spaces:\n  optimizer.max_norm: {choices: [null, 1.0]}\n  training.sub_batch_size: {choices: [null, 64]}\n"
    write(nothing_written, changed(("trials: 4", "epochs: 10"), ("spaces:\n", tuned)))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    assert "Epochs: 64 at most." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("budget", "lines"),
    [
        (
            "epochs: 10",
            [
                "Budget of each arm: 10 epochs; of its trials the first 2 drawn alike in all arms, then tpe.",
                "Trainings: at least 4 arms x 4 trials + 4 arms x 2 replicates = at least 24.",
                "Epochs: 64 at most.",
            ],
        ),
        (
            "device_seconds: 90.5",
            [
                "Budget of each arm: 90.5 device-seconds; of its trials the first 2 drawn alike in all arms, then tpe.",
                "Trainings: at least 4 arms x 1 trials + 4 arms x 2 replicates = at least 12.",
                "Device-seconds: 4 arms x 90.5 = 362, and 24 epochs of replicates at most.",
            ],
        ),
    ],
)
def test_a_plan_speaks_of_the_budget_in_its_unit(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, budget: str, lines: list[str]
) -> None:
    write(nothing_written, changed(("trials: 4", budget)))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    assert set(lines) <= set(capsys.readouterr().out.splitlines())


def test_where_an_epochs_budget_ends_a_trial_is_no_value_to_tune(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, changed(("  model.dim: 32\n", "  model.dim: 32\n  training.stop_epoch: 2\n")))
    assert study(monkeypatch, "plan", "small.yaml") == 2
    assert "fixed.training.stop_epoch: must be left to the study" in capsys.readouterr().err


def test_built_in_studies_have_plans(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert study(monkeypatch, "plan", "demo") == 0
    assert "study demo: data set synthetic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "piece", "sentence"),
    [
        ("seed: 7", "seed: [7", "arms:", "must be YAML"),
        ("[sce, {", "[scs, {", "losses", "arms.losses[0]: unknown loss 'scs'"),
        ("trials: 4", "trials: 0", "budget", "budget.trials: must be > 0, got 0"),
        ("model.dim: 32", "model.dim: 33", "model.dim", "fixed.model.dim: must be even for complex"),
        ("model.dim: 32", "modl.dim: 32", "modl.dim", "fixed.modl.dim: unknown key 'modl.dim'"),
    ],
)
def test_a_bad_study_is_one_line_and_exit_code_2(
    nothing_written: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    old: str,
    new: str,
    piece: str,
    sentence: str,
) -> None:
    text = changed((old, new))
    write(nothing_written, text)
    assert study(monkeypatch, "plan", "small.yaml") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: small.yaml:{line_of(text, piece)}: {sentence}")
    assert said.err.count("\n") == 1
    assert [each.name for each in nothing_written.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_value_without_a_meaning_on_the_graph_is_refused_before_anything_starts(
    command: str, nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, changed(("{name: ns, normalize: mean}", "{name: bce, smoothing: 0.0001}")))
    assert study(monkeypatch, command, "small.yaml") == 2
    said = capsys.readouterr()
    at, sentence = "small.yaml:4: arms", "must be 0 or at least 1 / 601 (the number of entities), got 0.0001"
    assert (said.out, said.err) == ("", f"error: {at}: loss.smoothing: {sentence}\n")
    assert [each.name for each in nothing_written.iterdir()] == ["small.yaml"]


def test_one_seed_is_warned_of(nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    caution = "Caution: with fewer than two replicates no pair of arms is decided.\n"
    for replicates, is_warned in ((1, True), (2, False)):
        write(nothing_written, changed(("replicates: 2", f"replicates: {replicates}")))
        assert study(monkeypatch, "plan", "small.yaml") == 0
        assert (caution in capsys.readouterr().out) == is_warned


@pytest.mark.parametrize("has", [False, True])
def test_a_machine_without_bfloat16_is_warned_of(
    has: bool, nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: has)
    text = changed(("  model.dim: 32\n", "  model.dim: 32\n  training.precision: bfloat16\n"))
    write(nothing_written, text)
    assert study(monkeypatch, "plan", "small.yaml") == 0
    at = f"small.yaml:{line_of(text, 'training.precision')}: fixed.training.precision"
    caution = (
        f"Caution: {at}: bfloat16 is not multiplied by this machine's processor, which computes in float32 instead.\n"
    )
    assert (caution in capsys.readouterr().out) != has


def test_what_is_allowed_and_not_likely_meant_is_said(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    epochs = ("budget: {trials: 4}", "budget: {epochs: 5}")
    twins = ("losses: [sce, ", "losses: [sce, {name: sce, label: twin}, ")
    longer = ("training.max_epochs: 3\n", "training.max_epochs: 6\n  schedule.warmup: 6\n  validation.every: 4\n")
    huge = ("{cpus_per_trial: 1, max_concurrent: 2}", "{cpus_per_trial: 4096, custom: {tpu: 1}}")
    write(nothing_written, changed(epochs, twins, longer, huge))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Caution: ")]
    text = (nothing_written / "small.yaml").read_text()
    at = f"small.yaml:{line_of(text, 'resources')}: resources"
    cpus = os.cpu_count()
    assert said[:-2] == [
        "Caution: complex.twin and complex.sce are the same arm under two names.",
        "Caution: transe-l1.twin and transe-l1.sce are the same arm under two names.",
        "Caution: a training may be longer than the budget, which then ends it: 6 arms.",
        "Caution: rungs at 2 epochs wait for the first validation, after 4: 6 arms.",
        "Caution: schedule.warmup may be as long as a training, whose rate then never comes to its height: 6 arms.",
        f"Caution: {at}.cpus_per_trial: must be at most {cpus} where the cluster is this machine, got 4096.",
        f"Caution: {at}.custom.tpu: must be left out where the cluster is this machine, which has CPUs and GPUs.",
    ]
    assert said[-1].endswith(
        "test triples (70 %) have their pair the other way round in train, so a rule may answer them."
    )


@pytest.mark.parametrize(
    ("budget", "pruning", "sentence"),
    [
        (6, "min_epochs: 1", "after 2 random trials of full length nothing of the budget is left for tpe: "),
        (7, "min_epochs: 1", "a training may be validated at its end alone, and is not pruned then: "),
    ],
)
def test_what_epochs_and_rungs_leave_is_said(
    nothing_written: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    budget: int,
    pruning: str,
    sentence: str,
) -> None:
    write(nothing_written, changed(("trials: 4", f"epochs: {budget}"), ("min_epochs: 2", pruning)))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    said = capsys.readouterr().out
    assert f"Caution: {sentence}complex.sce, complex.ns, transe-l1.sce, transe-l1.ns.\n" in said
    assert ("random trials of full length" in said) == (budget == 6)


def test_what_a_start_leaves_of_the_budget_is_said(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    pretrained = ("losses: [sce, ", "losses: [sce, {name: sce, label: pre, pretrain: sce}, ")
    for epochs, said in (
        (3, "what it starts from may take the whole budget, and leave no trial: complex.pre, transe-l1.pre."),
        (5, "a training may be longer than the budget, which then ends it: complex.pre, transe-l1.pre."),
    ):
        fixed = ("fixed:\n", "fixed:\n  model.reciprocal: false\n")
        write(nothing_written, changed(("trials: 4", f"epochs: {epochs}"), pretrained, fixed))
        assert study(monkeypatch, "plan", "small.yaml") == 0
        assert f"Caution: {said}\n" in capsys.readouterr().out


def test_a_trial_that_fits_no_machine_is_refused_before_ray_starts(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    text = changed(("{cpus_per_trial: 1, max_concurrent: 2}", "{gpus_per_trial: 4096}"))
    write(nothing_written, text)
    assert study(monkeypatch, "run", "small.yaml") == 2
    said = capsys.readouterr().err
    at = f"small.yaml:{line_of(text, 'resources')}: resources.gpus_per_trial"
    assert said.startswith(f"error: {at}: must be at most ")
    assert said.endswith(" where the cluster is this machine, got 4096; --address names another cluster\n")
    assert [each.name for each in nothing_written.iterdir()] == ["small.yaml"]


def test_a_study_file_that_does_not_exist_is_no_name(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, VALID)
    assert study(monkeypatch, "resume", "smal.yaml") == 2
    assert capsys.readouterr().err == "error: smal.yaml: must be the name of a study, got a file that does not exist\n"
    assert study(monkeypatch, "status", "small.yaml") == 2
    assert capsys.readouterr().err == "error: small.yaml: must be the name of a study, got a study file\n"


def test_a_key_is_tuned_or_fixed(nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    text = changed(("spaces:\n", "spaces:\n  training.max_epochs: {int: [1, 3]}\n"))
    write(nothing_written, text)
    assert study(monkeypatch, "plan", "small.yaml") == 2
    at = f"small.yaml:{line_of(text, 'training.max_epochs: 3')}: fixed.training.max_epochs"
    assert capsys.readouterr().err == f"error: {at}: must not stand under `spaces` as well\n"


def test_an_unknown_study_is_one_line_and_exit_code_2(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert study(monkeypatch, "plan", "demoo") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: unknown study file or built-in study 'demoo' (known: ")
    assert said.endswith("; did you mean 'demo'?)\n")


@pytest.mark.parametrize("command", ["status", "stop", "resume", "replicate", "report", "ui", "sync", "replay"])
def test_a_study_that_is_not_there_names_the_nearest(
    home_of_small: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, command: str
) -> None:
    arguments = [command, "smal", *(["complex.sce/0"] if command == "replay" else [])]
    assert study(monkeypatch, *arguments, "--home", str(home_of_small)) == 2
    near = "(known: small; did you mean 'small'?)"
    assert capsys.readouterr() == ("", f"error: study 'smal' is unknown in {home_of_small} {near}\n")
    shared = f"sqlite:///{home_of_small / 'small' / 'study.db'}"
    assert study(monkeypatch, *arguments, "--home", str(home_of_small), "--database", shared) == 2
    assert capsys.readouterr() == ("", f"error: study 'smal' is unknown here {near}\n")


def test_debug_shows_where_an_error_came_from(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert study(monkeypatch, "--debug", "plan", "demoo") == 2
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.splitlines()[-1].startswith("error: unknown study file")


def test_the_schema_is_json_with_every_key(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert study(monkeypatch, "schema") == 0
    keys = json.loads(capsys.readouterr().out)["properties"].keys()
    assert {"name", "dataset", "arms", "budget", "search", "pruning", "fixed", "spaces", "resources"} <= keys


def test_a_plan_says_what_the_largest_trainings_hold(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    tuned = "spaces:\n  training.batch_size: {choices: [128, 1024, 256]}\n"
    write(nothing_written, changed(("spaces:\n", tuned)))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    said = capsys.readouterr().out
    memory = said[said.index("Memory of the largest training of each arm") :].splitlines()
    assert memory[1].split() == ["arm", "CPU", "GPU", "where"]
    rows = {line.split()[0]: line for line in memory[2:]}
    assert list(rows) == ["complex.sce", "complex.ns", "transe-l1.sce", "transe-l1.ns"]
    for arm, row in rows.items():
        assert row.split()[2] == row.split()[4] == "MB"
        assert ("negatives.head 1024, negatives.tail 1024" in row) == arm.endswith(".ns")
    assert "Device-hours" not in said, "nothing has a price"


def test_prices_are_measured_once_and_kept(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, VALID)
    assert study(monkeypatch, "plan", "small.yaml", "--measure", "cpu", "--seconds", "0", "--threads", "1") == 0
    said = capsys.readouterr()
    assert said.err.count("s an epoch (4 batches timed)") == 2 * 4 * 2, "two rounds of the middle and the dearest"
    file = nothing_written / "runs" / "small" / "prices.json"
    [(device, prices)] = json.loads(file.read_text())["devices"].items()
    assert device.endswith(", 1 thread")
    assert {(each["arm"], each["case"], each["batches"]) for each in prices.values()} == {
        (f"{model}.{loss}", case, 8)
        for model in ("complex", "transe-l1")
        for loss in ("sce", "ns")
        for case in ("middle", "dearest")
    }
    cost = said.out[said.out.index("Device-hours on ") :]
    assert cost.startswith(f"Device-hours on {device}, at most, each training alone on it (torch ")
    seconds = sum(each["seconds"] for each in prices.values() if each["case"] == "middle")
    whole = f"{seconds * 3 * (4 + 2) / 3600:.3g}"  # epochs of four trials and two replicates
    assert f"All trainings in the middle of their spaces: {whole} device-hours; all dearest: " in cost

    for more in ([], ["--prices", str(file)]):
        assert study(monkeypatch, "plan", "small.yaml", *more) == 0
        again = capsys.readouterr()
        assert (again.err, again.out[again.out.index("Device-hours on ") :]) == ("", cost)
    write(nothing_written, changed(("model.dim: 32", "model.dim: 64")))
    assert study(monkeypatch, "plan", "small.yaml") == 0
    assert "Device-hours on " not in capsys.readouterr().out, "prices are those of another space"


def test_other_devices_keep_their_prices_and_missing_ones_are_said(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write(nothing_written, VALID)
    file = nothing_written / "prices.json"
    measure = ("--measure", "cpu", "--seconds", "0", "--prices", str(file))
    assert study(monkeypatch, "plan", "small.yaml", *measure) == 0
    content = json.loads(file.read_text())
    [prices] = content["devices"].values()
    few = {sha256: each for sha256, each in prices.items() if each["arm"] != "complex.sce"}
    file.write_text(json.dumps({"format": 1, "devices": {"A GPU": few}}))
    capsys.readouterr()
    assert study(monkeypatch, "plan", "small.yaml", *measure) == 0
    said = capsys.readouterr().out
    assert "Device-hours on A GPU, " in said
    assert said.count("Device-hours on ") == 2
    assert said.count("1 of 4 arms have no price there: `study plan --measure` makes them.") == 1
    assert [each.name for each in nothing_written.iterdir() if each.name != "small.yaml"] == ["prices.json"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "p.json: must be a file of prices (study plan --measure writes one), there is none"),
        ("{}", "p.json: must be prices as `study plan --measure` writes them, got no 'format'"),
        ('{"format": 2}', "p.json: must be prices as `study plan --measure` writes them, got format 2"),
        ('{"format": 1,\n"devices"', "p.json:2: must be JSON, got Expecting ':' delimiter in column 10"),
        ("", "p.json:1: must be JSON, got Expecting value in column 1"),
    ],
)
def test_bad_prices_are_one_line_and_exit_code_2(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, content: str | None, sentence: str
) -> None:
    if content is not None:
        (nothing_written / "p.json").write_text(content)
    assert study(monkeypatch, "plan", "demo", "--prices", "p.json") == 2
    assert capsys.readouterr() == ("", f"error: {sentence}\n")


@pytest.mark.parametrize("option", ["--threads", "--seconds"])
def test_what_only_a_measurement_has_comes_with_one(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, option: str
) -> None:
    assert study(monkeypatch, "plan", "demo", option, "2") == 2
    assert capsys.readouterr() == ("", "error: --threads and --seconds: must come with --measure\n")


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "demo", "--measure", "cpu", "--seconds"),
        ("stop", "demo", "--timeout"),
        ("replay", "demo", "distmult.sce/0", "--tolerance"),
    ],
)
def test_a_number_is_finite(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: tuple[str, ...], value: str
) -> None:
    assert study(monkeypatch, *arguments, value) == 2
    said = f"error: Invalid value for '{arguments[-1]}': must be a finite number, got {value}\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("command", [("plan", "demo", "--measure"), ("replay", "small", "complex.sce/0", "--device")])
def test_a_kind_of_device_is_one_of_two(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, command: tuple[str, ...]
) -> None:
    assert study(monkeypatch, *command, "gpu") == 2
    assert capsys.readouterr() == ("", f"error: {command[-1]}: must be cpu or cuda, got 'gpu'\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_here_has_no_pace(
    nothing_written: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert study(monkeypatch, "plan", "demo", "--measure", "cuda") == 2
    assert capsys.readouterr() == ("", "error: --measure: must be a device of this machine, got 'cuda'\n")
    assert list(nothing_written.iterdir()) == []
