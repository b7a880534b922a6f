"""MLflow holds what the record says, once, whatever was sent before; read back through MLflow's own client."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from study.errors import WorldError
from study.records import FailureClass, StudyRecord, TrialState
from study.tracking.mirror import KEY, SyncResult, sync, without_password
from study.tracking.projection import DesiredRun, Plan, project
from study.tracking.worker import mirror
from tests.study import records_factory as factory

# MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

NOTHING = SyncResult()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its tables made, which takes seconds; tests get copies."""
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        assert MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments() is not None
    return file


@dataclass(frozen=True)
class Held:
    """A run as MLflow holds it."""

    parent: str | None
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    histories: dict[str, list[tuple[int, int, float]]]  # (step, time, value)
    status: str
    start: int
    end: int | None


class Tracking:
    """A tracking store of a test and what it holds."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self.client = MlflowClient(tracking_uri=uri)

    def sync(self, record: StudyRecord, report: Path | None = None) -> SyncResult:
        return sync(record, uri=self.uri, artifacts=self.artifacts, report=report)

    def search(self, name: str, query: str = "") -> list[Any]:
        experiment = self.client.get_experiment_by_name(name)
        assert experiment is not None
        return list(self.client.search_runs([experiment.experiment_id], query))

    def held(self, name: str) -> dict[str, Held]:
        """Everything, by key; a key that is there twice is an error."""
        runs = self.search(name)
        keys = {run.info.run_id: run.data.tags[KEY] for run in runs}
        assert len(set(keys.values())) == len(runs)
        return {keys[run.info.run_id]: self._held(run, keys) for run in runs}

    def _held(self, run: Any, keys: dict[str, str]) -> Held:
        parent = run.data.tags.get("mlflow.parentRunId")
        histories = {}
        for name in run.data.metrics:
            points = self.client.get_metric_history(run.info.run_id, name)
            histories[name] = sorted((point.step, point.timestamp, point.value) for point in points)
        return Held(
            parent=keys[parent] if parent else None,
            name=run.info.run_name,
            tags={k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.") and k != "kge.sent"},
            params=run.data.params,
            histories=histories,
            status=run.info.status,
            start=run.info.start_time,
            end=run.info.end_time,
        )


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path) -> Tracking:
    return new_tracking(empty_database, tmp_path, "mlflow.db")


def new_tracking(empty_database: Path, folder: Path, name: str) -> Tracking:
    shutil.copy(empty_database, folder / name)
    return Tracking(f"sqlite:///{folder / name}", folder / "mlartifacts")


def by_name(plan: Plan) -> dict[str, DesiredRun]:
    return {run.name: run for run in plan.runs}


def history(run: DesiredRun, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in run.points if point.name == name]


# -- projection ----------------------------------------------------------------------------------


def test_every_trial_and_replicate_has_one_run_below_its_arm() -> None:
    plan = project(factory.finished(trials=4, replicates=2))
    names = [run.name for run in plan.runs]
    assert len(names) == len(set(names)) == 1 + 4 * (1 + 4 + 2)
    assert len({run.key for run in plan.runs}) == len(names)
    seen: set[str | None] = {None}
    for run in plan.runs:
        assert run.parent in seen
        seen.add(run.key)
    assert [run.name for run in plan.runs if run.parent is None] == ["two-by-two"]


def test_a_trial_shows_its_parameters_and_its_curve_at_the_stored_times() -> None:
    record = factory.finished(epochs=6)
    trial = record.trials[0]
    run = by_name(project(record))["complex.sce/0"]
    assert run.params == {name: str(value) for name, value in trial.params}
    assert history(run, "mrr") == [(each.epoch, each.mrr) for each in trial.curve]
    assert history(run, "hits_at_10") == [(each.epoch, dict(each.metrics)["hits_at_10"]) for each in trial.curve]
    assert history(run, "best_mrr")[-2:] == [(5, trial.best_mrr), (6, trial.best_mrr)]
    assert history(run, "best_epoch") == [(6, 5)]
    assert history(run, "epochs_charged") == [(6, 6)]
    assert history(run, "device_seconds_charged") == [(6, trial.cost.device_seconds)]
    assert [point.time for point in run.points if point.name == "loss"] == [round(m.time * 1000) for m in trial.curve]
    assert (run.start, run.end) == (round((trial.started or 0) * 1000), round((trial.ended or 0) * 1000))
    wanted = {"model": "complex", "loss": "sce", "training_type": "one_vs_all", "objective": "p_d", "stage": "search"}
    wanted |= {"arm": "complex.sce", "dataset": "synthetic", "state": "COMPLETE", "attempts": "1", "random": "true"}
    assert wanted.items() <= run.tags.items()
    assert "failure" not in run.tags


@pytest.mark.parametrize(
    ("number", "status", "state"), [(0, "FINISHED", "COMPLETE"), (1, "KILLED", "PRUNED"), (2, "FAILED", "FAIL")]
)
def test_states_of_settled_trials(number: int, status: str, state: str) -> None:
    run = by_name(project(factory.finished()))[f"transe.sce/{number}"]
    assert (run.status, run.tags["state"]) == (status, state)
    assert run.end is not None


def test_a_running_trial_has_a_curve_and_no_end() -> None:
    run = by_name(project(factory.running()))["transe.sce/3"]
    assert (run.status, run.tags["state"], run.end) == ("RUNNING", "RUNNING", None)
    assert len(history(run, "mrr")) == 1
    assert not history(run, "epochs_charged")


def test_a_trial_that_broke_before_its_first_epoch_tells_why() -> None:
    run = by_name(project(factory.finished()))["complex.sans/2"]
    assert run.tags["failure"] == FailureClass.MEMORY
    assert "out of memory" in run.tags["reason"]
    assert history(run, "trials_charged") == [(0, 1)]
    assert not history(run, "mrr")


def test_an_arm_shows_the_best_so_far_by_charged_trials() -> None:
    record = factory.finished(trials=7)
    for arm in record.arms:
        best, rows, epochs = 0.0, [], 0
        trials = [trial for trial in record.trials if trial.arm == arm.name]
        for step, trial in enumerate(trials, start=1):  # the factory runs an arm's trials in their order
            epochs += len(trial.curve)
            if trial.state is not TrialState.FAIL:
                best = max([best, *(each.mrr for each in trial.curve)])
            rows.append((step, best, epochs))
        run = by_name(project(record))[arm.name]
        assert history(run, "best_mrr") == [(step, best) for step, best, _ in rows]
        assert history(run, "epochs_charged") == [(step, epochs) for step, _, epochs in rows]
        assert history(run, "trials_charged") == [(step, step) for step in range(1, 8)]


def test_an_arm_shows_its_space_its_best_trial_and_its_replicates() -> None:
    record = factory.finished(replicates=3)
    run = by_name(project(record))["transe.sans"]
    assert run.params["space.optimizer.lr"] == "float [0.001, 1] log"
    assert run.params["space.training.batch_size"] == "int [128, 1024] step 128"
    assert run.params["space.optimizer.name"] == "{adagrad, adam}"
    assert run.params["fixed.model.norm"] == "1"
    chosen = next(each for each in record.selections if each.arm == "transe.sans")
    assert run.tags["best_trial"] == str(chosen.trial)
    tested = [dict(each.test_metrics) for each in record.replicate_records if each.arm == "transe.sans"]
    for name in ("mrr", "hits_at_1", "hits_at_3", "hits_at_10"):
        values = [metrics[name] for metrics in tested]
        assert history(run, f"test_{name}_mean") == [(3, pytest.approx(mean(values)))]
        assert history(run, f"test_{name}_std") == [(3, pytest.approx(stdev(values)))]
    assert run.status == "FINISHED"


def test_before_the_selection_the_best_trial_is_the_best_so_far() -> None:
    record = factory.running()
    run = by_name(project(record))["complex.sce"]
    usable = [
        t for t in record.trials if t.arm == "complex.sce" and t.state in {TrialState.COMPLETE, TrialState.PRUNED}
    ]
    assert run.tags["best_trial"] == str(max(usable, key=lambda trial: trial.best_mrr or 0).number)
    assert (run.status, run.end) == ("RUNNING", None)
    assert not history(run, "test_mrr_mean")


def test_the_study_shows_its_file_its_budget_and_its_parity() -> None:
    record = factory.finished()
    run = project(record).runs[0]
    assert run.params["spec_sha256"] == record.spec_sha256
    assert (run.params["budget_unit"], run.params["budget"]) == ("trials", "4")
    assert dict(run.artifacts)["study.yaml"] == record.spec
    epochs = [sum(t.cost.epochs for t in record.trials if t.arm == arm.name) for arm in record.arms]
    assert history(run, "parity_epochs")[-1] == (16, max(epochs) / min(epochs))
    assert history(run, "parity_trials")[-1] == (16, 1.0)
    assert history(run, "epochs_charged")[-1] == (16, sum(epochs))


def test_histories_only_grow_at_their_end() -> None:
    record = factory.finished(trials=5)
    end = {run.key: run for run in project(record).runs}
    last = max(opening.time for opening in record.openings)
    for moment in range(61):
        plan = project(factory.as_of(record, record.created + moment / 60 * (last - record.created)))
        for run in plan.runs:
            assert run.points == end[run.key].points[: len(run.points)]
            assert run.params == end[run.key].params
    assert plan == project(record)


def test_values_that_mlflow_would_refuse_or_distort() -> None:
    record = factory.finished(trials=1)
    trial = record.trials[0]
    odd = replace(trial.curve[0], loss=float("inf"), metrics=(("hits@10", 0.5), ("amri (head)", 0.1)))
    record = replace(record, trials=(replace(trial, curve=(odd,), params=(("loss.margin", None),)),))
    run = by_name(project(record))["complex.sce/0"]
    assert {point.name for point in run.points} >= {"hits_at_10", "amri _head_"}
    assert not history(run, "loss")
    assert run.params == {"loss.margin": "null"}


# -- mirror --------------------------------------------------------------------------------------


def assert_holds(tracking: Tracking, record: StudyRecord) -> None:
    """MLflow holds exactly the projection of the record."""
    held = tracking.held(record.name)
    plan = project(record)
    assert held.keys() == {run.key for run in plan.runs}
    for run in plan.runs:
        found = held[run.key]
        histories: dict[str, list[tuple[int, int, float]]] = {}
        for point in run.points:
            histories.setdefault(point.name, []).append((point.step, point.time, point.value))
        assert found.histories == {name: sorted(points) for name, points in histories.items()}
        assert found.params == run.params
        assert run.tags.items() <= found.tags.items()
        assert (found.parent, found.name) == (run.parent, run.name)
        assert (found.status, found.start, found.end) == (run.status, run.start, run.end)


def test_sending_twice_is_sending_once(tracking: Tracking) -> None:
    record = factory.finished()
    first = tracking.sync(record)
    assert first.created == 29
    assert first.points == sum(len(run.points) for run in project(record).runs)
    assert not first.refused
    assert_holds(tracking, record)
    assert tracking.sync(record) == NOTHING
    assert_holds(tracking, record)


def test_a_study_that_grew_is_the_same_as_one_sent_at_its_end(
    tracking: Tracking, empty_database: Path, tmp_path: Path
) -> None:
    record = factory.finished()
    last = max(opening.time for opening in record.openings)
    for share in (0.01, 0.2, 0.35, 0.5, 0.8):
        earlier = factory.as_of(record, record.created + share * (last - record.created))
        tracking.sync(earlier)
        assert_holds(tracking, earlier)
    tracking.sync(record)
    assert_holds(tracking, record)
    at_once = new_tracking(empty_database, tmp_path, "other.db")
    at_once.sync(record)
    assert tracking.held(record.name) == at_once.held(record.name)


def test_only_what_is_new_is_sent(tracking: Tracking) -> None:
    tracking.sync(factory.running())
    earlier = project(factory.running())
    result = tracking.sync(factory.finished())
    new = sum(len(run.points) for run in project(factory.finished()).runs) - sum(
        len(run.points) for run in earlier.runs
    )
    assert (result.created, result.points, result.params) == (8, new, 0)
    assert result.updated == 1 + 4 + 4  # the study, the arms, the trials that were running


def test_a_request_that_broke_half_way_is_repeated_without_doubles(tracking: Tracking) -> None:
    record = factory.finished()
    tracking.sync(record)
    run = tracking.search(record.name, "tags.arm = 'complex.sce' and tags.trial = '0'")[0]
    tracking.client.delete_tag(run.info.run_id, "kge.sent")
    assert tracking.sync(record).points > 0
    assert_holds(tracking, record)


def test_a_history_that_changed_before_its_end_is_sent_whole(tracking: Tracking) -> None:
    record = factory.finished()
    late = next(trial for trial in record.trials if trial.arm == "transe.sce" and trial.number == 0)
    tracking.sync(replace(record, trials=tuple(trial for trial in record.trials if trial is not late)))
    tracking.sync(record)
    held = tracking.held(record.name)
    for run in project(record).runs:
        found = {(name, *row) for name, rows in held[run.key].histories.items() for row in rows}
        assert found >= {(point.name, point.step, point.time, point.value) for point in run.points}


def test_values_that_others_wrote_do_not_stop_it(tracking: Tracking) -> None:
    record = factory.running()
    tracking.sync(record)
    run = tracking.search(record.name, "tags.stage = 'study'")[0]
    tracking.client.log_batch(run.info.run_id, metrics=[Metric("mine", 1.0, 0, 0)])
    tracking.client.set_tag(run.info.run_id, "mlflow.note.content", "my note")
    tracking.sync(factory.finished())
    found = tracking.client.get_run(run.info.run_id)
    assert found.data.metrics["mine"] == 1.0
    assert found.data.tags["mlflow.note.content"] == "my note"


def test_a_run_that_was_deleted_comes_back(tracking: Tracking) -> None:
    record = factory.finished()
    tracking.sync(record)
    tracking.client.delete_run(
        tracking.search(record.name, "tags.stage = 'arm' and tags.arm = 'transe.sce'")[0].info.run_id
    )
    assert tracking.sync(record).created == 1
    assert_holds(tracking, record)


def test_a_deleted_experiment_is_refused_in_one_sentence(tracking: Tracking) -> None:
    record = factory.finished()
    tracking.sync(record)
    experiment = tracking.client.get_experiment_by_name(record.name)
    assert experiment is not None
    tracking.client.delete_experiment(experiment.experiment_id)
    with pytest.raises(WorldError, match=r"experiment 'two-by-two' must not be deleted .*restore"):
        tracking.sync(record)


def test_a_later_study_of_the_same_name_has_runs_of_its_own(tracking: Tracking) -> None:
    record = factory.finished(trials=1)
    later = replace(record, created=record.created + 1000)
    tracking.sync(record)
    assert tracking.sync(later).created == len(project(record).runs)
    assert tracking.sync(record) == tracking.sync(later) == NOTHING


def test_long_histories_and_many_parameters_stay_within_the_limits_of_a_request(tracking: Tracking) -> None:
    record = factory.finished(trials=1, epochs=300, replicates=0)
    params = tuple((f"option.{index}", index) for index in range(230))
    trials = tuple(replace(trial, params=params) for trial in record.trials[:1])
    record = replace(record, trials=trials, arms=record.arms[:1], selections=(), replicate_records=(), openings=())
    assert tracking.sync(record).points > 2400
    assert_holds(tracking, record)


def test_runs_are_found_by_tags(tracking: Tracking) -> None:
    record = factory.finished()
    tracking.sync(record)

    def found(query: str) -> int:
        return len(tracking.search(record.name, query))

    assert found("tags.model = 'complex'") == 2 * (1 + 4 + 2)
    assert found("tags.model = 'complex' and tags.stage = 'search'") == 8
    assert found("tags.loss = 'sans' and tags.state = 'FAIL' and tags.failure = 'memory'") == 2
    assert found("tags.stage = 'replicate' and metrics.test_mrr > 0") == 8
    assert found("tags.objective = 'smoothed' and tags.stage = 'arm'") == 2
    assert found("params.`optimizer.name` = 'adam' and tags.stage = 'search'") > 0
    best = tracking.search(record.name, "tags.stage = 'arm' and metrics.test_mrr_mean > 0")
    assert {run.data.tags["arm"] for run in best} == {arm.name for arm in record.arms}


def test_the_study_file_and_the_report_are_artifacts(tracking: Tracking, tmp_path: Path) -> None:
    record, report = factory.finished(trials=1), tmp_path / "report"
    assert tracking.sync(record, report).artifacts == 2  # a report that is not there yet is no error
    report.mkdir()
    (report / "index.html").write_text("<p>1</p>")
    assert tracking.sync(record, report).artifacts == 1
    assert tracking.sync(record, report) == NOTHING
    (report / "index.html").write_text("<p>2</p>")
    assert tracking.sync(record, report).artifacts == 1
    assert tracking.sync(record) == NOTHING
    run = tracking.search(record.name, "tags.stage = 'study'")[0]
    folder = Path(tracking.client.download_artifacts(run.info.run_id, ""))
    assert (folder / "study.yaml").read_text() == record.spec
    assert (folder / "report" / "index.html").read_text() == "<p>2</p>"
    assert tracking.artifacts in folder.parents


def test_trouble_with_files_does_not_hold_up_the_numbers(tracking: Tracking) -> None:
    tracking.artifacts.write_text("a file where a folder should be")
    record = factory.finished(trials=1)
    result = tracking.sync(record)
    assert len(result.refused) == 1
    assert "files of run two-by-two" in result.refused[0]
    assert_holds(tracking, record)


def test_a_server_that_is_not_there_is_an_error_of_the_world(tmp_path: Path) -> None:
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    with pytest.raises(WorldError, match="must answer") as caught:
        sync(factory.finished(), uri=uri, artifacts=tmp_path)
    assert "secret" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    assert without_password("postgresql://me:secret@db:5432/mlflow") == "postgresql://***@db:5432/mlflow"
    assert without_password("sqlite:////home/a@b/mlflow.db") == "sqlite:////home/a@b/mlflow.db"


# -- a real server -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Served:
    """A tracking server that can be started again after it was killed."""

    start: Callable[[], "subprocess.Popen[bytes]"]
    uri: str


@pytest.fixture
def serve(empty_database: Path, tmp_path: Path) -> Iterator[Served]:
    """Starts `mlflow server` on the same port and database each time it is called."""
    started: list[subprocess.Popen[bytes]] = []
    shutil.copy(empty_database, tmp_path / "server.db")
    port = str(free_port())

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
        command += ["--artifacts-destination", str(tmp_path / "served")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (tmp_path / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True
            )
        started.append(process)
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        return process

    yield Served(start, f"http://127.0.0.1:{port}")
    for process in started:
        kill(process)


def wait_until_healthy(uri: str, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("the server ended before it answered")


def kill(process: "subprocess.Popen[bytes]") -> None:
    """The server and its workers, which are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_server_fails_the_sync_and_is_caught_up_with_when_it_is_back(
    serve: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve.start()
    tracking = Tracking(serve.uri, tmp_path / "unused")
    tracking.sync(factory.running())
    kill(server)
    with pytest.raises(WorldError, match="must answer"):
        tracking.sync(factory.finished())
    serve.start()
    assert tracking.sync(factory.finished()).created == 8
    assert_holds(tracking, factory.finished())
    assert tracking.sync(factory.finished()) == NOTHING
    assert not (tmp_path / "unused").exists()
    assert capfd.readouterr().out == ""


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WorldError, match="must answer"):
            sync(factory.finished(), uri=uri, artifacts=tmp_path)


# -- the process ---------------------------------------------------------------------------------


def test_rounds_go_on_through_any_trouble_and_log_it_once(caplog: pytest.LogCaptureFixture) -> None:
    troubles: list[Exception | SyncResult] = [
        WorldError("the server is away"),
        WorldError("the server is away"),
        ZeroDivisionError("a bug"),
        NOTHING,
        SyncResult(refused=("run x: too long",)),
        NOTHING,
    ]
    rounds: list[bool] = []

    def one_round(*, last: bool) -> SyncResult:
        rounds.append(last)
        outcome = troubles[len(rounds) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert mirror(one_round, lambda _: len(rounds) == 5)
    assert rounds == [False] * 5 + [True]
    said = [record.message.splitlines()[-1] for record in caplog.records if record.name == "study.tracking"]
    assert said == [
        "the server is away",
        "ZeroDivisionError: a bug",
        "up to date again",
        "run x: too long",
        "up to date again",
    ]


def test_a_last_round_that_failed_is_told() -> None:
    def fail(*, last: bool) -> SyncResult:
        raise WorldError("the server is away")

    assert not mirror(fail, lambda _: True)
