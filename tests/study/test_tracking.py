"""MLflow holds what the record says, once, whatever was sent before; read back through MLflow's own client."""

import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from mlflow.entities import Metric

from study import cli
from study.database import sqlite_url, without_password
from study.errors import UnknownStudyError, WorldError
from study.history import is_done, study_record
from study.records import Amendment, ArmStop, Continuation, Cost, FailureClass, Place, StudyRecord, TrialState
from study.report.fairness import parities, spendings
from study.tracking.mirror import SyncResult, sync
from study.tracking.process import Mirror, artifact_folder, tracking_uri
from study.tracking.projection import DesiredRun, Plan, project
from study.tracking.views import views
from study.tracking.worker import mirror, sync_command
from tests.ports import free_port
from tests.study import records_factory as factory
from tests.study.mlflow_store import NOTHING, Served, Tracking, copy, kill, new_tracking
from tests.study.saved_study import save

# MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SMALL: dict[str, Any] = {"models": ("complex",), "epochs": 4}  # two arms are enough for MLflow, which takes its time


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


def test_every_run_says_what_it_belongs_to_and_by_which_programs_it_came() -> None:
    record = factory.finished(trials=4, replicates=2)
    first, *others = record.replicate_records
    began = max(trial.started or 0 for trial in record.trials) + 1
    broken = replace(
        first, state=TrialState.FAIL, failure=FailureClass.DIVERGENCE, reason="nan", attempts=3, started=began + 1
    )
    record = replace(
        record,
        passport={**record.passport, "fingerprint": "f" * 64},
        environment={**record.environment, "git commit": "a" * 40},
        continuations=(Continuation(number=1, environment={"git commit": "b" * 40}, time=began),),
        replicate_records=(broken, *others),
    )
    runs = project(record).runs
    common = {"study": "two-by-two", "dataset": record.dataset, "fingerprint": "f" * 64}
    assert all(common.items() <= run.tags.items() and {"stage", "state", "commit"} <= run.tags.keys() for run in runs)
    by_stage = {
        stage: [run for run in runs if run.tags["stage"] == stage] for stage in ("study", "search", "replicate")
    }
    assert [run.tags["seed"] for run in by_stage["study"]] == [str(record.seed)]
    failed = next(run.tags for run in by_stage["search"] if run.tags["state"] == "FAIL")
    [again] = [run.tags for run in by_stage["replicate"] if run.tags["state"] == "FAIL"]
    assert failed.keys() - again.keys() == {"trial", "random"}, "what a replicate is not"
    assert (again["failure"], again["reason"], again["attempts"]) == ("divergence", "nan", "3")
    assert (failed["commit"], again["commit"]) == ("a" * 40, "b" * 40)


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
            epochs += trial.cost.epochs
            if trial.state is TrialState.COMPLETE:
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
        assert dict(history(run, f"test_{name}_mean")) == pytest.approx({3: mean(values)})
        assert dict(history(run, f"test_{name}_std")) == pytest.approx({3: stdev(values)})
    assert run.status == "FINISHED"


def test_a_replicate_shows_the_parameters_it_repeats_and_its_test() -> None:
    record = factory.finished()
    chosen = next(each for each in record.selections if each.arm == "transe.sans")
    each = next(each for each in record.replicate_records if (each.arm, each.index) == ("transe.sans", 1))
    plan = by_name(project(record))
    run = plan["transe.sans/replicate-1"]
    assert run.params == plan[f"transe.sans/{chosen.trial}"].params
    assert (run.tags["stage"], run.tags["seed"]) == ("replicate", str(each.seed))
    assert history(run, "test_hits_at_10") == [(each.best_epoch, dict(each.test_metrics)["hits_at_10"])]
    assert history(run, "best_mrr") == [(each.best_epoch, each.valid_mrr)]


