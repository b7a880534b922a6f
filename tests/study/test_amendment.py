"""Study files that change after the launch: what is refused, what goes on, and what the test split is told."""

import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from study import cli, drive
from study.config import load_study
from study.database import sqlite_url
from study.errors import StudyFileError, UserError
from study.history import study_record
from study.records import TrialRecord, TrialState
from study.report import build
from study.revision import Revision, revised, written
from study.seeds import training_seed
from study.site import Site
from study.store import Store
from tests.study.toy_study import FILE, NS, SCE, Toy, quality, training_of

Captured = pytest.CaptureFixture[str]
CommandLine = Callable[..., tuple[int, str]]

MORE_TRIALS = ("trials: 2", "trials: 6")
MORE_REPLICATES = ("replicates: 2", "replicates: 3")
MORE_ARMS = ("losses: [sce, ns]", "losses: [bce, sce, ns]")
OTHER_ORDER = ("losses: [sce, ns]", "losses: [ns, sce]")
BCE = "complex.bce"
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.fixture
def command(toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> CommandLine:
    """Runs a command line of the study; its exit code and all that it said."""

    def run(name: str, *arguments: str, home: Path = toy.home) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["study", name, *arguments, "--home", str(home)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert isinstance(left.value.code, int)
        said = capsys.readouterr()
        return left.value.code, said.out + said.err

    return run


def trials_of(toy: Toy, *arms: str) -> list[TrialRecord]:
    return [trial for trial in toy.record().trials if trial.arm in arms]


# ---- what is refused


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A study that every refusal must leave as it is."""
    study = Toy(tmp_path_factory.mktemp("home"))
    study.launch()
    return study


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([("seed: 7", "seed: 8")], "toy.yaml:3: seed: must stay 7 in an amendment, got 8"),
        ([("name: toy", "name: other")], "toy.yaml:1: name: must stay toy in an amendment, got other"),
        ([("synthetic", "wn18rr")], "toy.yaml:2: dataset: must stay synthetic in an amendment, got wn18rr"),
        ([("random}", "tpe}")], "toy.yaml:6: search.sampler: must stay random in an amendment, got tpe"),
        (
            [("random}", "random, random_trials: 1}")],
            "toy.yaml:6: search.random_trials: must stay 10 in an amendment, got 1",
        ),
        (
            [("seed: 7", "seed: 7\npruning: {min_epochs: 1}")],
            "toy.yaml:4: pruning.min_epochs: must stay absent in an amendment, got 1",
        ),
        ([("trials: 2", "trials: 1")], "toy.yaml:5: budget.trials: must not shrink in an amendment: at least 2, got 1"),
        (
            [("trials: 2", "epochs: 99")],
            "toy.yaml:5: budget: must stay in one unit in an amendment: budget.trials, got budget.epochs",
        ),
        (
            [("replicates: 2", "replicates: 1")],
            "toy.yaml:7: replicates: must not shrink in an amendment: at least 2, got 1",
        ),
        (
            [("sce, ns", "sce")],
            "toy.yaml:4: arms: must keep every arm in an amendment: complex.ns is missing, got complex.sce",
        ),
        (
            [("ns]", "{name: ns, label: other}]")],
            "toy.yaml:4: arms: must keep every arm in an amendment: complex.ns is missing, got complex.sce,"
            " complex.other",
        ),
        (
            [("ns]", "{name: ns, normalize: mean}]")],
            "toy.yaml:4: arms: arm complex.ns: fixed must stay no options in an amendment, got loss.normalize mean",
        ),
        (
            [("ns]", "{name: ns_freq, label: ns}]")],
            "toy.yaml:4: arms: arm complex.ns: loss must stay ns in an amendment, got ns_freq",
        ),
        (
            [("model.dim: 32", "model.dim: 64")],
            "toy.yaml:8: fixed.model.dim: arm complex.sce: model.dim must stay 32 in an amendment, got 64",
        ),
        (
            [("seed: 7", "seed: 7\nspaces: {optimizer.lr: {float: [1e-3, 0.5], log: true}}")],
            "toy.yaml:4: spaces.optimizer.lr: arm complex.sce: optimizer.lr must stay float in",
        ),
    ],
)
def test_what_would_make_a_trial_another_is_refused(
    launched: Toy, command: CommandLine, changes: list[tuple[str, str]], sentence: str
) -> None:
    before = launched.record()
    launched.write(*changes)
    code, said = command("resume", "toy", "--amend", home=launched.home)
    assert code == 2
    assert said.startswith("error: ")
    assert sentence in said
    assert launched.record() == before


def test_a_changed_file_is_refused_with_the_difference(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    toy.write(MORE_TRIALS)
    code, said = command("resume", "toy")
    assert code == 2
    first, *lines = said.splitlines()
    assert first == (
        f"error: study 'toy': {toy.file} must say what it said when the study began, unless --amend is given, got:"
    )
    assert lines[:3] == ["--- study toy", f"+++ {toy.file}", "@@ -2,7 +2,7 @@"]
    assert [line for line in lines[3:] if line[0] in "+-"] == ["-budget: {trials: 2}", "+budget: {trials: 6}"]
    assert command("replicate", "toy") == (code, said)
    assert toy.record().amendments == ()


def test_a_file_that_is_named_is_the_one_that_counts(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    other = toy.home / "copy.yaml"
    other.write_text(FILE.replace(*MORE_TRIALS))
    code, said = command("resume", str(other))
    assert code == 2
    assert f"study 'toy': {other} must say what it said" in said


@pytest.mark.parametrize("flags", [(), ("--amend",)])
def test_a_file_of_another_study_of_that_name_is_refused_with_all_that_differs(
    toy: Toy, command: CommandLine, flags: tuple[str, ...]
) -> None:
    toy.launch()
    other = toy.home / "elsewhere.yaml"
    other.write_text(FILE.replace("seed: 7", "seed: 8").replace("[sce, ns]", "[bce, ns]").replace("32", "64"))
    before = everything(toy)
    code, said = command("resume", str(other), *flags)
    assert code == 2
    assert said.count("error: ") == 1
    assert everything(toy) == before
    if flags:
        kept = "must keep every arm in an amendment: complex.sce is missing, got complex.bce, complex.ns"
        assert said.splitlines() == [
            f"error: {other}: must be of the study that it is to amend, and differs in more than may:",
            f"{other}:4: arms: {kept}",
            f"{other}:8: fixed.model.dim: arm complex.ns: model.dim must stay 32 in an amendment, got 64",
            f"{other}:3: seed: must stay 7 in an amendment, got 8",
        ]
    else:
        assert {"+seed: 8", "+arms: {models: [complex], losses: [bce, ns]}"} <= set(said.splitlines())


def everything(toy: Toy) -> tuple[set[Path], list[str]]:
    """The files of a study and all that its database holds."""
    files = {path for path in toy.folder.rglob("*") if path.suffix not in (".db-wal", ".db-shm")}
    with closing(sqlite3.connect(toy.folder / "study.db")) as database:
        return files, list(database.iterdump())


def test_a_study_that_began_under_another_name_is_amended_by_its_file(toy: Toy, command: CommandLine) -> None:
    toy.write()
    site = Site(name="renamed", home=toy.home, database=sqlite_url(toy.home / "renamed" / "study.db"))
    site.folder.mkdir()
    with closing(Store(site.database)) as store:
        store.register_study(drive.declare(load_study(toy.file), "renamed"), file=str(toy.file))
    toy.write(MORE_TRIALS)
    file = str(toy.file)
    assert command("resume", file, "--amend")[1].startswith("error: study 'toy' is unknown in ")
    assert command("resume", "renamed", "--name", "renamed") == (2, "error: --name: must come with a study file\n")
    code, said = command("resume", file, "--amend", "--name", "renamed", "--address", NOWHERE)
    assert (code, said.startswith(f"error: Ray at '{NOWHERE}': ")) == (1, True), "the study is found"
    with closing(Store(site.database)) as store:
        written(store, revised(store, "renamed", Revision(file=toy.file, amend=True)), say=toy.said.append)
    assert toy.said == ["amendment 1: budget.trials: 2 -> 6"]
    [amendment] = study_record(site.database, "renamed").amendments
    assert amendment.changes == ("budget.trials: 2 -> 6",)


def test_a_cluster_that_is_not_there_refuses_an_amendment_before_it_is_written(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    toy.go_on()
    before = toy.record()
    toy.write(MORE_TRIALS)
    for _ in range(2):
        code, said = command("resume", "toy", "--amend", "--reopen", "--address", NOWHERE, "--plain")
        assert (code, said.startswith(f"error: Ray at '{NOWHERE}': must start or answer")) == (1, True), said
        assert toy.record() == before
    toy.write()
    assert command("resume", "toy", "--address", NOWHERE, "--plain")[0] == 0, "as it was, it needs no cluster"


def test_reopening_alone_and_amending_a_file_that_is_gone_are_refused(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    assert command("resume", "toy", "--reopen") == (2, "error: --reopen: must come with --amend\n")
    toy.file.unlink()
    sentence = f"error: study 'toy': {toy.file} must exist to amend it: `study resume FILE --amend`\n"
    assert command("resume", "toy", "--amend") == (2, sentence)


def test_what_a_device_second_is_worth_must_stay(toy: Toy, command: CommandLine) -> None:
    seconds = ("trials: 2", "device_seconds: 9")
    toy.launch(seconds)
    toy.write(seconds, ("seed: 7", "seed: 7\nresources: {cpus_per_trial: 2}"))
    code, said = command("resume", "toy", "--amend")
    assert (code, said.partition("toy.yaml:")[2]) == (
        2,
        "4: resources.cpus_per_trial: must stay 1.0 in an amendment, got 2.0\n",
    )


def test_what_a_study_would_have_gone_on_with_is_not_noted(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    toy.go_on(until=1)
    older(toy)
    code, said = command("resume", "toy", "--address", "127.0.0.1:1", "--plain")
    assert code == 1
    assert "error: Ray at '127.0.0.1:1': must start or answer" in said
    assert toy.record().continuations == ()


def older(toy: Toy) -> None:
    """Let the study have begun with an older torch."""
    with closing(sqlite3.connect(toy.folder / "study.db")) as database, database:
        [(known,)] = database.execute("SELECT environment FROM kge_studies")
        database.execute("UPDATE kge_studies SET environment = ?", [json.dumps(json.loads(known) | {"torch": "1.0"})])


# ---- a finished study


def test_a_finished_study_is_reported_without_a_cluster(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    toy.go_on()
    nowhere = ("--address", "127.0.0.1:1", "--plain")  # a cluster that would not answer
    code, said = command("resume", "toy", *nowhere)
    page = toy.folder / "report" / "index.html"
    assert said == f"study toy is finished, nothing is left to train or to rank\nreport: {page}\n"
    assert code == 0
    assert page.is_file()
    older(toy)
    assert command("resume", "toy", *nowhere)[0] == 0
    assert toy.record().continuations == (), "nothing was trained with other programs"
    code, said = command("run", str(toy.file), "--name", "another", *nowhere)
    assert code == 1
    assert "error: Ray at '127.0.0.1:1': must start or answer" in said


def test_a_cluster_that_does_not_start_in_time_is_one_sentence(
    toy: Toy, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray says it, by this class

    toy.launch()
    monkeypatch.setattr("ray.init", slow)
    code, said = command("run", str(toy.file), "--name", "another", "--plain")
    assert (
        "error: Ray at 'local': must start or answer, got: Exception: The current node timed out during startup.;"
        " nothing is lost, so try again\n" in said
    )
    assert code == 1


@pytest.mark.parametrize(
    "text",
    [
        FILE + "# a remark\n",
        FILE.replace("arms: {models: [complex], ", "arms:\n  models:\n  - complex\n  ").replace("ns]}", "ns]"),
        FILE.replace(*OTHER_ORDER),
        None,
    ],
    ids=["comment", "layout", "order of arms", "no file"],
)
def test_a_file_that_says_the_same_or_is_gone_changes_nothing(toy: Toy, command: CommandLine, text: str | None) -> None:
    toy.launch()
    toy.go_on()
    toy.file.unlink()
    if text is not None:
        toy.file.write_text(text)
    toy.go_on()
    assert (toy.record().spec, toy.record().amendments) == (FILE, ())
    if text is None:
        code, said = command("resume", "toy", "--plain")
        assert code == 0, said
        assert said.startswith("study toy is finished")


# ---- amendments before test is opened


def test_a_larger_budget_and_more_arms_leave_the_trials_that_are_there_bit_identical(toy: Toy, tmp_path: Path) -> None:
    toy.launch()
    toy.go_on(until=8)
    assert any(not trial.state.is_final for trial in trials_of(toy, SCE, NS))
    toy.write(MORE_TRIALS, MORE_ARMS)
    toy.go_on(amend=True)
    born = Toy(tmp_path / "born")
    born.home.mkdir()
    born.launch(MORE_TRIALS, MORE_ARMS)
    born.go_on()
    trials = [trials_of(each, SCE, NS, BCE) for each in (toy, born)]
    assert Counter(trial.arm for trial in trials[0]) == {SCE: 6, NS: 6, BCE: 6}
    for amended, fresh in zip(*trials, strict=True):
        what = ("arm", "number", "state", "params", "seed", "random", "epochs", "best_mrr", "reason", "cost")
        assert [getattr(amended, name) for name in what] == [getattr(fresh, name) for name in what]
    assert [arm.name for arm in toy.record().arms] == [BCE, SCE, NS]


def test_trials_that_ended_stay_to_the_last_bit(toy: Toy) -> None:
    toy.launch()
    toy.go_on()
    before = trials_of(toy, SCE, NS)
    toy.write(MORE_TRIALS, MORE_ARMS)
    toy.go_on(amend=True, reopen=True)
    after = {(trial.arm, trial.number): trial for trial in trials_of(toy, SCE, NS)}
    assert before
    assert [after[trial.arm, trial.number] for trial in before] == before


def test_an_amendment_is_told_wherever_the_study_is(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    toy.go_on(until=2)
    more_cpus = ("seed: 7", "seed: 7\nfailures: {identical_errors: null}\nresources: {cpus_per_trial: 2}")
    toy.write(MORE_TRIALS, MORE_REPLICATES, MORE_ARMS, more_cpus)
    toy.go_on(amend=True, until=0)
    [amendment] = toy.record().amendments
    assert amendment.changes == (
        "budget.trials: 2 -> 6",
        "failures.identical_errors: 3 -> null",
        "replicates: 2 -> 3",
        "resources.cpus_per_trial: 1.0 -> 2.0",
        "arms: complex.bce added",
    )
    words = "; ".join(amendment.changes)
    assert toy.said == [f"amendment 1: {words}"]
    assert f"amendment 1: {words}\n" in command("status", "toy")[1]
    assert command("report", "toy")[0] == 0
    page = (toy.folder / "report" / "index.html").read_text()
    assert "The study file was amended after the study had begun: 1 amendment." in page
    assert words.replace(">", "&gt;") in page
    record = toy.record()
    assert (record.budget.trials, record.replicates, record.identical_errors) == (6, 3, None)
    assert (record.spec, record.spec_sha256) == (amendment.spec, amendment.spec_sha256)
    toy.write(("trials: 2", "trials: 3"), MORE_REPLICATES, MORE_ARMS, more_cpus)
    with pytest.raises(StudyFileError, match="must not shrink in an amendment: at least 6, got 3"):
        toy.go_on(amend=True)
    toy.write(MORE_TRIALS, MORE_REPLICATES, MORE_ARMS, more_cpus)
    toy.go_on(amend=True, until=0)
    assert len(toy.record().amendments) == 1, "nothing was changed"


def test_a_better_trial_is_the_next_selection_and_its_replicates_are_fresh(toy: Toy) -> None:
    toy.launch()
    toy.go_on(until=12 + 11)  # the search, and all replicates but the last epoch of the last
    before = toy.record()
    toy.write(MORE_TRIALS)
    toy.go_on(amend=True)
    after = toy.record()
    for arm in (SCE, NS):
        best = max(trials_of(toy, arm), key=lambda each: each.best_mrr or 0)
        chosen = after.current_selection(arm)
        assert chosen is not None
        assert (chosen.trial, chosen.number) == (best.number, 1)
        replicates = [each for each in after.replicate_records if each.arm == arm]
        assert [each.index for each in replicates] == [0, 1, 2, 3]
        assert len({each.seed for each in replicates}) == 4
        assert after.current_replicates(arm) == tuple(replicates[2:])
        assert [bool(each.test_metrics) for each in replicates] == [False, False, True, True]
        [opening] = [each for each in after.openings if each.arm == arm]
        assert (opening.selection_sha256, opening.replicates) == (chosen.sha256, (2, 3))
    states = [each.state for each in after.replicate_records]
    assert states == [TrialState.COMPLETE] * 5 + [TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert after.replicate_records[5].reason == "superseded: another trial was selected"
    frozen = json.loads((toy.folder / "selection.json").read_text())
    assert [(each["arm"], each["number"]) for each in frozen["selections"]] == [(NS, 1), (SCE, 1)]
    assert [each["sha256"] for each in frozen["earlier"]] == [each.sha256 for each in before.selections]


# ---- amendments after test was opened


def test_more_for_an_opened_arm_needs_reopen(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    toy.go_on()
    before = toy.record()
    patient = ("seed: 7", "seed: 7\nfailures: {identical_errors: 9}")
    for changes in ([MORE_TRIALS], [MORE_REPLICATES], [patient], [MORE_ARMS, MORE_TRIALS]):
        toy.write(*changes)
        assert command("resume", "toy", "--amend") == (
            2,
            "error: study 'toy': budget, replicates and failures must stay as they are, the test split was opened"
            " (complex.ns, complex.sce); --reopen lets it be opened again, and the report will say so\n",
        )
    assert toy.record() == before


def test_arms_may_be_added_to_an_opened_study_and_are_opened_themselves(toy: Toy) -> None:
    toy.launch()
    toy.go_on()
    before = toy.record()
    toy.write(MORE_ARMS)
    toy.go_on(amend=True)
    after = toy.record()
    assert Counter(trial.arm for trial in after.trials) == {SCE: 2, NS: 2, BCE: 2}
    assert [each for each in after.openings if each.arm != BCE] == list(before.openings)
    assert [each for each in after.selections if each.arm != BCE] == list(before.selections)
    assert [(each.number, each.amendment) for each in after.openings if each.arm == BCE] == [(0, 1)]
    assert [each for each in after.replicate_records if each.arm != BCE] == list(before.replicate_records)


def test_reopened_arms_are_selected_anew_and_every_opening_is_told(toy: Toy, tmp_path: Path) -> None:
    toy.launch()
    toy.go_on()
    before = toy.record()
    toy.write(MORE_TRIALS)
    toy.go_on(amend=True, reopen=True)
    after = toy.record()
    for arm in (SCE, NS):
        chosen = after.current_selection(arm)
        assert chosen is not None
        assert chosen.number == 1
        openings = [each for each in after.openings if each.arm == arm]
        assert [(each.number, each.replicates, each.amendment) for each in openings] == [(0, (0, 1), 0), (1, (2, 3), 1)]
        assert openings[1].selection_sha256 == chosen.sha256
    build(after, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "1 amendment, 1 of them after the test split of an arm was opened." in page
    assert "complex.sce: test was opened 2 times, the last under amendment 1" in page
    assert "Openings so far: 4." in page
    for opening in after.openings:
        assert opening.selection_sha256 in page
    assert "amendment" not in (build(before, tmp_path / "before")[0]).read_text().partition("<main>")[0]


def test_more_replicates_of_the_same_selection_are_another_opening(toy: Toy) -> None:
    toy.launch()
    toy.go_on()
    before = toy.record()
    toy.write(MORE_REPLICATES)
    toy.go_on(amend=True, reopen=True)
    after = toy.record()
    assert after.selections == before.selections
    assert after.replicate_records[:2] == before.replicate_records[:2]
    assert [(each.number, each.replicates) for each in after.openings] == [(0, (0, 1)), (1, (2,))] * 2
    assert all(each.test_metrics for each in after.replicate_records)
    toy.write(("replicates: 2", "replicates: 4"))
    with pytest.raises(UserError, match="--reopen lets it be opened again"):
        toy.go_on(amend=True)  # what was said once allows one more opening


def test_a_permission_that_opened_nothing_is_none_for_the_next_amendment(toy: Toy) -> None:
    """The seed is one by which the first two trials of both arms stay the best of three."""
    seed = ("seed: 7", f"seed: {_seed_of_an_early_best(trials=3)}")
    toy.launch(seed)
    toy.go_on()
    before = toy.record()
    more = [seed, ("trials: 2", "trials: 3")]
    toy.write(*more)
    toy.go_on(amend=True, reopen=True)
    assert toy.record().openings == before.openings, "the best are who they were"
    toy.go_on(amend=True, reopen=True)
    assert len(toy.record().amendments) == 1, "nothing was changed, and no seal is there to be broken"
    toy.write(*more, MORE_REPLICATES)
    with pytest.raises(UserError, match="--reopen lets it be opened again"):
        toy.go_on(amend=True)
    toy.go_on(amend=True, reopen=True)
    assert [each.amendment for each in toy.record().openings] == [0, 2, 0, 2]


def _seed_of_an_early_best(*, trials: int) -> int:
    """A study seed by which the best of so many toy trials is among the first two in both arms."""
    return next(
        seed
        for seed in count()
        if all(max(range(trials), key=lambda each: quality(training_seed(seed, arm, each))) < 2 for arm in (SCE, NS))
    )


def test_going_on_with_an_opening_that_was_cut_short_is_the_same_opening(toy: Toy) -> None:
    toy.launch()
    toy.go_on(tests=1)
    cut = toy.record()
    assert sum(bool(each.test_metrics) for each in cut.replicate_records) == 1
    toy.go_on()
    whole = toy.record()
    assert whole.openings == cut.openings
    assert all(each.test_metrics for each in whole.replicate_records)


def test_a_replicate_that_no_opening_covers_stays_closed(toy: Toy) -> None:
    toy.launch()
    toy.go_on()
    with closing(sqlite3.connect(toy.folder / "study.db")) as connection, connection:
        connection.execute("UPDATE kge_openings SET replicates = '[0]' WHERE arm = 'complex.sce'")
        connection.execute("UPDATE kge_replicates SET test_metrics = '{}' WHERE replicate = 1")
    with pytest.raises(UserError, match=r"arm complex.sce: must keep its test split sealed, .* --amend --reopen"):
        toy.go_on()
    toy.go_on(amend=True, reopen=True)
    assert [each.replicates for each in toy.record().openings if each.arm == SCE] == [(0,), (1,)]


# ---- epochs


def test_a_selected_trial_that_its_budget_ended_is_repeated_as_far_as_it_came(toy: Toy) -> None:
    toy.launch(("trials: 2", "epochs: 2"))
    toy.go_on()
    record = toy.record()
    assert all(trial.is_truncated for trial in record.trials)
    for chosen in record.selections:
        assert (training_of(chosen)["max_epochs"], training_of(chosen)["stop_epoch"]) == (3, 2)
    assert {each.cost.epochs for each in record.replicate_records} == {2}


# ---- another version


def test_every_command_refuses_a_database_of_another_version(toy: Toy, command: CommandLine) -> None:
    toy.launch()
    with closing(sqlite3.connect(toy.folder / "study.db")) as connection, connection:
        connection.execute("UPDATE kge_schema SET form = 99")
    for arguments in (("status", "toy"), ("resume", "toy"), ("report", "toy"), ("stop", "toy"), ("run", str(toy.file))):
        code, said = command(*arguments)
        assert code == 2
        assert "study.db: was written by another version of kge-study (tables of form 99, " in said
        assert said.count("\n") == 1
