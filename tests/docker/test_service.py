"""The service through its user's day: the demo, then a study while its parts are taken away and given back."""

import json
import os
import pty
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

from tests.docker.deployment import PATIENCE, REPOSITORY, Deployment, answer, commit, deployed, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

DEMO = {f"demo/{model}.{loss}": 3 for model in ("distmult", "complex") for loss in ("sce", "sce_ls", "sans")}
REPORT = "/data/studies/demo/report/index.html"

TRIALS, EPOCHS = 4, 30
ARMS = ("complex.sce", "distmult.sce")
FILE = f"""\
name: faults
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{trials: {TRIALS}}}
search: {{random_trials: {TRIALS}}}
replicates: 1
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 256, training.batch_size: 16, validation.every: 1,
        early_stopping.patience: null}}
"""
TYPED = f"""\
name: typed
dataset: synthetic
seed: 3
arms: {{models: [distmult], losses: [sce]}}
budget: {{trials: 1}}
search: {{random_trials: 1}}
replicates: 1
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 256, training.batch_size: 16, validation.every: 1,
        early_stopping.patience: null}}
"""
_CHARGES = "SELECT count(*) FROM kge_charges WHERE study = 'faults'"
_LOST = "SELECT count(*) FROM kge_attempts WHERE study = 'faults' AND failure = 'infrastructure'"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("service"), workers=2) as up:
        yield up


@pytest.fixture(scope="module")
def demo(service: Deployment) -> str:
    return service.run("run", "demo", "--plain").stdout


def runs(service: Deployment, name: str) -> list[dict[str, Any]]:
    """All runs of a study in MLflow, at the address that Compose prints."""
    api = service.address("mlflow", 5000) + "/api/2.0/mlflow"
    status, found = answer(f"{api}/experiments/get-by-name?experiment_name={name}")
    assert status == 200, found
    wanted = {"experiment_ids": [json.loads(found)["experiment"]["experiment_id"]], "max_results": 1000}
    status, content = answer(f"{api}/runs/search", body=wanted)
    assert status == 200, content
    listed: list[dict[str, Any]] = json.loads(content)["runs"]
    return listed


def tag(listed: dict[str, Any], name: str) -> str:
    tags = {each["key"]: each["value"] for each in listed["data"]["tags"]}
    return str(tags.get(name, ""))


def stages(service: Deployment, name: str) -> Counter[str]:
    return Counter(tag(each, "stage") for each in runs(service, name))


def study_run(service: Deployment, name: str) -> dict[str, Any]:
    return next(each for each in runs(service, name) if tag(each, "stage") == "study")


def report(service: Deployment, name: str) -> str:
    """As MLflow hands it out."""
    run_id = study_run(service, name)["info"]["run_id"]
    status, page = answer(f"{service.address('mlflow', 5000)}/get-artifact?path=report/index.html&run_uuid={run_id}")
    assert status == 200, page
    return page.decode()


def trials(service: Deployment, name: str) -> dict[str, int]:
    """Complete trials of every arm, counted by PostgreSQL."""
    query = f"""SELECT study_name, count(*) FROM trials JOIN studies USING (study_id)
        WHERE study_name LIKE '{name}/%' AND state = 'COMPLETE' GROUP BY study_name"""
    there = service.count("SELECT count(*) FROM pg_tables WHERE tablename = 'trials'")
    return service.counts(query) if there else {}


def test_nothing_of_ours_runs_as_root(service: Deployment) -> None:
    for name in ("mlflow", "head", "worker"):
        assert service.compose("exec", "-T", name, "id", "-u").stdout.strip() == "10001"


def test_ports_are_open_to_this_machine_alone(service: Deployment) -> None:
    found = [service.inspect(name) for kind in ("db", "mlflow", "head", "worker") for name in service.containers(kind)]
    ports = [port for each in found for bound in each["HostConfig"]["PortBindings"].values() for port in bound]
    assert [port["HostIp"] for port in ports] == ["127.0.0.1"] * 2


def test_only_the_head_knows_the_passwords(service: Deployment) -> None:
    worker = service.inspect(service.containers("worker")[0])["Config"]["Env"]
    assert not [each for each in worker if each.startswith(("PGPASSWORD", "KGE_STUDY_DATABASE", "MLFLOW_TRACKING"))]


def test_the_demo_runs_on_the_workers_and_is_in_postgresql(service: Deployment, demo: str) -> None:
    assert f"report: {REPORT}" in demo
    assert trials(service, "demo") == DEMO


