"""The methods paragraph, the checklist and the LaTeX tables of a report, and that LaTeX takes them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.records import Amendment, Continuation, Cost, StudyRecord, TrialState
from study.report import build
from study.report.latex import escape, row
from tests.study import records_factory as factory
from tests.study.parsed_page import read_page, rows

LATIN = "".join(map(chr, range(0xA0, 0x100)))
HOSTILE = f'a_b & c% $d$ #e {{f}} ^g ~h \\i <j> |k| "l" `m\' -- --- ?` – − × ∞ … 中 \x01 \n {LATIN}'

TABULAR = r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}"

Written = Callable[[StudyRecord], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(record: StudyRecord) -> Path:
        build(record, tmp_path, ranks=ranks_of(record))
        return tmp_path

    return write


def ranks_of(record: StudyRecord) -> dict[str, np.ndarray]:
    """Reciprocal ranks whose means are the test MRRs, up to noise."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.05, size=200)
    tested = {arm.name: record.current_replicates(arm.name) for arm in record.arms}
    return {
        arm: np.stack([dict(each.test_metrics)["mrr"] + noise - noise.mean() for each in replicates])
        for arm, replicates in tested.items()
        if replicates and all(each.test_metrics for each in replicates)
    }


def hostile() -> StudyRecord:
    """Every string that may hold anything holds it."""
    record = factory.finished()
    first = replace(record.arms[0], objective=HOSTILE)
    environment = {"cpu": HOSTILE, HOSTILE: HOSTILE, "git commit": HOSTILE}
    return replace(record, name=HOSTILE, dataset=HOSTILE, arms=(first, *record.arms[1:]), environment=environment)


def checklist(folder: Path) -> dict[str, tuple[str, str]]:
    table = read_page(folder).section("methods").rows()[1:]
    return {question: (answer, value) for question, answer, value in table}


# ---- methods


def test_the_paragraph_says_what_was_done(written: Written) -> None:
    folder = written(factory.finished())
    said = read_page(folder).section("methods").find("p")[0].text
    for sentence in (
        "4 arms, each a model with a loss and its training type, were tuned: complex.sce (one_vs_all),",
        "a search budget of 4 trials, declared before the study began; every arm spent it.",
        "The first 2 trials of each arm were independent random draws",
        "the best 1/3 went on at rungs after 2 epochs and each next one 3 times as late.",
        "frozen, hashed and trained again with 2 fresh seeds each.",
        "Of each arm the test split was opened once, after the selection was frozen.",
        "(with 2 seeds 12.71 standard errors to either side).",
        "6 pairs of arms (all that can be made) were compared",
        "on AMD EPYC. Programs: python 3.11.2, torch 2.13.0. The code is that of commit 0123abc;",
    ):
        assert sentence in said
    plain = (folder / "methods.txt").read_text(encoding="utf-8")
    assert said in " ".join(plain.split())
    assert "[yes] Seeds: study seed 7; those of 24 trainings" in plain


def test_the_paragraph_names_the_tolerance_of_budgets_in_device_seconds(written: Written) -> None:
    record = factory.running()
    seconds = replace(record, budget=Cost(device_seconds=1.0), budget_unit="device_seconds")
    said = " ".join((written(seconds) / "methods.txt").read_text(encoding="utf-8").split())
    assert "did not spend that to within one validation or 5 %, so no arm is ranked" in said


def test_the_paragraph_follows_the_record(written: Written) -> None:
    record = factory.running()
    change = Amendment(number=1, spec="", spec_sha256="", changes=("budget.trials: 2 -> 4",), reopens=False, time=0.0)
    amended = replace(record, amendments=(change,), pruning=None, environment={})
    said = " ".join((written(amended) / "methods.txt").read_text(encoding="utf-8").split())
    for sentence in (
        "4 trials, as amended after the study had begun; 4 of 4 arms did not spend exactly that, so no arm is ranked",
        "No trial was pruned.",
        "The test split was never opened.",
        "Amendment 1, made after the study had begun: budget.trials: 2 -> 4.",
    ):
        assert sentence in said
    for absent in ("Programs", "commit", "were compared", "fresh seeds each"):
        assert absent not in said.partition("[")[0]


def test_the_paragraph_counts_arms_without_a_selection_and_seeds_that_were_tested(written: Written) -> None:
    record = factory.finished()
    gone, short = record.arms[0].name, record.arms[1].name
    failed = {(gone, 0), (gone, 1), (short, 1)}
    worse = replace(
        record,
        selections=tuple(each for each in record.selections if each.arm != gone),
        openings=tuple(each for each in record.openings if each.arm != gone),
        replicates=3,
        replicate_records=tuple(
            replace(each, test_metrics=(), state=TrialState.FAIL) if (each.arm, each.index) in failed else each
            for each in record.replicate_records
        ),
    )
    said = read_page(written(worse)).section("methods").find("p")[0].text
    assert "Of 3 of 4 arms the completed trial with the highest validation MRR" in said
    assert "Of 3 of 4 arms the test split was opened once, after the selection was frozen." in said
    assert "(with 2 seeds 12.71 standard errors to either side)" in said
    nothing = replace(worse, selections=(), openings=(), replicate_records=())
    said = read_page(written(nothing)).section("methods").find("p")[0].text
    assert "Nothing was selected." in said
    assert "standard errors to either side" not in said


