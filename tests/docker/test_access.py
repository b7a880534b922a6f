"""The service with compose.auth.yaml: no credentials, nothing to read or submit; and no secret is written down."""

import json
import os
from collections.abc import Iterator

import pytest

from tests.docker.deployment import SECRETS, Deployment, answer, deployed, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

FILE = """\
name: guarded
dataset: synthetic
seed: 0
arms: {models: [distmult], losses: [sce]}
budget: {trials: 1}
search: {random_trials: 1}
replicates: 1
fixed: {training.max_epochs: 2, model.dim: 16}
"""
JOB = {"entrypoint": "touch /tmp/intruder"}
MLFLOW = (
    "/",
    "/ajax-api/2.0/mlflow/experiments/search?max_results=9",
    "/api/2.0/mlflow/experiments/search?max_results=9",
)
RAY = ("/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/tasks", "/api/cluster_status")
AGENT = "http://worker:52365/api/job_agent/jobs/"
STATUS = ("ray", "status", "--address", "head:6379")
SERVICES = ("db", "mlflow", "head", "worker")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("guarded"), "compose.auth.yaml", workers=1) as up:
        yield up


@pytest.fixture(scope="module")
def guarded(service: Deployment) -> str:
    """A whole study: everyone who needs credentials has them."""
    service.save("/data/guarded.yaml", FILE)
    return service.study("run", "/data/guarded.yaml", "--address", "auto", "--plain").stdout


def admin(service: Deployment) -> str:
    return f"admin:{service.settings['MLFLOW_ADMIN_PASSWORD']}"


def test_a_study_runs_and_is_in_mlflow(service: Deployment, guarded: str) -> None:
    assert "report: /data/studies/guarded/report/index.html" in guarded
    assert "not up to date" not in guarded
    url = service.address("mlflow", 5000) + "/api/2.0/mlflow/experiments/get-by-name?experiment_name=guarded"
    status, found = answer(url, user=admin(service))
    assert status == 200, found
    assert answer(url)[0] == 401


def test_a_container_that_drives_a_study_has_the_credentials_too(service: Deployment, guarded: str) -> None:
    assert "is finished, nothing is left to train or to rank" in service.run("resume", "guarded", "--plain").stdout
    assert service.containers("study") == []


@pytest.mark.parametrize("path", MLFLOW)
def test_mlflow_shows_nothing_without_the_password(service: Deployment, path: str) -> None:
    url = service.address("mlflow", 5000) + path
    assert answer(url)[0] == 401
    assert answer(url, user="admin:wrong")[0] == 401
    assert answer(url, user=admin(service))[0] == 200


def test_mlflow_takes_nothing_and_hands_out_no_file_without_the_password(service: Deployment, guarded: str) -> None:
    base = service.address("mlflow", 5000)
    for prefix in ("/api", "/ajax-api"):
        assert answer(f"{base}{prefix}/2.0/mlflow/experiments/create", body={"name": "intruder"})[0] == 401
        assert answer(f"{base}{prefix}/2.0/mlflow-artifacts/artifacts")[0] == 401
    run_id = report_run(service)
    page = f"{base}/get-artifact?path=report/index.html&run_uuid={run_id}"
    assert answer(page)[0] == 401
    assert answer(page, user=admin(service))[0] == 200


def report_run(service: Deployment) -> str:
    api = service.address("mlflow", 5000) + "/api/2.0/mlflow"
    _, found = answer(f"{api}/experiments/get-by-name?experiment_name=guarded", user=admin(service))
    wanted = {"experiment_ids": [json.loads(found)["experiment"]["experiment_id"]], "filter": "tags.stage = 'study'"}
    _, runs = answer(f"{api}/runs/search", body=wanted, user=admin(service))
    return str(json.loads(runs)["runs"][0]["info"]["run_id"])


@pytest.mark.parametrize("path", RAY)
def test_ray_shows_nothing_without_the_token(service: Deployment, path: str) -> None:
    url = service.address("head", 8265) + path
    assert answer(url)[0] == 401
    assert answer(url, token="0" * 48)[0] in (401, 403)
    assert answer(url, token=service.settings["RAY_TOKEN"])[0] == 200


def test_ray_takes_no_job_without_the_token(service: Deployment) -> None:
    url = service.address("head", 8265) + "/api/jobs/"
    assert answer(url, body=JOB)[0] == 401
    status, jobs = answer(url, token=service.settings["RAY_TOKEN"])
    assert status == 200
    assert not [job for job in json.loads(jobs) if job["entrypoint"] == JOB["entrypoint"]]


@pytest.mark.parametrize(
    "command",
    [
        STATUS,
        ("ray", "start", "--block", "--address", "head:6379"),
        ("ray", "job", "submit", "--address", "http://head:8265", "--", "touch", "/tmp/intruder"),
        ("python", "-c", "import ray; ray.init('ray://head:10001')"),
        ("python", "-c", f"import urllib.request as u; u.urlopen(u.Request('{AGENT}', data=b'{json.dumps(JOB)}'))"),
        ("python", "-c", "import psycopg; psycopg.connect('host=db user=study dbname=study connect_timeout=30')"),
    ],
    ids=["status", "join", "submit", "client", "agent", "database"],
)
def test_a_container_in_the_same_network_gets_in_nowhere(service: Deployment, command: tuple[str, ...]) -> None:
    code, said = stranger(service, command)
    assert code not in (0, 124), said
    assert any(word in said for word in ("uthenticat", "Unauthorized", "password", "Client connection timed out")), said


def test_the_same_container_gets_in_with_the_token(service: Deployment) -> None:
    code, said = stranger(service, STATUS, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=service.settings["RAY_TOKEN"])
    assert code == 0, said


def stranger(service: Deployment, command: tuple[str, ...], **environment: str) -> tuple[int, str]:
    """A command in a container of our image in the same network, which is told no more than this."""
    image = service.inspect(service.containers("head")[0])["Config"]["Image"]
    told = [part for name in environment for part in ("-e", name)]
    network = ("--network", f"{service.project}_default")
    docker = ("docker", "run", "--rm", "--init", *network, *told, image, "timeout", "120")
    done = run([*docker, *command], check=False, env=os.environ | environment)
    return done.returncode, done.stdout + done.stderr


def test_no_secret_is_among_the_arguments_of_a_process(service: Deployment, guarded: str) -> None:
    containers = [name for kind in SERVICES for name in service.containers(kind)]
    seen = "".join(run(["docker", "top", name, "-eo", "pid,args"]).stdout for name in containers)
    assert "ray" in seen
    assert revealed(service, seen) == []


def test_no_secret_is_in_a_log_a_report_or_mlflow(service: Deployment, guarded: str) -> None:
    assert revealed(service, service.compose("logs", "--no-color").stdout) == []
    dump = ("exec", "-T", "db", "pg_dump", "-U", "postgres")
    dumps = "".join(service.compose(*dump, name).stdout for name in ("study", "mlflow"))
    assert "guarded" in dumps
    assert revealed(service, dumps) == []
    secrets = "\n".join(service.settings[name] for name in SECRETS)
    for name in ("mlflow", "head", "worker"):  # the secrets go in by standard input, too
        found = service.compose("exec", "-T", name, "grep", "-rlFf", "-", "/data", "/tmp", check=False, input=secrets)
        assert found.stdout == ""
        assert found.returncode in (1, 2), found.stderr  # 2: a socket could not be read


def revealed(service: Deployment, text: str) -> list[str]:
    return [name for name in SECRETS if service.settings[name] in text]
