"""The model of a finished arm, in a real MLflow: which one it is, sent once, and what it answers elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow.exceptions
import pandas as pd
import pytest

from kge.bundle import read_bundle
from kge.catalog import load
from kge.documents import parse_config
from kge.errors import DataError
from kge.fitting import fit
from study.database import sqlite_url
from study.records import Arm, StudyRecord, TrialState
from study.tracking.answers import AnswerModel
from study.tracking.finalists import finalist
from study.tracking.mirror import SyncResult, sync
from study.tracking.models import LARGEST
from study.tracking.worker import sync_command
from tests.study import records_factory as factory
from tests.study.mlflow_store import NOTHING, Served, Tracking, copy
from tests.study.saved_study import save
from tests.study.test_tracking import amended

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
ARM, NAME = "complex.sce", "two-by-two.complex.sce"
ASK = """\
import json, sys
import mlflow
import pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
for params in json.loads(sys.argv[4]):
    answers = model.predict(pd.DataFrame(json.loads(sys.argv[3])), params=params)
    print(json.dumps(answers.astype(object).where(answers.notna(), None).to_dict("records")))
"""


@dataclass(frozen=True)
class Trained:
    """A graph with labels, and a checkpoint of a model of it."""

    graph: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    graph, made = folder / "graph", load("synthetic")
    graph.mkdir()
    for split in ("train", "valid", "test"):
        rows = made.split(split).tolist()
        names = ((made.entities[h], made.relations[r], made.entities[t]) for h, r, t in rows)
        (graph / f"{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in names))
    (graph / "entities.tsv").write_text("family00_person00\tAda\nnobody\tNobody\n")
    config = {"dataset": str(graph), "model": {"name": "complex", "dim": 8}, "loss": {"name": "sce"}}
    list(fit(parse_config(config | {"training": {"max_epochs": 1}}), load(str(graph)), directory=folder))
    return Trained(graph, folder / "best.pt")


@pytest.fixture
def record(trained: Trained) -> StudyRecord:
    """A finished study of one arm."""
    record = factory.finished(models=("complex",), losses=("sce",), trials=1, epochs=2)
    return replace(record, arms=tuple(replace(arm, dataset=str(trained.graph)) for arm in record.arms))


@pytest.fixture
def folder(trained: Trained, record: StudyRecord, tmp_path: Path) -> Path:
    """The study's folder with the checkpoint of its finalist."""
    folder = tmp_path / "study"
    put(trained, record, folder)
    return folder


def the_arm(record: StudyRecord) -> Arm:
    return next(arm for arm in record.arms if arm.name == ARM)


def put(trained: Trained, record: StudyRecord, folder: Path) -> Path:
    found = finalist(record, the_arm(record))
    assert found is not None
    (folder / found.checkpoint).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(trained.checkpoint, folder / found.checkpoint)
    return folder / found.checkpoint


def send(tracking: Tracking, record: StudyRecord, folder: Path) -> SyncResult:
    return sync(record, uri=tracking.uri, artifacts=tracking.artifacts, checkpoints=folder)


def versions(tracking: Tracking) -> dict[int, str]:
    """Version and source of what is registered, in the order of versions."""
    found = tracking.client.search_model_versions(f"name = '{NAME}'")
    return dict(sorted((int(each.version), each.tags["source"]) for each in found))


def best(tracking: Tracking) -> int:
    return int(tracking.client.get_model_version_by_alias(NAME, "best").version)


def logged(tracking: Tracking, record: StudyRecord) -> list[Any]:
    experiment = tracking.client.get_experiment_by_name(record.name)
    assert experiment is not None
    return list(tracking.client.search_logged_models([experiment.experiment_id]))


def arm_run(tracking: Tracking, record: StudyRecord) -> Any:
    (run,) = tracking.search(record.name, f"tags.stage = 'arm' and tags.arm = '{ARM}'")
    return run


# -- which checkpoint ----------------------------------------------------------------------------


def test_the_replicate_with_the_best_validation_stands_for_its_arm_whatever_the_test_says() -> None:
    record = factory.finished(replicates=3)
    mine = [each for each in record.replicate_records if each.arm == ARM]
    mrrs, tests = (0.2, 0.4, 0.4), (0.9, 0.1, 0.2)
    changed = tuple(
        replace(each, valid_mrr=mrr, test_metrics=(("mrr", test),))
        for each, mrr, test in zip(mine, mrrs, tests, strict=True)
    )
    found = finalist(replace(record, replicate_records=changed), the_arm(record))
    assert found is not None
    assert (found.source, found.valid_mrr) == ("replicate 1", 0.4)
    assert found.checkpoint == Path("replicates/complex.sce/1/best.pt")