def test_containers_of_their_own_say_and_report_what_the_head_does(service: Deployment, demo: str) -> None:
    assert service.run("status", "demo").stdout == service.study("status", "demo").stdout
    assert REPORT in service.run("report", "demo").stdout.splitlines()
    assert service.containers("study") == []


def test_up_starts_no_study(service: Deployment) -> None:
    service.up()
    labelled = f"label=com.docker.compose.project={service.project}"
    listed = run(["docker", "ps", "-a", "--filter", labelled, "--format", "{{.Names}}"]).stdout.splitlines()
    assert len(listed) == 3 + service.workers


def test_ctrl_c_settles_the_study_of_a_container(service: Deployment) -> None:
    """Typed into the terminal of the documented command; then the study goes on from another container."""
    service.save("/data/typed.yaml", TYPED)
    charged = "SELECT count(*) FROM kge_charges WHERE study = 'typed'"
    registered = "SELECT count(*) FROM pg_tables WHERE tablename = 'kge_charges'"
    with terminal(service.command("run", "--rm", "study", "run", "/data/typed.yaml", "--plain")) as (study, typing):
        service.until(
            lambda: study.poll() is not None or (service.count(registered) and service.count(charged)), service.health
        )
        assert study.poll() is None
        os.write(typing, b"\x03")
        said = everything(typing)
        assert study.wait(PATIENCE) == 130, said
    assert "interrupted: `study resume typed --address auto` continues it" in said
    assert "no driver is running: `study resume typed`" in service.study("status", "typed").stdout
    before = service.count(charged)
    service.run("resume", "typed", "--plain")
    assert trials(service, "typed") == {"typed/distmult.sce": 1}
    assert service.count(charged) > before
    assert service.count(charged + " AND stage = 'search'") == EPOCHS
    assert service.count("SELECT count(*) FROM kge_attempts WHERE study = 'typed' AND ended IS NULL") == 0


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A command in a terminal of its own, and the end that a person types at."""
    typing, shown = pty.openpty()
    with subprocess.Popen(command, stdin=shown, stdout=shown, stderr=shown, start_new_session=True) as process:
        os.close(shown)
        try:
            yield process, typing
        finally:
            process.kill()
            os.close(typing)


def everything(terminal: int) -> str:
    """What a terminal shows until the command has ended."""
    said = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while chunk := os.read(terminal, 4096):
            said += chunk
    return said.decode()


def test_its_runs_and_its_report_are_in_mlflow(service: Deployment, demo: str) -> None:
    assert stages(service, "demo") == {"study": 1, "arm": 6, "search": 18, "replicate": 12}
    assert report(service, "demo") == service.compose("exec", "-T", "head", "cat", REPORT).stdout


def test_the_image_knows_its_commit(service: Deployment, demo: str) -> None:
    assert tag(study_run(service, "demo"), "environment.git commit") == commit()


def test_a_study_outlives_each_part_of_the_service_and_the_whole(service: Deployment, demo: str) -> None:
    service.save("/data/faults.yaml", FILE)
    with driver(service, "run", "/data/faults.yaml") as first:
        goes_on(service, first, 5)
        lose_a_worker(service, first)
        service.compose("stop", "mlflow")
        goes_on(service, first, 5)
        restart_the_database(service, first)
        goes_on(service, first, 5)
        lose_the_head(service)
        assert first.wait(PATIENCE) != 0
    with driver(service, "resume", "faults") as second:
        goes_on(service, second, 5)
        service.compose("down")
        assert second.wait(PATIENCE) != 0
    service.up()
    charged = service.count(_CHARGES)
    assert trials(service, "demo") == DEMO
    with driver(service, "resume", "faults") as third:
        goes_on(service, third, 5)
        service.compose("stop", "mlflow")
        said, _ = third.communicate(timeout=2 * PATIENCE)  # all that is left of the study
    assert third.returncode == 0, said
    assert "`study sync faults` sends the rest" in said
    assert service.count(_CHARGES) > charged
    ends_exactly(service)
    service.up()
    catches_up(service)
    assert stages(service, "demo").total() == 37


@contextmanager
def driver(service: Deployment, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The documented command, in the background."""
    command = service.command("exec", "-T", "head", "study", *arguments, "--address", "auto", "--plain")
    with subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def goes_on(service: Deployment, study: "subprocess.Popen[str]", epochs: int) -> None:
    """Until so many epochs more are charged, while the study runs."""
    registered = service.count("SELECT count(*) FROM pg_tables WHERE tablename = 'kge_charges'")
    enough = (service.count(_CHARGES) if registered else 0) + epochs
    service.until(lambda: study.poll() is not None or service.count(_CHARGES) >= enough, service.health)
    assert study.poll() is None, study.communicate()[0]