def test_a_resumption_with_other_programs_is_told(written: Written) -> None:
    record = factory.finished()
    newer = {**record.environment, "torch": "2.14.0"}
    later = Continuation(number=1, environment=newer, time=record.created)
    back = Continuation(number=2, environment=record.environment, time=record.created)
    folder = written(replace(record, continuations=(later, back)))
    page = read_page(folder)
    assert "The study was resumed with changes: torch: 2.13.0 then, 2.14.0 now." in page.section("methods").text
    assert "went on with other programs or on another machine" in page.text
    answer, value = checklist(folder)["Versions of programs"]
    assert answer == "partly"
    assert "resumed with torch: 2.13.0 then, 2.14.0 now; resumed with torch: 2.14.0 then, 2.13.0 now" in value


# ---- checklist


def test_a_finished_study_answers_yes(written: Written) -> None:
    answers = checklist(written(factory.finished()))
    assert {answer for answer, _ in answers.values()} == {"yes"}
    assert answers["Equal budgets, declared beforehand"][1] == "4 trials for each arm, declared; all spent it"
    assert answers["All trials reported, failures included"][1] == (
        "8 complete, 4 pruned, 4 failed (2 memory, 2 divergence)"
    )
    assert answers["Data set identified by a checksum"][1] == f"synthetic, fingerprint {'f0' * 32}"


def test_what_is_missing_is_answered_so(written: Written) -> None:
    record = factory.finished()
    untested = replace(record.replicate_records[0], test_metrics=(), state=TrialState.FAIL)
    again = replace(record.openings[0], number=1)
    worse = replace(
        record,
        passport={},
        environment={"git commit": "0123abc with changes"},
        spaces=record.spaces[:2],
        replicate_records=(untested, *record.replicate_records[1:]),
        openings=(*record.openings, again),
        budget=Cost(trials=5),
    )
    answers = checklist(written(worse))
    assert {question: answer for question, (answer, _) in answers.items() if answer != "yes"} == {
        "Data set identified by a checksum": "no",
        "Search spaces stated, with bounds and priors": "partly",
        "Equal budgets, declared beforehand": "no",
        "Test split opened once for each arm": "no",
        "Test results over several fresh seeds": "partly",
        "Hardware": "no",
        "Versions of programs": "no",
        "Commit of the code": "partly",
    }
    assert "test was opened 2 times" in answers["Test split opened once for each arm"][1]


# ---- LaTeX


def test_every_row_of_every_table_has_its_columns(written: Written) -> None:
    for record in (factory.finished(), factory.running(), hostile()):
        text = (written(record) / "tables.tex").read_text(encoding="utf-8")
        found = re.findall(TABULAR, text, flags=re.DOTALL)
        assert found
        for columns, body in found:
            lines = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert len(lines) > 1
            for line in lines:
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1, line


def test_tables_hold_the_numbers_of_the_page(written: Written) -> None:
    folder = written(factory.finished())
    text = (folder / "tables.tex").read_text(encoding="utf-8")
    for arm in rows(folder / "arms.csv"):
        mean, std = (f"{float(arm[f'test_mrr_{name}']):.4f}" for name in ("mean", "std"))
        low, high = (f"{float(arm[f'test_mrr_{name}']):.4f}" for name in ("low", "high"))
        line = next(line for line in text.splitlines() if line.startswith(f"{arm['model']} & {arm['loss']} "))
        assert f"{mean} $\\pm$ {std}" in line
        assert f"[{low}, {high}]" in line
        assert f"{float(arm['test_hits_at_10_mean']):.4f}" in line
    decided = rows(folder / "decisions.csv")
    assert len(decided) == 6
    table = text.split(r"\label{tab:decisions}")[1].split(r"\end{tabular}")[0]
    assert table.count(r"\\") == 7


def test_a_row_begins_with_what_latex_takes_for_no_option() -> None:
    assert row(["[adam] x", "*"]) == r"{}[adam] x & * \\"
    assert row(["*x"]) == r"{}*x \\"
    assert row(["x", "[1, 2]"]) == r"x & [1, 2] \\"


def test_a_folder_of_triples_is_told_by_its_name(written: Written) -> None:
    record = factory.finished()
    folder = written(replace(record, dataset="/home/me/mine", passport={**record.passport, "name": "mine"}))
    for file in ("index.html", "tables.tex", "methods.txt"):
        text = (folder / file).read_text(encoding="utf-8")
        assert "mine" in text
        assert "/home/me" not in text


def test_special_characters_are_escaped() -> None:
    assert escape("a_b & 50 % of $x #1 {y}") == r"a\_b \& 50 \% of \$x \#1 \{y\}"
    assert escape("\\ ~ ^") == r"\textbackslash{} \textasciitilde{} \textasciicircum{}"
    assert escape("--- − 中\x01") == r"-{}-{}- $-$ [U+4E2D][U+0001]"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("how", ["alone", "in a paper"])
def test_latex_compiles_them(written: Written, how: str) -> None:
    for record in (factory.finished(), factory.running(), hostile()):
        folder = written(record)
        file = folder / "tables.tex"
        if how == "in a paper":
            file = folder / "paper.tex"
            head = "\\documentclass[twocolumn]{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n"
            file.write_text(f"{head}\\begin{{document}}Before.\\input{{tables}}After.\\end{{document}}\n")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", file.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout
        assert file.with_suffix(".pdf").is_file()