def test_without_a_trained_replicate_the_selected_trial_does() -> None:
    record = factory.finished(replicates=2)
    broken = tuple(replace(each, state=TrialState.FAIL, test_metrics=()) for each in record.replicate_records)
    chosen = record.current_selection(ARM)
    assert chosen is not None
    for each in (replace(record, replicate_records=broken), factory.finished(replicates=0)):
        found = finalist(each, the_arm(record))
        assert found is not None
        assert (found.source, found.valid_mrr) == (f"trial {chosen.trial}", chosen.valid_mrr)


def test_an_arm_that_is_not_done_has_none() -> None:
    assert finalist(factory.running(), the_arm(factory.running())) is None
    record = factory.finished()
    waiting = tuple(replace(each, test_metrics=(), ranks_file=None) for each in record.replicate_records)
    assert finalist(replace(record, replicate_records=waiting, openings=()), the_arm(record)) is None
    assert finalist(replace(record, selections=(), replicate_records=()), the_arm(record)) is None


# -- sent once -----------------------------------------------------------------------------------


def test_sending_a_model_twice_is_sending_it_once(tracking: Tracking, record: StudyRecord, folder: Path) -> None:
    assert send(tracking, record, folder).models == 1
    assert send(tracking, record, folder) == NOTHING
    run = arm_run(tracking, record)
    tracking.client.delete_tag(run.info.run_id, "kge.model")  # as if killed before the last thing it does
    assert send(tracking, record, folder).models == 1
    (model,) = logged(tracking, record)
    assert model.source_run_id == run.info.run_id
    assert [each.model_id for each in arm_run(tracking, record).outputs.model_outputs] == [model.model_id]
    assert versions(tracking) == {1: "replicate 0"}
    assert best(tracking) == 1
    assert arm_run(tracking, record).data.tags["registered"] == f"models:/{NAME}/1"
    assert sorted(each.name for each in folder.iterdir()) == ["replicates"]


def test_what_broke_half_way_is_sent_when_it_can_be(tracking: Tracking, record: StudyRecord, folder: Path) -> None:
    tracking.sync(record)
    shutil.rmtree(tracking.artifacts)
    tracking.artifacts.write_text("a file where a folder should be")
    (sentence,) = send(tracking, record, folder).refused
    assert sentence.startswith("model of arm complex.sce: ")
    tracking.artifacts.unlink()
    assert send(tracking, record, folder).models == 1
    assert len(logged(tracking, record)) == 1
    assert versions(tracking) == {1: "replicate 0"}


def test_a_new_selection_is_a_new_version(
    tracking: Tracking,
    trained: Trained,
    record: StudyRecord,
    folder: Path,
) -> None:
    send(tracking, record, folder)
    put(trained, amended(record), folder)
    assert send(tracking, amended(record), folder).models == 1
    assert versions(tracking) == {1: "replicate 0", 2: "replicate 2"}
    assert best(tracking) == 2


def test_a_model_that_is_not_here_or_too_large_is_left_out(
    tracking: Tracking,
    trained: Trained,
    record: StudyRecord,
    tmp_path: Path,
) -> None:
    nowhere = send(tracking, record, tmp_path / "nowhere")
    assert (nowhere.models, nowhere.refused) == (0, ())
    os.truncate(put(trained, record, tmp_path / "study"), LARGEST + 2**29)  # a sparse file
    assert send(tracking, record, tmp_path / "study").refused == ()
    assert arm_run(tracking, record).data.tags["registered"] == (
        "none: replicates/complex.sce/0/best.pt has 1.5 GiB, more than 1"
    )
    assert logged(tracking, record) == []


def test_a_damaged_checkpoint_is_told_in_one_sentence(tracking: Tracking, record: StudyRecord, folder: Path) -> None:
    (folder / "replicates" / ARM / "0" / "best.pt").write_bytes(b"damaged")
    (sentence,) = send(tracking, record, folder).refused
    assert "best.pt: must be" in sentence


def test_the_command_sends_models_too(
    made_database: Path, record: StudyRecord, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put(trained, record, tmp_path / record.name)
    copy(made_database, tmp_path / "mlflow.db")
    place: dict[str, Any] = {"name": record.name, "home": tmp_path}
    place["database"] = sqlite_url(tmp_path / record.name / "study.db")
    save(record, place["database"])
    assert sync_command(**place).models == 1
    assert sync_command(**place) == NOTHING
    assert best(Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)) == 1


# -- what it answers -----------------------------------------------------------------------------