def lose_a_worker(service: Deployment, study: "subprocess.Popen[str]") -> None:
    """In the middle of a trial, which the other one takes over; Docker starts it again."""
    container = service.containers("worker")[0]
    kill_all_in(container)
    service.until(lambda: study.poll() is not None or service.count(_LOST), service.health)
    goes_on(service, study, 5)
    service.until(lambda: service.inspect(container)["RestartCount"] > 0, service.health)


def lose_the_head(service: Deployment) -> None:
    """And with it all that Ray knows, and the driver; the workers notice, end, are started again and join."""
    kill_all_in(service.containers("head")[0])
    service.until(lambda: workers(service) == service.workers, service.health)


def kill_all_in(container: str) -> None:
    run(["docker", "exec", container, "sh", "-c", "kill -9 -1"], check=False)


def workers(service: Deployment) -> int:
    """Nodes that are alive and not the head, by the dashboard; -1 while it does not answer."""
    try:
        _, content = answer(service.address("head", 8265) + "/nodes?view=summary")
        nodes = [each["raylet"] for each in json.loads(content)["data"]["summary"]]
    except (OSError, KeyError, ValueError):
        return -1
    return sum(node.get("state") == "ALIVE" and not node.get("isHeadNode") for node in nodes)


def restart_the_database(service: Deployment, study: "subprocess.Popen[str]") -> None:
    """Away until the driver has noticed."""
    grep = ("exec", "-T", "head", "grep", "-c", "trying again", "/data/studies/faults/driver.log")
    service.compose("stop", "db")
    service.until(lambda: service.compose(*grep, check=False).returncode == 0, service.health)
    assert study.poll() is None
    service.compose("start", "db")


def ends_exactly(service: Deployment) -> None:
    """Every trial of the budget, each epoch of it charged once, nothing left running."""
    assert trials(service, "faults") == {f"faults/{arm}": TRIALS for arm in ARMS}
    assert service.count("SELECT count(*) FROM trials WHERE state NOT IN ('COMPLETE')") == 0
    charged = service.counts(
        "SELECT arm || ' ' || stage, count(*) FROM kge_charges WHERE study = 'faults' GROUP BY arm, stage"
    )
    search = {f"{arm} search": TRIALS * EPOCHS for arm in ARMS}
    assert charged == search | {f"{arm} replicate": EPOCHS for arm in ARMS}
    assert service.count("SELECT count(*) FROM kge_attempts WHERE ended IS NULL") == 0
    assert service.count(_LOST) > 0


def catches_up(service: Deployment) -> None:
    """MLflow holds what the database holds, and the second time there is nothing to send."""
    service.study("sync", "faults")
    assert stages(service, "faults") == {"study": 1, "arm": 2, "search": 2 * TRIALS, "replicate": 2}
    assert {each["info"]["status"] for each in runs(service, "faults")} == {"FINISHED"}
    assert service.study("sync", "faults").stdout.startswith("created 0, updated 0, points 0, params 0")


def test_a_backup_fills_a_new_service(service: Deployment, demo: str, tmp_path: Path) -> None:
    """By the commands of docs/docker.md."""
    before = trials(service, "demo"), stages(service, "demo"), service.study("status", "demo").stdout
    documented = (REPOSITORY / "docs" / "docker.md").read_text()
    commands = re.findall(r"^docker compose (exec -T .+) ([<>]) (\S+\.(?:dump|tar))$", documented, re.MULTILINE)
    assert [way for _, way, _ in commands] == [">"] * 4 + ["<"] * 4
    for command, _, file in commands[:4]:
        (tmp_path / file).write_bytes(subprocess.check_output(service.command(*command.split())))
    service.compose("down", "--volumes")
    service.up()
    assert trials(service, "demo") == {}
    service.compose("stop", "mlflow")
    for command, _, file in commands[4:]:
        if file.endswith(".tar"):
            service.up()
        with (tmp_path / file).open("rb") as saved:
            subprocess.run(service.command(*command.split()), stdin=saved, check=True)
    assert (trials(service, "demo"), stages(service, "demo"), service.study("status", "demo").stdout) == before
    assert report(service, "demo") == service.compose("exec", "-T", "head", "cat", REPORT).stdout
