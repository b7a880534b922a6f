"""Study files: what they resolve to, and one sentence with file and line for whatever is wrong."""

import hashlib
import pickle
from pathlib import Path

import pytest

from study.config import built_in, load_study, parse_study
from study.errors import StudyFileError
from study.records import Arm, Cost
from study.space import compose_all
from tests.study.study_files import VALID, changed, config, line_of, write

_NAME = "must be up to 100 letters, digits, ., _ and -"
_LABEL = "must be up to 50 letters, digits, _ and -, the first a letter or a digit"
BAD = [
    # (old piece, new piece, piece of the bad line, what is said after file and line)
    ("seed: 7", "seed: [7", "arms:", "must be YAML: "),
    ("seed: 7", "seed: 7\nseed: 8", "seed: 8", 'duplicate key "seed"'),
    ("seed: 7", "sede: 7", "sede", "sede: unknown key 'sede' (known: name, dataset, seed, arms,"),
    ("dataset: synthetic", "datasets: fb15k-237", "datasets", "datasets: unknown key 'datasets' (known: name,"),
    ("min_epochs: 2", "min_epoch: 2", "pruning", "pruning.min_epoch: unknown key 'min_epoch' (known: min_epochs,"),
    ("seed: 7", "seed: -7", "seed", "seed: must be in [0, 2^63), got -7"),
    ("seed: 7", "seed: '7'", "seed", "seed: must be an integer, got '7'"),
    ("name: small", "name: a/b", "name", "name: must be up to 100 letters, digits, ., _ and -, the first a letter"),
    *(
        ("name: small", f"name: {name}", "name", f"name: {_NAME}, the first a letter or a digit, got '{name}'")
        for name in ("-x", ".hidden", "..")
    ),
    ("name: small\n", "", "dataset", "name: must be given"),
    (
        "dataset: synthetic",
        "dataset: fb15k237",
        "dataset",
        "dataset: unknown data set or folder 'fb15k237' (known: fb15k-237, wn18rr, codex-s, ",
    ),
    ("    - complex\n", "    - compleks\n", "- compleks", "arms.models[0]: unknown model 'compleks' (known: rescal,"),
    ("[sce, {", "[scs, {", "losses", "arms.losses[0]: unknown loss 'scs' (known: ns, ns_freq, sans, sce,"),
    ("norm: 1", "norm: 3", "- {name: transe", "arms.models[1].norm: must be 1 or 2, got 3"),
    ("norm: 1", "nrm: 1", "- {name: transe", "arms.models[1].nrm: unknown option of model transe: 'nrm'"),
    ("norm: 1", "dim: 0", "- {name: transe", "arms.models[1].dim: must be >= 1, got 0"),
    ("normalize: mean", "normalize: avg", "losses", "arms.losses[1].normalize: must be 'sum' or 'mean', got 'avg'"),
    ("name: ns, ", "", "losses", "arms.losses[1].name: must be given (known: ns,"),
    ("label: transe-l1", "label: l/1", "- {name: transe", f"arms.models[1].label: {_LABEL}, got 'l/1'"),
    ("label: transe-l1", "label: -l1", "- {name: transe", f"arms.models[1].label: {_LABEL}, got '-l1'"),
    ("label: transe-l1", "label: complex", "- {name: transe", "arms.models[1]: must not repeat 'complex': give one"),
    ("[sce, {", "[sce, sce, {", "losses", "arms.losses[1]: must not repeat 'sce': give one"),
    ("[sce, {name: ns, normalize: mean}]", "[]", "losses", "arms.losses: must be a list of at least one loss"),
    ("[sce, {name: ns, normalize: mean}]", "sce", "losses", "arms.losses: must be a list, got 'sce'"),
    ("[sce, {", "[3, {", "losses", "arms.losses[0]: must be a string or a mapping, got 3"),
    ("trials: 4", "trials: 0", "budget", "budget.trials: must be > 0, got 0"),
    ("trials: 4", "trials: -3", "budget", "budget.trials: must be > 0, got -3"),
    ("trials: 4", "trials: 2.5", "budget", "budget.trials: must be an integer, got 2.5"),
    ("{trials: 4}", "{}", "budget", "budget: must be one of trials, epochs, device_seconds, got null"),
    ("{trials: 4}", "{trials: 4, epochs: 9}", "budget", "budget: must be one of trials, epochs, device_seconds, got"),
    ("trials: 4", "epochs: 0", "budget", "budget.epochs: must be > 0, got 0"),
    ("trials: 4", "device_seconds: -0.5", "budget", "budget.device_seconds: must be > 0, got -0.5"),
    ("replicates: 2", "failures: {identical_errors: 0}", "failures", "failures.identical_errors: must be >= 1 or null"),
    ("random_trials: 2", "random_trials: 5", "search", "search.random_trials: must be <= budget.trials (4), got 5"),
    ("random_trials: 2", "random_trials: 0", "search", "search.random_trials: must be >= 1, got 0"),
    ("sampler: tpe", "sampler: gp", "search", "search.sampler: must be one of 'tpe', 'random', got 'gp'"),
    ("min_epochs: 2", "min_epochs: 0", "pruning", "pruning.min_epochs: must be >= 1, got 0"),
    ("reduction_factor: 3", "reduction_factor: 1", "pruning", "pruning.reduction_factor: must be >= 2, got 1"),
    ("replicates: 2", "replicates: 0", "replicates", "replicates: must be >= 1, got 0"),
    ("cpus_per_trial: 1,", "cpus_per_trial: 0,", "resources", "resources.cpus_per_trial: must be > 0, got 0.0"),
    ("max_concurrent: 2", "max_concurrent: 0", "resources", "resources.max_concurrent: must be >= 1 or null, got 0"),
    # what only the spaces know
    ("model.dim: 32", "model.dim: 33", "model.dim", "fixed.model.dim: must be even for complex"),
    ("model.dim: 32", "model.dims: 32", "model.dims", "fixed.model.dims: unknown key 'model.dims' (known:"),
    ("model.dim: 32", "optimizer: {lr: 0.1}", "optimizer", "fixed.optimizer: unknown key 'optimizer' (known: "),
    ("model.dim: 32", "model.dim: wide", "model.dim", "fixed.model.dim: must be an integer, got 'wide'"),
    ("model.dim: 32", "seed: 3", "  seed: 3", "fixed.seed: must be left to the study and its arms"),
    ("model.dim: 32", "model.norm: 2", "model.norm", "fixed.model.norm: must not repeat what arm transe-l1.sce holds"),
    (
        "model.dim: 32",
        "training.type: negative_sampling",
        "training.type",
        "fixed.training.type: must be one_vs_all",
    ),
    ("float: [1e-3, 1.0]", "float: [1.0, 1e-3]", "optimizer.lr", "spaces.optimizer.lr: must have low < high, got"),
    ("float: [1e-3, 1.0]", "float: [0, 1.0]", "optimizer.lr", "spaces.optimizer.lr: must have low > 0 and no step"),
    ("float: [1e-3, 1.0]", "float: [-1, 1]", "optimizer.lr", "spaces.optimizer.lr: must have low > 0 and no step"),
    *(
        ("1.0], log: true", f"1.0], {option}", "optimizer.lr", f"spaces.optimizer.lr.{said}")
        for option, said in (
            ("log: yes", "log: must be true or false, got 'yes'"),
            ("log: 1", "log: must be true or false, got 1"),
            ("step: '0.1'", "step: must be a number, got '0.1'"),
            ("step: true", "step: must be a number, got true"),
        )
    ),
    (
        "{float: [1e-3, 1.0], log: true}",
        "{int: [1, 9], step: 0.5}",
        "optimizer.lr",
        "spaces.optimizer.lr.step: must be an integer, got 0.5",
    ),
    (
        "float: [1e-3, 1.0]",
        "flaot: [1, 2]",
        "optimizer.lr",
        "spaces.optimizer.lr: must be a mapping with one of",
    ),
    (
        "log: true}\nres",
        "lgo: true}\nres",
        "optimizer.lr",
        "spaces.optimizer.lr: unknown key 'lgo' (known: float,",
    ),
    ("{float: [1e-3, 1.0], log: true}", "0.1", "optimizer.lr", "spaces.optimizer.lr: must be a mapping, got 0.1"),
    ("optimizer.lr: {", "optimizer.rl: {", "optimizer.rl", "spaces.optimizer.rl: unknown key 'optimizer.rl' (known:"),
    (
        "{float: [1e-3, 1.0], log: true}",
        "{float: [-1.0, 1.0]}",
        "optimizer.lr",
        "spaces.optimizer.lr: must be > 0, got -1.0",
    ),
    (
        "{float: [1e-3, 1.0], log: true}",
        "{choices: [0.1, 0.2, 0.3, -0.4, 0.5]}",
        "optimizer.lr",
        "spaces.optimizer.lr: must be > 0, got -0.4",
    ),
    *(
        ("{float: [1e-3, 1.0], log: true}", f"{{choices: {choices}}}", "optimizer.lr", f"spaces.optimizer.lr: {said}")
        for choices, said in (
            ("[1, 1.0]", "must be a list of different values, got [1, 1.0]"),
            ("[0.1, a, a]", "must be a list of different values, got [0.1, 'a', 'a']"),
            ("[1, true]", "must be a number, got true"),  # two values
        )
    ),
    (
        "optimizer.lr: {float",
        "training.type: {float",
        "training.type",
        "spaces.training.type: must stand under `fixed`: arms differ by it",
    ),
]


