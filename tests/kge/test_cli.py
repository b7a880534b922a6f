"""The `kge` command from its arguments to its exit code."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from kge import catalog, fitting, precision
from kge.cli import _read_config
from kge.fitting import BEST, LAST
from tests.kge.command_line import CONFIG, ERASED, Kge, shown_on_terminal

ROOT = Path(__file__).parents[2]


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_bfloat16_on_a_processor_without_is_float32_and_said(kge: Kge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    softmax = ("train", "small.yaml", "--device", "cpu", "--set", "loss.name=sce")
    exact = kge(*softmax, "--directory", "exact")
    asked = kge(*softmax, "--directory", "asked", "--set", "training.precision=bfloat16")
    told = "training.precision: bfloat16 is not multiplied by this processor, float32 instead\n"
    assert asked.err == told + exact.err
    assert "bfloat16" not in exact.err

    def losses(folder: str) -> list[str]:
        return [row["loss"] for row in csv.DictReader(Path(folder, "curve.csv").read_text().splitlines())]

    assert losses("asked") == losses("exact")


def test_epochs_pass_by_on_a_terminal(kge: Kge, monkeypatch: pytest.MonkeyPatch) -> None:
    less = ("train", "small.yaml", "--device", "cpu", "--set", "validation.every=2")
    shown = shown_on_terminal(monkeypatch, lambda: kge(*less, "--directory", "watched"))
    before, *passing = shown.split(ERASED)
    assert all(line.startswith("graph: ") for line in before.splitlines()), "warnings of the data set"
    epochs = [re.fullmatch(r"epoch (\d): loss \d+\.\d{4}, \d+\.\d s", each) for each in passing]
    assert [each and each[1] for each in epochs] == ["1", "2", None, "3", None, None]
    assert not any(each for each, epoch in zip(passing, epochs, strict=True) if epoch is None)
    assert "epoch 1: " not in kge(*less, "--directory", "logged").err


def test_train_evaluate_and_predict(kge: Kge, tmp_path: Path) -> None:
    trained = kge("train", "small.yaml", "--device", "cpu")
    folder = tmp_path / "runs" / "small"
    assert trained.code == 0
    assert all(line.startswith("graph: ") for line in trained.err.splitlines()), "warnings of the data set"
    assert [line.split()[0] for line in trained.out.splitlines()[:4]] == ["epoch", "1", "2", "3"]
    assert re.search(r"^stopped by max_epochs; best MRR 0\.\d{4} at epoch \d$", trained.out, re.MULTILINE)
    assert {path.name for path in folder.iterdir()} == {LAST, BEST, "curve.csv"}
    with (folder / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]

    best = str(folder / BEST)
    evaluated = kge("evaluate", best, "--json")
    record = json.loads(evaluated.out)
    assert (record["split"], record["filter"], record["ranks"]) == ("valid", ["train", "valid"], "realistic")
    assert record["mrr"] == max(float(row["mrr"]) for row in rows)
    test = json.loads(kge("evaluate", best, "--split", "test", "--json").out)
    assert test["filter"] == ["train", "valid", "test"]
    assert (
        "test, filtered by train + valid + test, 2 triples, both sides" in kge("evaluate", best, "--split", "test").out
    )

    predicted = kge("predict", best, "--head", "a", "--relation", "likes", "--top", "2", "--json")
    answers = [json.loads(line) for line in predicted.out.splitlines()]
    assert len(answers) == 2
    assert answers[0]["score"] >= answers[1]["score"]
    fresh = kge("predict", best, "--tail", "b", "--relation", "is 'x'", "--new-only")
    assert "c c" not in fresh.out
    assert "*" not in fresh.out
    assert len(fresh.out.splitlines()) == 4


def test_training_goes_on_where_its_directory_stopped(kge: Kge, tmp_path: Path) -> None:
    assert kge("train", "small.yaml", "--directory", "x", "--set", "training.max_epochs=2").code == 0
    half_written = Path("x/.last.pt.4711")  # by a process that was killed
    half_written.touch()
    more = kge("train", "small.yaml", "--directory", "x")
    assert more.code == 0
    assert not half_written.exists()
    assert more.out.splitlines()[0] == "continuing x/last.pt"
    assert [line.split()[0] for line in more.out.splitlines()[1:4]] == ["epoch", "2", "3"]
    assert "(again)" in more.out
    kge("train", "small.yaml", "--directory", "straight")
    tables = [torch.load(tmp_path / name / LAST)["training"]["model"]["entities"] for name in ("x", "straight")]
    assert torch.equal(*tables)
    with (tmp_path / "x" / "curve.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


@pytest.mark.parametrize("which", [1, 2])
def test_a_validation_that_memory_interrupts_is_in_the_curve(
    kge: Kge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """It is told again alone, because its best checkpoint was not written when it was in `last.pt` already."""
    save, calls = fitting._save_best, count(1)

    def fail_once(*arguments: Any) -> None:
        if next(calls) == which:
            raise torch.OutOfMemoryError("CUDA out of memory")
        save(*arguments)

    monkeypatch.setattr(fitting, "_save_best", fail_once)
    assert kge("train", "small.yaml", "--directory", "x").code == 0
    with (tmp_path / "x" / "curve.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_set_changes_one_value(kge: Kge, tmp_path: Path) -> None:
    kge(
        "train",
        "small.yaml",
        "--set",
        "model.dim=4",
        "--set",
        "optimizer.lr=1e-3",
        "--set",
        "loss={name: ns, margin: 1.5}",
    )
    content = torch.load(tmp_path / "runs" / "small" / LAST)
    config = json.loads(content["config"])
    assert (config["model"]["dim"], config["optimizer"]["lr"]) == (4, 1e-3)
    options = {"margin": 1.5, "normalize": "sum", "subsampling": "none", "alpha": 0.5}
    assert config["loss"] == {"name": "ns", "options": options}


def test_data_commands(kge: Kge, published: Callable[[str], object]) -> None:
    assert kge("data", "list").out.split() == list(catalog.NAMES)
    passport = json.loads(kge("data", "passport", "graph").out)
    assert (passport["entities"], passport["train_triples"], passport["test_with_unseen_entity"]) == (5, 4, 1)
    published("wn18rr")
    assert kge("data", "get", "wn18rr").out.strip().endswith("wn18rr")


REFUSED = [
    (["train", "gone.yaml"], r"gone\.yaml: cannot be read: No such file or directory"),
    (["train", "small.yaml", "--set", "loss.name=scee"], r".*unknown loss 'scee' .*did you mean 'sce'.*"),
    (["train", "small.yaml", "--set", "model.dim=7"], r".*model\.dim: must be even for complex .*, got 7"),
    (
        ["train", "small.yaml", "--set", "model.name=transe", "--set", "model.norm=3"],
        r".*model\.norm: must be 1 or 2.*",
    ),
    (["train", "small.yaml", "--set", "optimizer.lr=-1"], r".*optimizer\.lr: must be > 0, got -1.*"),
    (
        ["train", "small.yaml", "--set", "training.type=negative_sampling"],
        r".*training\.type: must be one_vs_all or k_vs_all for loss sce.*",
    ),
    (
        ["train", "small.yaml", "--set", "dataset=fb15k237"],
        r"--set dataset: unknown dataset 'fb15k237': .*did you mean 'fb15k-237'\?",
    ),
    (
        ["train", "small.yaml", "--set", "pretrain.checkpoint=gone.pt"],
        r"--set pretrain\.checkpoint: gone\.pt: must be a checkpoint, but it does not exist",
    ),
    (
        ["train", "small.yaml", "--set", "loss={name: bce, smoothing: 0.1}"],
        r"--set loss\.smoothing: must be 0 or at least 1 / 5 \(the number of entities\), got 0\.1",
    ),
    (["train", "small.yaml", "--set", "lr"], r"--set: must be PATH=VALUE, got 'lr'"),
    (
        ["train", "small.yaml", "--set", "model.dim=4\nseed: 9"],
        r"--set: must be PATH=VALUE, one at a time, got 'model\.dim=4\\nseed: 9'",
    ),
    *(
        ([*arguments, ""], rf"Invalid value for '{option}': must be a path, got ''")
        for arguments, option in (
            (["train"], "CONFIG"),
            (["train", "small.yaml", "--directory"], "--directory"),
            (["evaluate", "gone.pt", "--ranks"], "--ranks"),
            (["predict", "gone.pt", "--head", "a", "--relation", "likes", "--out"], "--out"),
            (["data", "columns"], "FOLDER"),
        )
    ),
    (["data", "columns", "x" * 300], r".*File name too long.*"),
    (["train", "small.yaml", "--set", "model.dim=["], r"--set model\.dim:1: must be YAML: .*"),
    (["train", "small.yaml", "--set", "model.dim=abc"], r"--set model\.dim: must be an integer, got 'abc'"),
    (
        ["train", "small.yaml", "--set", "model={name: complex, dims: 8}"],
        r"--set model\.dims: unknown option of model complex: 'dims' .*did you mean 'dim'.*",
    ),
    (
        ["train", "small.yaml", "--set", "modl.dim=8"],
        r"--set modl: unknown key 'modl' \(known: dataset, .*did you mean 'model'\?\)",
    ),
    (
        ["train", "small.yaml", "--set", "validation.every.epochs=2"],
        r"--set validation\.every\.epochs: every must be a mapping, got 1",
    ),
    (["train", "small.yaml", "--memory", "nan"], r"Invalid value for '--memory': must be a finite number, got nan"),
    *(
        ([*arguments, "--device", name], rf"--device: must be cpu or cuda \(cuda:N\), got '{name}'")
        for name in ("meta", "gpu", "cuda:x")
        for arguments in (["train", "small.yaml"], ["evaluate", "gone.pt"], ["predict", "gone.pt", "--head", "a"])
    ),
    (
        ["train", "small.yaml", "--device", "cuda:99"],
        r"--device: must be a device of this machine, got 'cuda:99' \(.*\)",
    ),
    *((["train", "small.yaml", "--threads", count], r".*'--threads'.*1<=x<=1024.*") for count in ("0", "99999999999")),
    (
        ["train", "small.yaml", "--set", "early_stopping={floor_epoch: -5, floor_mrr: 0.1}"],
        r"--set early_stopping\.floor_epoch: must be >= 1 or null, got -5",
    ),
    (
        ["train", "small.yaml", "--set", "early_stopping={floor_epoch: 5, floor_mrr: 10}"],
        r"--set early_stopping\.floor_mrr: must be in \[0, 1\], got 10(\.0)?",
    ),
    (["train"], r"Missing argument 'CONFIG'\."),
    (["evaluate", "gone.pt"], r"gone\.pt: must be a checkpoint, but it does not exist"),
    (["evaluate", "small.yaml"], r"small\.yaml: must be a checkpoint of kge, got .*"),
    (["evaluate", "gone.pt", "--ranks", "x.csv"], r"--ranks: must be the name of a \.parquet file, got x\.csv"),
    (["evaluate", "gone.pt", "--split", "dev"], r".*'--split'.*'dev'.*"),
    (["evaluate", "gone.pt", "--seed", "1"], r"--seed: must come with --sample or --candidates"),
    *(
        ([*arguments, "small.yaml/x"], f"{option}: must be a file in a folder that can be written, got small.yaml/x")
        for arguments, option in (
            (["evaluate", "gone.pt", "--ranks"], "--ranks"),
            (["predict", "gone.pt", "--head", "a", "--relation", "likes", "--out"], "--out"),
            (["import", "gone"], "CHECKPOINT"),
        )
    ),
    (
        ["export", "gone.pt", "small.yaml/out/model"],
        r"FOLDER: must be a folder that can be written, got small\.yaml/out/model",
    ),
    (["predict", "gone.pt", "--relation", "likes"], r"give exactly one of --head and --tail"),
    (["data", "passport", "WN18RR"], r"unknown dataset 'WN18RR': must be .*; did you mean 'wn18rr'\?"),
    (["data", "passport", "small.yaml"], r"small\.yaml: must be a folder with train, valid and test files, got a file"),
    (["data", "columns", "."], r"\.: must hold exactly one of train\.tsv, .*, got none"),
    (["data", "passport", "nowhere"], r"unknown dataset 'nowhere': must be a folder or one of .*"),
    (
        ["data", "get", "synthetic"],
        r"must be a name that is fetched, got an unknown name 'synthetic' \(known: fb15k-237, .*\)",
    ),
    *(
        (["train", "small.yaml", "--directory", path], f"--directory: must be a folder that can be written, got {path}")
        for path in ("small.yaml", "small.yaml/runs/x", "/proc/x", "/proc/x/y")
    ),
    (
        ["train", "small.yaml", "--set", "regularizer.weight=0.1"],
        r"--set regularizer\.weight: must be left out, or regularizer\.name must be n3 or dura: "
        r"with none it means nothing",
    ),
    (
        ["train", "small.yaml", "--set", "model.init={std: 0.01}"],
        r".*model\.init\.std: must be left out, or model\.init\.name must be normal: .*",
    ),
    (
        ["train", "small.yaml", "--set", "loss={name: ns, alpha: 0.9}"],
        r".*loss\.alpha: must be left out, or loss\.subsampling must be base or freq or uniq: with none .*",
    ),
    *(
        (
            ["train", "small.yaml", "--set", f"early_stopping.{given}"],
            rf"--set early_stopping\.{name}: must have early_stopping\.{other} beside it: alone it means nothing",
        )
        for given, name, other in (
            ("floor_mrr=0.9", "floor_mrr", "floor_epoch"),
            ("floor_epoch=1", "floor_epoch", "floor_mrr"),
        )
    ),
    (
        ["train", "small.yaml", "--set", "loss={name: margin_ranking, margin: .nan}"],
        r".*loss\.margin: must be a finite number, got NaN",
    ),
    (
        ["train", "small.yaml", "--set", "loss={name: ns}", "--set", f"negatives.tail={2**70}"],
        rf"--set negatives\.tail: must be < 2\^31, got {2**70}",
    ),
    (
        ["train", "small.yaml", "--set", f"training.batch_size={2**70}"],
        rf"--set training\.batch_size: must be < 2\^31, got {2**70}",
    ),
    (
        ["train", "small.yaml", "--set", f"model={{name: tucker, relation_dim: {2**70}}}"],
        rf".*model\.relation_dim: must be < 2\^31, got {2**70}",
    ),
    (
        ["train", "small.yaml", "--set", "regularizer.name=lp"],
        r".*regularizer\.name: lp must have regularizer\.entity_weight or regularizer\.relation_weight beside it.*",
    ),
    (["trian"], r"No such command 'trian'.*"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=[" ".join(each) for each, _ in REFUSED])
def test_a_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(
    arguments: list[str], sentence: str, kge: Kge, tmp_path: Path
) -> None:
    before = _files(tmp_path)
    ran = kge(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert re.fullmatch(f"error: {sentence}\n", ran.err)
    assert _files(tmp_path) == before


def test_a_file_is_named_with_its_line(kge: Kge, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG.format(dataset="graph").replace("dim: 8", "dim: eight"))
    assert re.fullmatch(
        r"error: small\.yaml:3: model\.dim: must be an integer, got 'eight'\n", kge("train", "small.yaml").err
    )
    (tmp_path / "small.yaml").write_text(CONFIG.format(dataset="graph"))
    (tmp_path / "graph" / "train.tsv").write_text("a\tlikes\n")
    ran = kge("train", "small.yaml")
    assert ran.code == 2
    assert re.match(r"error: small\.yaml:2: dataset: .*graph/train\.tsv:1: must be head<TAB>relation<TAB>tail", ran.err)
    assert not (tmp_path / "runs").exists()


def test_a_directory_of_another_configuration_is_refused(kge: Kge) -> None:
    kge("train", "small.yaml")
    ran = kge("train", "small.yaml", "--set", "optimizer.lr=0.5")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "error: runs/small/last.pt: must be of the same configuration; optimizer.lr is 0.1 there and 0.5 here\n"
    )


def test_tables_of_another_size_are_refused_by_the_key_that_names_them(kge: Kge, tmp_path: Path) -> None:
    kge("train", "small.yaml")
    before = _files(tmp_path)
    start = "pretrain.checkpoint=runs/small/best.pt"
    ran = kge("train", "small.yaml", "--directory", "further", "--set", "model.dim=4", "--set", start)
    assert (ran.code, ran.out, _files(tmp_path)) == (2, "", before)
    assert ran.err == (
        "error: --set pretrain.checkpoint: runs/small/best.pt: "
        "entities must be 5 x 4 as here (model.dim, model.reciprocal), got 5 x 8\n"
    )


def test_a_key_of_the_file_keeps_its_line_beside_those_that_were_set(kge: Kge, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG.format(dataset="graph").replace("every: 1", "evry: 1"))
    said = kge("train", "small.yaml", "--set", "validation.block_size=4", "--set", "model.dim=4").err
    assert said.startswith("error: small.yaml:6: validation.evry: unknown key 'evry'")


def test_a_best_checkpoint_alone_is_not_written_over(kge: Kge, tmp_path: Path) -> None:
    kge("train", "small.yaml")
    folder = tmp_path / "runs" / "small"
    (folder / LAST).unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    ran = kge("train", "small.yaml")
    must = "must hold a training to go on with, or none"
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: --directory: {must}, got runs/small with best.pt and without last.pt\n"
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_unknown_names_in_a_query_are_refused(kge: Kge) -> None:
    kge("train", "small.yaml")
    ran = kge("predict", f"runs/small/{BEST}", "--head", "cc", "--relation", "likes")
    assert (ran.code, ran.err) == (2, "error: unknown entity 'cc' (5 known; did you mean 'c c'?)\n")
    both = kge("predict", f"runs/small/{BEST}", "--head", "a", "--tail", "b", "--relation", "likes")
    assert (both.code, both.err) == (2, "error: give exactly one of --head and --tail\n")


def test_a_graph_that_moved_is_named_anew(kge: Kge, tmp_path: Path) -> None:
    kge("train", "small.yaml")
    (tmp_path / "graph").rename(tmp_path / "moved")
    best = f"runs/small/{BEST}"
    asked = ["--head", "a", "--relation", "likes"]
    for command in (["evaluate", best], ["predict", best, *asked]):
        said = f"error: {best}: was trained on 'graph', --dataset says where that is now: unknown dataset 'graph': "
        assert kge(*command).err.startswith(said)
        assert kge(*command, "--dataset", "moved").code == 0
    (tmp_path / "moved" / "valid.tsv").write_text("b\tlikes\tb\n")
    other = kge("evaluate", best, "--dataset", "moved")
    assert (other.code, "must be of data set" in other.err) == (2, True)


def test_divergence_is_a_failure_of_the_world(kge: Kge, tmp_path: Path) -> None:
    ran = kge("train", "small.yaml", "--set", "optimizer={name: adam, lr: 1e38}")
    assert ran.code == 1
    said = r"error: (the loss of epoch \d is (nan|inf): optimizer\.lr may .*|a score of a head query is not finite)\n"
    assert re.fullmatch(f"(graph: .*\n)*{said}", ran.err)
    assert not (tmp_path / "runs").exists()


def test_help_and_version(kge: Kge) -> None:
    for arguments in (["--help"], ["train", "--help"], ["data", "-h"]):
        assert kge(*arguments).code == 0
    assert "Train one configuration" in kge("train", "--help").out


def test_an_interrupted_training_says_how_to_go_on(kge: Kge, tmp_path: Path) -> None:
    # A shell that starts jobs in the background has them ignore interrupts.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from kge.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "train", "small.yaml", "--set", "training={max_epochs: 100000}"]
    command += ["--set", "early_stopping.patience=null"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as training:
        assert training.stdout is not None
        assert training.stderr is not None
        for line in training.stdout:
            if line.split()[0] == "2":
                training.send_signal(signal.SIGINT)
                break
        said = training.stderr.read().splitlines()
        training.stdout.read()
    assert training.returncode == 130
    assert said[-1] == "interrupted"
    go_on, *arguments = shlex.split(next(line for line in said if line.startswith("to go on: "))[10:])
    assert go_on == "kge"
    last = torch.load(tmp_path / "runs" / "small" / LAST)["training"]["epoch"]
    assert last >= 2
    more = kge(*arguments, f"--set=training.max_epochs={last + 1}")
    assert more.code == 0
    assert "stopped by max_epochs; best MRR" in more.out


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "kge.cli", "train", "gone.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = "error: gone.yaml: cannot be read: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_two_trainings_do_not_share_a_directory(kge: Kge, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from kge.files import held\n"
    program += "with held(Path('runs/small')): print('held', flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refused = kge("train", "small.yaml")
        other.communicate("")
    assert (refused.code, refused.err) == (
        2,
        f"error: --directory: must be free, another training writes to {Path('runs', 'small')}\n",
    )
    assert not (tmp_path / "runs").exists()
    assert kge("train", "small.yaml").code == 0
    assert {path.name for path in (tmp_path / "runs" / "small").iterdir()} == {"best.pt", "curve.csv", "last.pt"}


def test_what_means_nothing_may_stand_where_it_is_the_default_and_weights_may_be_zero(kge: Kge) -> None:
    ablation = ["regularizer={name: n3, weight: 0.0}", "model.init.std=0.1", "negatives.tail=32"]
    assert kge("train", "small.yaml", *(f"--set={each}" for each in ablation)).code == 0


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*/*.yaml")), ids=lambda file: file.stem)
def test_every_training_that_ships_means_all_that_it_says(file: Path) -> None:
    assert _read_config(file, (), is_new=True)