def test_before_the_selection_the_best_trial_is_the_best_so_far() -> None:
    record = factory.running()
    run = by_name(project(record))["complex.sce"]
    usable = [t for t in record.trials if t.arm == "complex.sce" and t.state is TrialState.COMPLETE]
    assert run.tags["best_trial"] == str(max(usable, key=lambda trial: trial.best_mrr or 0).number)
    assert (run.status, run.end) == ("RUNNING", None)
    assert not history(run, "test_mrr_mean")


def test_the_study_shows_its_file_its_budget_and_its_parity() -> None:
    record = factory.finished()
    run = project(record).runs[0]
    assert run.tags["spec_sha256"] == record.spec_sha256
    assert (run.params["budget_unit"], run.tags["budget"]) == ("trials", "4")
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
    assert project(factory.as_of(record, last)) == project(record)


def amended(record: StudyRecord) -> StudyRecord:
    """The study after an amendment that found a better trial for complex.sce and opened its test split again."""
    last = max(opening.time for opening in record.openings)
    first = next(each for each in record.selections if each.arm == "complex.sce")
    second = replace(first, number=1, trial=first.trial + 1, sha256="2" * 64, time=last + 10)
    replicates = tuple(replace(factory.replicate(second, index), valid_mrr=0.9) for index in (2, 3))
    opened = replace(factory.opening(second, replicates=(2, 3), time=last + 20, number=1), amendment=1)
    return replace(
        record,
        selections=(*record.selections, second),
        replicate_records=(*record.replicate_records, *replicates),
        openings=(*record.openings, opened),
        amendments=(
            Amendment(number=1, spec="", spec_sha256="", changes=("a: 1 -> 2", "b"), reopens=True, time=last + 5),
        ),
    )


def test_an_amended_study_keeps_what_was_said_before() -> None:
    record = factory.finished()
    before, after = by_name(project(record)), by_name(project(amended(record)))
    assert after["two-by-two"].tags["amendment.1"] == "a: 1 -> 2; b"
    for name, run in before.items():
        assert after[name].points[: len(run.points)] == run.points
    run, first = after["complex.sce"], before["complex.sce"]
    assert run.tags["selection_sha256"] == "2" * 64
    assert [step for step, _ in history(run, "test_mrr_mean")] == [2, 4]
    assert history(run, "test_mrr_mean")[0] == history(first, "test_mrr_mean")[0]
    assert after["complex.sce/replicate-0"].points == before["complex.sce/replicate-0"].points
    assert after["complex.sce/replicate-2"].params == after["complex.sce/1"].params
    assert history(after["complex.sce/replicate-2"], "best_mrr")[0][1] == 0.9
    more = replace(record.trials[0], number=4, state=TrialState.RUNNING, ended=None)
    running = by_name(project(replace(record, trials=(*record.trials, more))))
    assert (running["complex.sce"].status, running["two-by-two"].status) == ("RUNNING", "RUNNING")


def test_a_stopped_arm_says_why() -> None:
    stop = ArmStop(arm="transe.sce", errors=3, reason="ZeroDivisionError: division by zero (sce.py:41)")
    plan = by_name(project(replace(factory.finished(), stops=(stop,))))
    assert plan["transe.sce"].tags["stopped"] == stop.said
    assert "stopped" not in plan["complex.sce"].tags


def test_a_search_that_found_nothing_is_over() -> None:
    record = factory.finished()
    failed = tuple(
        replace(each, state=TrialState.FAIL, failure=FailureClass.BUG, best_mrr=None, curve=())
        for each in record.trials
    )
    nothing = replace(record, trials=failed, selections=(), replicate_records=(), openings=())
    assert all(is_done(nothing, arm.name) for arm in record.arms)
    assert not any(is_done(replace(nothing, budget=Cost(trials=9)), arm.name) for arm in record.arms), "more will come"
    first = record.arms[0].name
    stranded = replace(
        nothing,
        trials=tuple(each for each in failed if each.arm != first),
        stops=(ArmStop(arm=first, errors=0, reason="it starts from an arm that completed no trial"),),
    )
    assert all(is_done(stranded, arm.name) for arm in record.arms)
    unfrozen = replace(record, selections=(), replicate_records=(), openings=())
    assert not any(is_done(unfrozen, arm.name) for arm in record.arms), "selections are about to be frozen"