@pytest.mark.parametrize(("old", "new", "piece", "sentence"), BAD, ids=[f"{new[:24]}" for _, new, _, _ in BAD])
def test_a_bad_study_file_is_one_sentence_with_its_line(
    tmp_path: Path, old: str, new: str, piece: str, sentence: str
) -> None:
    text = changed((old, new))
    file = write(tmp_path, text)
    with pytest.raises(StudyFileError) as caught:
        compose_all(load_study(file))
    assert str(caught.value).startswith(f"{file}:{line_of(text, piece)}: {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "meant"),
    [
        ("model.dim: 32", "optimizer: {lr: 0.1}", "optimizer.lr"),
        ("model.dim: 32", "model: {no: 1, init: {std: 0.1}}", "model.init.std"),
        ("optimizer.lr: {", "optimizer: {max_norm: {value: 1.0}}\n  optimizer.lr: {", "optimizer.max_norm"),
        ("optimizer.lr: {", "optimizer.rl: {", "optimizer.lr"),
    ],
)
def test_a_path_that_is_spelt_as_mappings_is_found(old: str, new: str, meant: str) -> None:
    with pytest.raises(StudyFileError, match=rf": unknown key '\w+(\.rl)?' \(known: .*; did you mean '{meant}'\?\)$"):
        compose_all(config((old, new)))