def ask(uri: str, rows: Sequence[dict[str, str]], *params: dict[str, object]) -> list[Any]:
    """What a fresh process is answered that knows only MLflow's address, with each of the params."""
    environment = {name: value for name, value in os.environ.items() if name != "KGE_DATA_DIR"}
    arguments = [uri, f"models:/{NAME}@best", json.dumps(rows), json.dumps(params)]
    done = subprocess.run(
        [sys.executable, "-c", ASK, *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return [json.loads(line) for line in done.stdout.splitlines()[-len(params) :]]


QUERIES = (
    ("family00_person00", "child_of", "?"),
    ("family00_person05", "cousin", "?"),
    ("?", "child_of", "family00_person03"),
)


def test_in_a_fresh_process_without_the_graph_it_answers_as_kge_predict_does(
    tracking: Tracking, trained: Trained, record: StudyRecord, folder: Path, tmp_path: Path
) -> None:
    wanted = [predicted(trained, tmp_path, *options) for options in ([], ["--new-only"])]
    send(tracking, record, folder)
    moved = trained.graph.rename(tmp_path / "elsewhere")
    try:
        rows = [dict(zip(("head", "relation", "tail"), query, strict=True)) for query in QUERIES]
        found = ask(tracking.uri, rows, {"top": 601}, {"top": 601, "new_only": True})
    finally:
        moved.rename(trained.graph)
    assert found == wanted
    assert [{each["known"] for each in answers} for answers in found] == [{False, True}, {False}]
    assert "Ada" in {each["label"] for each in found[0]}


def predicted(trained: Trained, folder: Path, *options: str) -> Any:
    """What `kge predict` says."""
    (folder / "queries.tsv").write_text("".join("\t".join(query) + "\n" for query in QUERIES))
    command = ["predict", str(trained.checkpoint), "--batch", str(folder / "queries.tsv"), "--top", "601", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "kge.cli", *command, *options], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_through_a_server(serve: Served, record: StudyRecord, folder: Path, tmp_path: Path) -> None:
    serve.start()
    served = Tracking(serve.uri, tmp_path / "unused")
    assert send(served, record, folder).models == 1
    assert send(served, record, folder) == NOTHING
    ((answer,),) = ask(serve.uri, [{"head": "Ada", "relation": "child_of"}], {"top": 1})
    assert (answer["head"], answer["tail"], answer["rank"]) == ("family00_person00", "?", 1)


@pytest.fixture
def model(tracking: Tracking, record: StudyRecord, folder: Path) -> Any:
    """The model as MLflow loads it; from its files, because an address would be set for the whole process."""
    send(tracking, record, folder)
    (sent,) = logged(tracking, record)
    return mlflow.pyfunc.load_model(sent.artifact_location)


def test_a_wrong_query_is_one_sentence(model: Any) -> None:
    def said(*queries: tuple[object, ...]) -> str:
        with pytest.raises(DataError) as caught:
            model.predict(pd.DataFrame(queries, columns=["head", "relation", "tail"]))
        return str(caught.value)

    good = ("family00_person00", "child_of", None)
    unknown = said(good, ("family00_person99", "child_of", None))
    assert unknown.startswith("row 1: unknown entity 'family00_person99' (601 known; did you mean 'family00_person")
    assert said(("family00_person00", "child", None)).startswith("row 0: unknown relation 'child' (")
    assert said(("?", "child_of", None)).startswith("row 0: must be head<TAB>relation<TAB>? or ?<TAB>relation<TAB>tail")
    assert said((None, "child_of", None)).startswith("row 0: unknown entity ''")
    with pytest.raises(DataError, match=r"^top: must be at least 1, got 0$"):
        model.predict(pd.DataFrame([good], columns=["head", "relation", "tail"]), params={"top": 0})
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs"):
        model.predict(pd.DataFrame({"head": ["family00_person00"]}))


def test_what_it_takes_and_gives_is_what_its_signature_says(model: Any) -> None:
    signature = model.metadata.signature
    assert signature.inputs.required_input_names() == ["head", "relation"]
    assert {each.name: each.default for each in signature.params} == {"top": 10, "new_only": False}
    answers = model.predict(pd.DataFrame([("Ada", "child_of")], columns=["head", "relation"]))
    assert list(answers.columns) == signature.outputs.input_names()
    assert list(answers["rank"]) == list(range(1, 11))
    assert len(model.predict(pd.DataFrame([], columns=["head", "relation"], dtype=str))) == 0


def test_it_can_be_read_without_mlflow(model: Any, tracking: Tracking, record: StudyRecord) -> None:
    (sent,) = logged(tracking, record)
    bundle = Path(sent.artifact_location.removeprefix("file://")) / "data" / "bundle"
    answers = AnswerModel(read_bundle(bundle)).predict(pd.DataFrame({"head": ["Ada"], "relation": ["child_of"]}))
    assert answers.equals(model.predict(pd.DataFrame({"head": ["Ada"], "relation": ["child_of"]})))