def test_trainings_say_where_their_last_attempt_ran() -> None:
    record = factory.finished()
    first = Place(arm="complex.sce", stage="search", trial=3, attempt=0, node="a", host="node-a", device="NVIDIA H100")
    again = replace(first, attempt=1, node="b", host="node-b", device="AMD EPYC")
    replicate = replace(first, stage="replicate", trial=0)
    plan = by_name(project(replace(record, places=(replicate, first, again))))
    said = {name: (run.tags["host"], run.tags["device"]) for name, run in plan.items() if "host" in run.tags}
    assert said == {
        "complex.sce/3": ("node-b", "AMD EPYC"),
        "complex.sce/replicate-0": ("node-a", "NVIDIA H100"),
    }


@pytest.mark.parametrize("unit", ["trials", "epochs", "device_seconds"])
def test_parity_is_that_of_the_report(unit: str) -> None:
    record = factory.finished()
    shown = {parity.unit: parity.factor for parity in parities(record, spendings(record))}
    assert history(project(record).runs[0], f"parity_{unit}")[-1][1] == pytest.approx(shown[unit])


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


def test_a_new_database_file_has_wal(made_database: Path) -> None:
    with closing(sqlite3.connect(made_database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_sending_twice_is_sending_once(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    first = tracking.sync(record)
    assert first.created == 15
    assert first.points == sum(len(run.points) for run in project(record).runs)
    assert not first.refused
    assert_holds(tracking, record)
    assert tracking.sync(record) == NOTHING
    assert_holds(tracking, record)


def test_a_study_that_grew_is_the_same_as_one_sent_at_its_end(
    tracking: Tracking, made_database: Path, tmp_path: Path
) -> None:
    record = factory.finished(**SMALL)
    last = max(opening.time for opening in record.openings)
    for share in (0.01, 0.2, 0.4):
        earlier = factory.as_of(record, record.created + share * (last - record.created))
        tracking.sync(earlier)
        assert_holds(tracking, earlier)
    tracking.sync(record)
    assert_holds(tracking, record)
    at_once = new_tracking(made_database, tmp_path, "other.db")
    at_once.sync(record)
    assert tracking.held(record.name) == at_once.held(record.name)


def test_replicates_that_wait_for_their_test(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    waiting = tuple(replace(each, test_metrics=(), ranks_file=None) for each in record.replicate_records)
    trained = replace(record, replicate_records=waiting, openings=())
    assert by_name(project(trained))["complex.sce"].status == "RUNNING"
    tracking.sync(trained)
    assert_holds(tracking, trained)
    tracking.sync(record)
    assert_holds(tracking, record)


def test_only_what_is_new_is_sent(tracking: Tracking) -> None:
    earlier, later = (project(record) for record in (factory.running(**SMALL), factory.finished(**SMALL)))
    tracking.sync(factory.running(**SMALL))
    result = tracking.sync(factory.finished(**SMALL))
    assert result.created == 4
    assert result.updated == 1 + 2 + 2  # the study, the arms, the trials that were running
    for what in ("points", "params"):
        before, after = (sum(len(getattr(run, what)) for run in plan.runs) for plan in (earlier, later))
        assert getattr(result, what) == after - before


def test_a_request_that_broke_half_way_is_repeated_without_doubles(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    tracking.sync(record)
    run = tracking.search(record.name, "tags.arm = 'complex.sce' and tags.trial = '0'")[0]
    tracking.client.delete_tag(run.info.run_id, "kge.sent")
    assert tracking.sync(record).points > 0
    assert_holds(tracking, record)


def test_a_history_that_changed_before_its_end_is_sent_whole(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    late = next(trial for trial in record.trials if trial.arm == "complex.sce" and trial.number == 0)
    tracking.sync(replace(record, trials=tuple(trial for trial in record.trials if trial is not late)))
    tracking.sync(record)
    held = tracking.held(record.name)
    for run in project(record).runs:
        found = {(name, *row) for name, rows in held[run.key].histories.items() for row in rows}
        assert found >= {(point.name, point.step, point.time, point.value) for point in run.points}


def test_values_that_others_wrote_do_not_stop_it(tracking: Tracking) -> None:
    record = factory.running(**SMALL)
    tracking.sync(record)
    run = tracking.search(record.name, "tags.stage = 'study'")[0]
    tracking.client.log_batch(run.info.run_id, metrics=[Metric("mine", 1.0, 0, 0)])
    tracking.client.set_tag(run.info.run_id, "mlflow.note.content", "my note")
    tracking.sync(factory.finished(**SMALL))
    found = tracking.client.get_run(run.info.run_id)
    assert found.data.metrics["mine"] == 1.0
    assert found.data.tags["mlflow.note.content"] == "my note"


def test_a_run_that_was_deleted_comes_back(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    tracking.sync(record)
    tracking.client.delete_run(
        tracking.search(record.name, "tags.stage = 'arm' and tags.arm = 'complex.sans'")[0].info.run_id
    )
    assert tracking.sync(record).created == 1
    assert_holds(tracking, record)


def test_a_run_that_is_there_twice_is_there_once_afterwards(tracking: Tracking) -> None:
    """As after a request that MLflow took when it had been given up."""
    record = factory.finished(**SMALL)
    tracking.sync(record)
    for run in tracking.search(record.name, "tags.arm = 'complex.sce' and tags.stage != 'search'"):
        tags = {name: value for name, value in run.data.tags.items() if name != "kge.sent"}
        tracking.client.create_run(run.info.experiment_id, run.info.start_time, tags, run.info.run_name)
    result = tracking.sync(record)
    assert (result.created, result.removed) == (0, 3)
    assert_holds(tracking, record)
    assert tracking.sync(record) == NOTHING


def test_an_amended_study_replaces_what_it_said_of_itself(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    stop = ArmStop(arm="complex.sce", errors=3, reason="ZeroDivisionError: division by zero (sce.py:41)")
    tracking.sync(replace(record, stops=(stop,)))
    later = replace(record, budget=Cost(trials=9), replicates=5, spec_sha256="9" * 64)
    assert tracking.sync(later).updated == 3  # with both arms, that have got more to do
    study = tracking.search(record.name, "tags.stage = 'study'")[0]
    shown = {name: study.data.tags[name] for name in ("budget", "replicates", "spec_sha256")}
    assert shown == {"budget": "9", "replicates": "5", "spec_sha256": "9" * 64}
    assert not tracking.search(record.name, "tags.stopped LIKE '%'")
    assert tracking.sync(later) == NOTHING


def test_long_and_foreign_words_are_shortened_once(tracking: Tracking) -> None:
    record = factory.finished(**SMALL | {"trials": 3})
    words = "Größe 大きさ 🦜 'quoted' \"twice\"\t\n" * 1000
    odd = replace(record.trials[2], reason=words, params=(("a long name." * 30, words), ("empty", "")))
    record = replace(record, trials=(*record.trials[:2], odd, *record.trials[3:]))
    assert not tracking.sync(record).refused
    run = tracking.search(record.name, "tags.arm = 'complex.sce' and tags.trial = '2'")[0]
    assert words.startswith(run.data.tags["reason"])
    assert len(run.data.tags["reason"]) == 5000
    assert sorted(map(len, run.data.params.values())) == [0, 500]
    assert tracking.sync(record) == NOTHING


def test_a_deleted_experiment_is_refused_in_one_sentence(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    tracking.sync(record)
    experiment = tracking.client.get_experiment_by_name(record.name)
    assert experiment is not None
    tracking.client.delete_experiment(experiment.experiment_id)
    with pytest.raises(WorldError, match=r"experiment 'two-by-two' must not be deleted .*restore"):
        tracking.sync(record)


def test_a_later_study_of_the_same_name_has_runs_of_its_own(tracking: Tracking) -> None:
    record = factory.finished(**SMALL | {"trials": 1})
    later = replace(record, created=record.created + 1000)
    tracking.sync(record)
    assert tracking.sync(later).created == len(project(record).runs)
    assert tracking.sync(record) == tracking.sync(later) == NOTHING


def test_long_histories_and_many_parameters_stay_within_the_limits_of_a_request(tracking: Tracking) -> None:
    record = factory.finished(trials=1, epochs=300, replicates=0)
    params = tuple((f"option.{index}", index) for index in range(230))
    trials = tuple(replace(trial, params=params) for trial in record.trials[:1])
    record = replace(record, trials=trials, arms=record.arms[:1], selections=(), replicate_records=(), openings=())
    begun = replace(
        trials[0], state=TrialState.RUNNING, params=params[:120], curve=trials[0].curve[:1], reason="", ended=None
    )
    tracking.sync(replace(record, trials=(begun,)))
    assert tracking.sync(record).points > 2400
    assert_holds(tracking, record)


def test_runs_are_found_by_tags(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    tracking.sync(record)

    def found(query: str) -> int:
        return len(tracking.search(record.name, query))

    assert found("tags.model = 'complex'") == 14
    assert found("tags.model = 'complex' and tags.stage = 'search'") == 8
    assert found("tags.loss = 'sans' and tags.state = 'FAIL' and tags.failure = 'memory'") == 1
    assert found("tags.stage = 'replicate' and metrics.test_mrr > 0") == 4
    assert found("tags.objective = 'smoothed' and tags.stage = 'arm'") == 1
    assert found("params.`optimizer.name` = 'adam' and tags.stage = 'search'") > 0
    best = tracking.search(record.name, "tags.stage = 'arm' and metrics.test_mrr_mean > 0")
    assert {run.data.tags["arm"] for run in best} == {arm.name for arm in record.arms}


def test_the_page_of_the_documentation_searches_what_it_says(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    tracking.sync(record)
    page = Path(__file__).resolve().parents[2] / "docs" / "mlflow.md"
    of_arm, good, replicates = re.findall(r"^(?:tags|metrics)\..*'$", page.read_text(), re.MULTILINE)
    trials = [trial for trial in record.trials if trial.arm == "complex.sce"]
    limit = float(re.findall(r"best_mrr > (\S+)", good)[0])
    best = {f"complex.sce/{each.number}" for each in trials if max(m.mrr for m in each.curve) > limit}
    assert 0 < len(best) < len(trials)

    def found(query: str) -> set[str]:
        return {run.info.run_name for run in tracking.search(record.name, query)}

    assert found(of_arm) == {f"complex.sce/{each.number}" for each in trials}
    assert found(good) == best
    assert found(replicates) == {f"{arm.name}/replicate-{index}" for arm in record.arms for index in range(2)}


def test_the_saved_views_find_runs_and_their_columns_are_filled(tracking: Tracking) -> None:
    record = factory.finished(**SMALL)
    tracking.sync(record)
    for tag, text in views(record.created).items():
        assert tracking.experiment_tags(record.name)[tag] == text
        state = json.loads(json.loads(text)["state"])
        runs = tracking.search(record.name, state["searchFilter"])
        filled = {f"tags.`{name}`" for run in runs for name in run.data.tags}
        filled |= {f"metrics.`{name}`" for run in runs for name in run.data.metrics}
        assert filled >= set(state["selectedColumns"])


def test_a_view_that_a_user_has_changed_stays_so_and_one_that_was_deleted_comes_back(tracking: Tracking) -> None:
    tracking.sync(factory.running(**SMALL))
    record = factory.finished(**SMALL)
    changed, deleted, *untouched = views(record.created)
    experiment = tracking.client.get_experiment_by_name(record.name)
    assert experiment is not None
    mine = experiment.tags[changed].replace(", nested", " of mine")
    assert mine != experiment.tags[changed]
    tracking.client.set_experiment_tag(experiment.experiment_id, changed, mine)
    tracking.client.delete_experiment_tag(experiment.experiment_id, deleted)
    tracking.sync(record)
    tags = tracking.experiment_tags(record.name)
    assert tags[changed] == mine
    assert all(tags[name] == views(record.created)[name] for name in (deleted, *untouched))


def test_the_study_file_and_the_report_are_artifacts(tracking: Tracking, tmp_path: Path) -> None:
    record, report = factory.finished(**SMALL | {"trials": 1}), tmp_path / "report"
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
    record = factory.finished(**SMALL | {"trials": 1})
    result = tracking.sync(record)
    assert len(result.refused) == 1
    assert "files of run two-by-two" in result.refused[0]
    assert_holds(tracking, record)


def test_a_server_that_is_not_there_is_an_error_of_the_world(tmp_path: Path) -> None:
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    with pytest.raises(WorldError, match="must answer") as caught:
        sync(factory.finished(**SMALL), uri=uri, artifacts=tmp_path)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_an_error_of_the_world(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database\n" * 100)
    with pytest.raises(WorldError, match=r"must answer, got: .*not a database"):
        sync(factory.finished(**SMALL), uri=f"sqlite:///{tmp_path / 'mlflow.db'}", artifacts=tmp_path)


def test_a_database_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    uri = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/mlflow"
    with pytest.raises(WorldError, match=r"must answer, got: .*refused") as caught:
        sync(factory.finished(**SMALL), uri=uri, artifacts=tmp_path)
    assert "secret" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    for password in ("secret", "se/cret", "secret@", "s://e@cre:t", "secret?x"):
        assert without_password(f"postgresql://me:{password}@db:5432/mlflow") == "postgresql://***@db:5432/mlflow"
        assert without_password(f"no 'redis://:{password}@db/0': a@b") == "no 'redis://***@db/0': a@b"
    assert without_password("https://token@db/x") == "https://***@db/x"
    for key in ("password", "sslpassword", "Password2"):
        assert without_password(f"mysql://db:1/x?a=b&{key}=se@cr/et&c=d") == f"mysql://db:1/x?a=b&{key}=***&c=d"
    for harmless in ("sqlite:////home/a@b/mlflow.db", "http://db:5000/x?user=me", "sqlite:////home/a:b@c/mlflow.db"):
        assert without_password(harmless) == harmless


# -- a real server -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_server_fails_the_sync_and_is_caught_up_with_when_it_is_back(
    serve: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve.start()
    tracking = Tracking(serve.uri, tmp_path / "unused")
    tracking.sync(factory.running(**SMALL))
    kill(server)
    with pytest.raises(WorldError, match="must answer"):
        tracking.sync(factory.finished(**SMALL))
    serve.start()
    assert tracking.sync(factory.finished(**SMALL)).created == 4
    assert_holds(tracking, factory.finished(**SMALL))
    assert tracking.sync(factory.finished(**SMALL)) == NOTHING
    assert not (tmp_path / "unused").exists()
    assert capfd.readouterr().out == ""


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WorldError, match="must answer"):
            sync(factory.finished(**SMALL), uri=uri, artifacts=tmp_path)


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


@dataclass(frozen=True)
class Home:
    """A home folder with one study in its database."""

    folder: Path
    record: StudyRecord

    @property
    def place(self) -> dict[str, Any]:
        """What a driver knows of it."""
        database = sqlite_url(self.folder / self.record.name / "study.db")
        return {"name": self.record.name, "home": self.folder, "database": database}

    @property
    def log(self) -> list[str]:
        return (self.folder / self.record.name / "tracking.log").read_text().splitlines()

    @property
    def tracking(self) -> Tracking:
        return Tracking(tracking_uri(self.folder), artifact_folder(self.folder))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / "home", factory.finished(**SMALL))
    (home.folder / home.record.name).mkdir(parents=True)
    save(home.record, home.place["database"])
    assert study_record(home.place["database"], home.record.name) == home.record
    return home


def test_the_process_sends_the_study_and_its_report_and_ends_when_told(home: Home) -> None:
    report = home.folder / home.record.name / "report"
    report.mkdir()
    (report / "index.html").write_text("<p>report</p>")
    assert Mirror.start(**home.place).finish(timeout=240)
    assert_holds(home.tracking, home.record)
    study = home.tracking.search(home.record.name, "tags.stage = 'study'")[0]
    assert [each.path for each in home.tracking.client.list_artifacts(study.info.run_id, "report")]
    assert len(home.log) == 2  # nothing of MLflow's own chatter
    assert home.log[1].endswith("ended: all is sent")


def test_the_process_survives_its_driver_for_one_last_round(home: Home, made_database: Path) -> None:
    copy(made_database, home.folder / "mlflow.db")
    script = (
        "import sys, time; from pathlib import Path; from study.tracking.process import Mirror\n"
        "mirror = Mirror.start(name=sys.argv[1], home=Path(sys.argv[2]), database=sys.argv[3])\n"
        "print(mirror.pid, flush=True); time.sleep(600)"
    )
    arguments = [str(value) for value in home.place.values()]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        mirror_process = int(driver.stdout.readline())
        driver.kill()
    while runs(mirror_process):
        time.sleep(0.1)
    assert_holds(home.tracking, home.record)
    assert home.log[-1].endswith("ended: all is sent")


def runs(pid: int) -> bool:
    """False once the process has ended, even if nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_process_says_when_it_could_not_send(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert not Mirror.start(**home.place).finish(timeout=240)
    assert "must answer" in home.log[1]
    assert home.log[-1].endswith("ended: `study sync two-by-two` sends what is missing")


def test_a_process_that_does_not_end_in_time_is_ended(home: Home) -> None:
    mirror_process = Mirror.start(**home.place)
    assert not mirror_process.finish(timeout=0.01)
    assert not runs(mirror_process.pid)


def test_the_command_sends_a_study_from_nothing(home: Home, made_database: Path) -> None:
    copy(made_database, home.folder / "mlflow.db")
    assert sync_command(**home.place).created == 15
    assert_holds(home.tracking, home.record)
    assert sync_command(**home.place) == NOTHING
    with pytest.raises(UnknownStudyError, match="unknown here"):
        sync_command(**home.place | {"name": "other"})


def test_mlflows_own_database_is_where_the_home_is(tmp_path: Path) -> None:
    home = tmp_path / "what? 50%41 {ü b}"
    home.mkdir()
    sync(factory.finished(**SMALL), uri=tracking_uri(home), artifacts=artifact_folder(home))
    assert list(tmp_path.rglob("mlflow.db")) == [home / "mlflow.db"]
    assert_holds(Tracking(tracking_uri(home), artifact_folder(home)), factory.finished(**SMALL))


def test_a_tracking_uri_that_is_none_is_one_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:secret@db:5432x/mlflow")
    monkeypatch.setattr(sys, "argv", ["study", "sync", home.record.name, "--home", str(home.folder)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    must = "MLFLOW_TRACKING_URI: must be a URL whose port is a number"
    assert capsys.readouterr().err == f"error: {must}, got postgresql+psycopg://***@db:5432x/mlflow\n"


def test_the_command_fails_where_mlflow_does_not_take_all(
    home: Home, made_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(made_database, home.folder / "mlflow.db")
    artifact_folder(home.folder).write_text("a file where a folder should be")
    monkeypatch.setattr(sys, "argv", ["study", "sync", home.record.name, "--home", str(home.folder)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    assert "created 15" in (said := capsys.readouterr().out)
    assert f"files of run {home.record.name}" in said