def test_what_a_study_file_resolves_to(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, VALID))
    assert [arm.name for arm in study.arms] == ["complex.sce", "complex.ns", "transe-l1.sce", "transe-l1.ns"]
    assert study.arms[3] == Arm(
        name="transe-l1.ns",
        dataset="synthetic",
        model="transe",
        loss="ns",
        training_type="negative_sampling",
        objective="p_d",
        fixed=(("model.norm", 1), ("loss.normalize", "mean")),
    )
    assert study.budget == Cost(trials=4)
    assert study.budget_unit == "trials"
    assert [study.search.is_random(number) for number in range(4)] == [True, True, False, False]
    assert study.sha256 == hashlib.sha256(VALID.encode()).hexdigest()
    assert parse_study(study.text, study.document.path) == study
    assert pickle.loads(pickle.dumps(study)) == study


def test_what_may_be_left_out() -> None:
    text = "name: a\ndataset: synthetic\narms: {models: [complex], losses: [sce]}\nbudget: {trials: 12}\n"
    study = parse_study(text, "a.yaml")
    assert (study.seed, study.replicates, study.pruning) == (0, 5, None)
    assert [study.search.is_random(number) for number in (9, 10)] == [True, False]


@pytest.mark.parametrize(
    ("unit", "budget"),
    [("trials: 4", Cost(trials=4)), ("epochs: 90", Cost(epochs=90)), ("device_seconds: 2", Cost(device_seconds=2.0))],
)
def test_a_budget_counts_in_one_unit(unit: str, budget: Cost) -> None:
    study = config(("trials: 4", unit))
    assert (study.budget, study.budget_unit) == (budget, unit.split(":", maxsplit=1)[0])


@pytest.mark.parametrize("share", ["cpus_per_trial: 0.5", "gpus_per_trial: 0.25"])
def test_seconds_of_a_shared_device_are_no_budget(share: str) -> None:
    shared = ("cpus_per_trial: 1", share)
    assert config(shared).budget_unit == "trials"
    key, value = share.split(": ")
    sentence = rf"resources\.{key}: must be whole where budget is device_seconds, got {value}$"
    with pytest.raises(StudyFileError, match=sentence):
        config(shared, ("trials: 4", "device_seconds: 60"))


def test_identical_errors_are_three_or_any_number_or_never() -> None:
    assert config().identical_errors == 3
    for said, limit in (("7", 7), ("null", None)):
        study = config(("replicates: 2", f"replicates: 2\nfailures: {{identical_errors: {said}}}"))
        assert study.identical_errors == limit


def test_a_random_search_is_random_to_the_end() -> None:
    assert config(("sampler: tpe", "sampler: random")).search.is_random(1000)


def test_a_data_set_may_be_a_folder(tmp_path: Path) -> None:
    assert config(("dataset: synthetic", f"dataset: {tmp_path}")).dataset == str(tmp_path)


def test_a_folder_starts_where_the_study_was_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    study = config(("dataset: synthetic", "dataset: mine"))
    assert {study.dataset, *(arm.dataset for arm in study.arms)} == {str(tmp_path / "mine")}
    monkeypatch.chdir(tmp_path.parent)
    assert parse_study(study.text, "small.yaml", dataset=study.dataset).arms == study.arms


def test_built_in_studies_by_name() -> None:
    assert {"demo", "smoke-fb15k-237", "smoke-wn18rr"} <= built_in().keys()
    for name in built_in():
        study = load_study(name)
        assert study.name == name
        assert compose_all(study).keys() == {arm.name for arm in study.arms}


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(StudyFileError, match=r"^unknown study file or built-in study 'dmo' .*did you mean 'demo'\?"):
        load_study("dmo")
