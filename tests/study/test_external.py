"""`study report --from-csv` through the front door: a table by hand, one that a study exported, and wrong ones."""

import csv
import json
from pathlib import Path

import pytest

from study.report import build
from tests.study import records_factory as factory
from tests.study.parsed_page import Node, read_page, rows
from tests.study.test_plan_cli import Captured, study

HAND = """\
arm,trial,value,state,epochs,random,param.lr,param.optimizer,params
a.sce,0,0.31,COMPLETE,20,true,0.01,adam,"{""dim"": 64}"
a.sce,1,0.33,complete,20,true,0.03,adagrad,
a.sce,2,,FAIL,4,false,1.0,nan,
b.ns,0,0.21,COMPLETE,20,true,0.01,adam,
b.ns,1,0.25,PRUNED,6,true,0.03,,

b.ns,2,0.22,COMPLETE,20,false,0.02,adagrad,
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page(folder: Path) -> Node:
    return read_page(folder)


def test_a_table_by_hand(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    (here / "hand.csv").write_text(HAND, encoding="utf-8-sig")  # as spreadsheets save
    assert study(monkeypatch, "report", "--from-csv", "hand.csv") == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(written) == sorted(Path("hand-report").iterdir())
    arms = rows(here / "hand-report" / "arms.csv")
    assert [(row["arm"], row["search_best_valid_mrr"], row["charged_epochs"]) for row in arms] == [
        ("a.sce", "0.33", "44"),
        ("b.ns", "0.22", "46"),  # the pruned trial may not be selected
    ]
    trials = rows(here / "hand-report" / "trials.csv")
    assert "seed" not in trials[0]
    assert [row["params.lr"] for row in trials] == ["0.01", "0.03", "1.0", "0.01", "0.03", "0.02"]
    assert [row["params.optimizer"] for row in trials] == ["adam", "adagrad", "nan", "adam", "", "adagrad"]
    assert trials[0]["params.dim"] == "64"
    record = json.loads((here / "hand-report" / "record.json").read_text(encoding="utf-8"))
    assert [(each["arm"], each["unit"], len(each["points"])) for each in record["report"]["cost_curves"]] == [
        ("a.sce", "epochs", 2),
        ("b.ns", "epochs", 2),
    ]
    assert [each["arm"] for each in record["report"]["expected"]] == ["a.sce"]  # a trial of b.ns was pruned


def test_what_a_table_cannot_support_is_withheld_and_said_to_be(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "hand.csv").write_text(HAND, encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "hand.csv", "--out", "out") == 0
    found = page(here / "out")
    assert "Fair: each of the 2 arms spent its budget of 3 trials" in found.text
    assert "no budget was declared, so the largest spending of an arm, 3 trials, stands for it" in found.text
    withheld = found.section("withheld").text
    for what in ("Test results", "p-values", "Search spaces", "seal", "Budgets and curves in device-seconds"):
        assert what in withheld
    assert "Expected best" not in withheld
    sections = {node.attributes["id"] for node in found.find("section")}
    assert not sections & {"selections", "environment", "dataset", "spec"}
    links = {str(node.attributes["href"]) for node in found.find("a") if str(node.attributes["href"]).startswith("#")}
    assert links <= {f"#{name}" for name in sections}
    for said in ("1970", "seed 0", "highest mean", "Theory supports"):
        assert said not in found.text


def test_unequal_tables_are_not_compared(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "hand.csv").write_text(HAND, encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "hand.csv", "--unit", "epochs") == 0
    assert "a.sce fell short: 44 of 46 epochs (95.7 %)" in page(here / "hand-report").text


def test_seconds_of_a_table_are_equal_or_not_compared(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "arm,trial,value,state,device_seconds\na.ns,0,0.3,COMPLETE,600\na.ns,1,0.2,COMPLETE,400\n"
    (here / "unequal.csv").write_text(table + "b.ns,0,0.4,COMPLETE,510\n", encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "unequal.csv", "--unit", "device_seconds") == 0
    assert "Comparison withheld: b.ns has not finished" in page(here / "unequal-report").text
    (here / "equal.csv").write_text(table + "b.ns,0,0.4,COMPLETE,1000\n", encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "equal.csv", "--unit", "device_seconds") == 0
    said = page(here / "equal-report").text
    assert "Fair: each of the 2 arms spent its budget of 1,000 device-seconds, all of it and no more." in said


def test_the_trials_that_a_study_exported_have_its_curves(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = factory.finished()
    build(record, here / "ours")
    names = {"arm": "arm", "number": "trial", "best_mrr": "value", "state": "state", "random": "random"}
    names |= {"charged_epochs": "epochs", "charged_device_seconds": "device_seconds"}
    exported = rows(here / "ours" / "trials.csv")
    names |= {name: name for name in exported[0] if name.startswith("params.")}
    with (here / "two-by-two.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names.values()))
        writer.writeheader()
        writer.writerows({new: row[old] for old, new in names.items()} for row in exported)
    assert study(monkeypatch, "report", "--from-csv", "two-by-two.csv") == 0
    ours, theirs = ({row["arm"]: row for row in rows(here / f / "arms.csv")} for f in ("ours", "two-by-two-report"))
    assert ours.keys() == theirs.keys()
    for column in (
        "search_best_valid_mrr",
        "charged_trials",
        "charged_epochs",
        "charged_device_seconds",
        "budget_share",
    ):
        assert {arm: row[column] for arm, row in ours.items()} == {arm: row[column] for arm, row in theirs.items()}
    first, second = (
        json.loads((here / folder / "record.json").read_text(encoding="utf-8"))["report"]
        for folder in ("ours", "two-by-two-report")
    )
    for part in ("trial_curves", "expected"):
        assert [each["points"] for each in sorted(first[part], key=lambda each: str(each["arm"]))] == [
            each["points"] for each in sorted(second[part], key=lambda each: str(each["arm"]))
        ]


HEAD = "arm,trial,value\n"
NINES = "9" * 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "t.csv:1: must have the column 'arm', got nothing"),
        ("arm,trial,score\n", "t.csv:1: unknown column 'score' (known: arm, trial, value, state, random, epochs,"),
        ("arm,trial,value,epoch\n", "; did you mean 'epochs'?)"),
        ("arm,trial,value,value\n", "t.csv:1: column 'value': must be given once"),
        (HEAD, "t.csv: must have a trial below its header, got none"),
        (HEAD + "a,0\n", "t.csv:2: must have 3 cells as the header, got 2"),
        (HEAD + 'a,0,"0.1\n', "must be CSV: unexpected end of data"),
        (
            HEAD + "a,0,.1\na,0,.2\n",
            "t.csv:3: trial: must be given once for each arm (arm 'a' has it in line 2), got '0'",
        ),
        (HEAD + "a,x,.1\n", "t.csv:2: trial: must be an integer from 0 to 1e+15, got 'x'"),
        (HEAD + ",0,.1\n", "t.csv:2: arm: must be a name, got ''"),
        (HEAD + "a,0,-3\n", "t.csv:2: value: must be a validation score from 0 to 1, higher is better, got '-3'"),
        (HEAD + "a,0,nan\n", "t.csv:2: value: must be a validation score"),
        ("arm,trial,value,state\na,0,,COMPLETE\n", "t.csv:2: value: must be a validation score"),
        (
            "arm,trial,value,state\na,0,.1,RUNNING\n",
            "t.csv:2: state: must be one of COMPLETE, PRUNED, FAIL, got 'RUNNING'",
        ),
        ("arm,trial,value,epochs\na,0,.1,\n", "t.csv:2: epochs: must be an integer from 0 to 1e+15, got ''"),
        (f"arm,trial,value,epochs\na,0,.1,{NINES}\n", "t.csv:2: epochs: must be an integer from 0 to 1e+15, got '999"),
        (HEAD + f"a,{NINES},.1\n", "t.csv:2: trial: must be an integer from 0 to 1e+15, got '999"),
        (
            "arm,trial,value,device_seconds\na,0,.1,1\na,1,.1,1e308\n",
            "t.csv:3: device_seconds: must be a number from 0 to 1e+15, got '1e308'",
        ),
        (
            "arm,trial,value,device_seconds\na,0,.1,nan\n",
            "t.csv:2: device_seconds: must be a number from 0 to 1e+15, got 'nan'",
        ),
        (
            f"arm,trial,value,params\na,0,.1,{'[' * 60_000}\n",
            f"t.csv:2: params: must be a JSON object of plain values, got '{'[' * 56}...\n",
        ),
        ("arm,trial,value,random\na,0,.1,yes\n", "t.csv:2: random: must be true or false, got 'yes'"),
        (
            'arm,trial,value,params\na,0,.1,"{""lr"": 1, ""lr"": 2}"\n',
            """t.csv:2: params: must be a JSON object of plain values, got '{"lr": 1, "lr": 2}'""",
        ),
        ("arm,trial,value,params\na,0,.1,[]\n", "t.csv:2: params: must be a JSON object of plain values, got '[]'"),
        (
            'arm,trial,value,params,param.lr\na,0,.1,"{""lr"": 1}",2\n',
            "t.csv:2: param.lr: must be given once, got '2'",
        ),
    ],
)
def test_a_wrong_table_is_one_sentence_and_no_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, text: str, sentence: str
) -> None:
    (here / "t.csv").write_text(text, encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "t.csv") == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert [each.name for each in here.iterdir()] == ["t.csv"]


def test_lines_are_counted_over_cells_of_several_lines(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (here / "t.csv").write_text('arm,trial,value,params\na,0,.1,"{\n}"\na,1,x,\n', encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "t.csv") == 2
    assert "t.csv:4: value:" in capsys.readouterr().err


def test_a_cell_of_one_parameter_that_is_no_plain_value_is_text(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "[" * 60_000
    (here / "t.csv").write_text(f"arm,trial,value,param.x\na,0,.1,{deep}\na,1,.2,[1]\n", encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "t.csv") == 0
    assert [row["params.x"] for row in rows(here / "t-report" / "trials.csv")] == [deep, "[1]"]


def test_the_largest_amounts_are_summed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = "".join(f"a,{number},.1,{10**15},1e15\n" for number in range(3))
    (here / "t.csv").write_text(f"arm,trial,value,epochs,device_seconds\n{trials}", encoding="utf-8")
    assert study(monkeypatch, "report", "--from-csv", "t.csv") == 0
    assert rows(here / "t-report" / "arms.csv")[0]["charged_epochs"] == str(3 * 10**15)


def test_what_the_command_needs(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    (here / "t.csv").write_text(HEAD + "a,0,.1\n", encoding="utf-8")
    for arguments, sentence in {
        (): "must be given NAME or --from-csv FILE, one of them",
        ("name", "--from-csv", "t.csv"): "must be given NAME or --from-csv FILE, one of them",
        ("name", "--unit", "epochs"): "--unit: must come with --from-csv",
        ("--from-csv", "t.csv", "--home", "x"): "--home and --database: must come with NAME",
        ("--from-csv", "t.csv", "--out", "t.csv/x"): "--out: must be a folder that can be written, got t.csv/x",
        ("--from-csv", "u.csv"): "u.csv: cannot be read: No such file or directory",
        ("--from-csv", "t.csv", "--unit", "epochs"): "t.csv:1: must have the column 'epochs' for budgets in epochs",
    }.items():
        assert study(monkeypatch, "report", *arguments) == 2
        assert sentence in capsys.readouterr().err
