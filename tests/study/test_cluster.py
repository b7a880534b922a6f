"""What is refused before anything is sent to a cluster, what a trial may ask of it, and the manifest for Kubernetes."""

import json
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
from ruamel.yaml import YAML

from study import cli, nodes
from study.config import parse_study
from study.errors import StudyFileError, WorldError
from study.nodes import Slots
from study.runner import Cluster
from study.work import Stop
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
FILE = """\
name: small
dataset: synthetic
arms: {models: [complex], losses: [sce]}
budget: {trials: 2}
search: {random_trials: 2}
"""


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """A command's exit code and its one line."""
    monkeypatch.setattr(sys, "argv", ["study", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert isinstance(left.value.code, int)
    return left.value.code, line


@pytest.mark.parametrize("command", [("submit", "demo"), ("logs", "demo"), ("status", "demo"), ("stop", "demo")])
def test_the_address_must_be_that_of_a_job_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    code, line = refused(monkeypatch, capsys, *command, "--address", "head:8265")
    assert code == 2
    assert line == "error: --address: must be that of a job server such as http://head:8265, got 'head:8265'\n"


@pytest.mark.parametrize("command", [("submit", "demo"), ("resume", "demo"), ("logs", "demo")])
def test_a_job_server_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # Ray would rather go there
    address = f"http://127.0.0.1:{free_port()}"
    code, line = refused(monkeypatch, capsys, *command, "--address", address)
    assert code == 1
    assert line.startswith(f"error: job server {address}: must answer, got ConnectionError: ")


@pytest.mark.parametrize(
    ("option", "path"), [("--home", "runs"), ("--home", "~/runs"), ("--database", "sqlite:///runs/x.db")]
)
def test_a_job_has_no_folder_that_a_path_could_start_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, path: str
) -> None:
    code, line = refused(monkeypatch, capsys, "submit", "demo", "--address", "http://head:8265", option, path)
    assert code == 2
    assert line.startswith(f"error: {option}: must be an absolute path on the cluster, got ")
    assert "runs" in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://study:hunter2@db/study",
        "postgresql://db/s?password=hunter2",
        "postgresql://db/s?sslpassword=hunter2",
    ],
)
def test_no_password_is_sent_to_where_all_users_would_read_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    code, line = refused(monkeypatch, capsys, "submit", "demo", "--address", "http://head:8265", "--database", url)
    assert code == 2
    assert line.startswith("error: --database: must hold no password")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "command", [("run", "demo"), ("status", "demo"), ("submit", "demo", "--address", "http://h:1")]
)
def test_a_port_that_is_no_number_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "postgresql+psycopg://study:hunter2@db:5432x/study"
    code, line = refused(monkeypatch, capsys, *command, "--database", url)
    assert code == 2
    must = "database: must be a URL whose port is a number"
    assert line == f"error: {must}, got postgresql+psycopg://***@db:5432x/study\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("run", "demo"), ("submit", "demo", "--address", "http://h:1")])
@pytest.mark.parametrize(
    ("name", "must"),
    [
        ("o'brien", "--name: must be up to 100 letters, digits, ., _ and -"),
        ("a:b", "--name: must be up to 100 letters, digits, ., _ and -"),
        ("mlflow.db", "study name: must not be that of a file of MLflow"),
        ("mlartifacts", "study name: must not be that of a file of MLflow"),
    ],
)
def test_a_new_study_has_a_name_that_mlflow_takes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: tuple[str, ...],
    name: str,
    must: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line = refused(monkeypatch, capsys, *command, "--name", name)
    assert code == 2
    assert line.startswith(f"error: {must}")
    assert line.endswith(f", got {name!r}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "study"), [((), "small"), (("--name", "other"), "other")])
def test_an_amendment_that_is_sent_goes_to_the_study_of_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], study: str
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(FILE)
    sent: list[dict[str, Any]] = []

    class JobServer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""}
            self.answer([] if self.path.startswith("/api/jobs") else version)

        def do_POST(self) -> None:
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer({"job_id": "1", "submission_id": "1"})

        def answer(self, content: object) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), JobServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        command = ["study", "resume", str(file), "--amend", "--no-wait", "--address", address, *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            cli.main()
        server.shutdown()
    assert left.value.code == 0
    [job] = sent
    name = f" {' '.join(options)}" if options else ""
    assert job["entrypoint"].startswith(
        f"python -m study.cli resume study.yaml --address auto --plain --amend{name} --home"
    )
    assert job["metadata"]["kge-study"] == study


def test_a_study_is_not_run_at_a_job_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = ("--home", str(tmp_path))
    code, line = refused(monkeypatch, capsys, "run", "demo", "--address", "http://head:8265", *home)
    assert code == 2
    assert "`study submit` takes a job server" in line
    assert not list(tmp_path.iterdir())


def test_the_environment_says_where_a_driver_runs_unless_the_option_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KGE_STUDY_ADDRESS", "ray://head:10001")
    command = ("run", "demo", "--home", str(tmp_path))
    assert "got 'ray://head:10001'" in refused(monkeypatch, capsys, *command)[1]
    assert "got 'http://head:8265'" in refused(monkeypatch, capsys, *command, "--address", "http://head:8265")[1]


def test_a_trial_may_ask_for_what_nodes_offer_under_a_name() -> None:
    config = parse_study(f'{FILE}resources: {{custom: {{"accelerator_type:H100": 0.1}}}}', "small.yaml")
    assert config.resources.custom == {"accelerator_type:H100": 0.1}


@pytest.mark.parametrize(("name", "amount"), [("GPU", 1), ("memory", 1), ("berth", 0), ("berth", -1)])
def test_what_has_a_key_of_its_own_or_is_nothing_is_refused(name: str, amount: float) -> None:
    with pytest.raises(StudyFileError, match=rf"small.yaml:6: resources.custom.{name}: must be "):
        parse_study(f"{FILE}resources: {{custom: {{{name}: {amount}}}}}", "small.yaml")


@pytest.fixture
def cluster() -> Any:
    """The manifest for the KubeRay operator."""
    return YAML(typ="safe").load(ROOT / "docs" / "kuberay.yaml")


def pods(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pods of the head and of each group, as the operator asks Kubernetes for them."""
    spec = cluster["spec"]
    groups = (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **each["template"]} for each in groups]


def test_the_manifest_is_one_that_the_operator_and_kubernetes_know(cluster: dict[str, Any]) -> None:
    """Keys as in KubeRay's reference of its API, v1; pods by the schemas of Kubernetes itself."""
    group = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert cluster.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert cluster["spec"].keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["spec"]["headGroupSpec"].keys() == {"serviceType", "rayStartParams", "template"}
    for each in cluster["spec"]["workerGroupSpecs"]:
        assert each.keys() == group
        assert each["minReplicas"] <= each["replicas"] <= each["maxReplicas"]
    version = kubernetes_validate.latest_version()
    for pod in pods(cluster):
        kubernetes_validate.validate(pod, version, strict=True)
    pod["spec"]["containers"][0]["volumMounts"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumMounts"):
        kubernetes_validate.validate(pod, version, strict=True)


def test_the_manifest_gives_every_pod_the_shared_volume_and_the_head_alone_the_password(
    cluster: dict[str, Any],
) -> None:
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert f"ray=={spec['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    head, *workers = (pod["spec"] for pod in pods(cluster))
    for pod in (head, *workers):
        assert pod["volumes"][0]["persistentVolumeClaim"]
        assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["data"]
        assert pod["securityContext"]["runAsNonRoot"]
    assert "PGPASSWORD" in json.dumps(head)
    assert "PGPASSWORD" not in json.dumps(workers)


def test_a_trial_that_fits_no_node_waits_only_where_one_may_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "living", lambda: [{"CPU": 2.0}])
    slots = Slots(cpus=1, gpus=1, max_concurrent=2)
    with pytest.raises(WorldError, match=r"^resources: must fit a node, got 1 CPU, 1 GPU per trial where .*2 CPU\)$"):
        Cluster(address="local", slots=slots, stop=Stop())._await_room()
    Cluster(address="head:6379", slots=slots, stop=Stop())._await_room()


@pytest.mark.parametrize(
    ("slots", "node", "share"),
    [
        (Slots(cpus=1), {"CPU": 4.0}, 1 / 4),
        (Slots(cpus=1, max_concurrent=2), {"CPU": 4.0}, 1 / 2),
        (Slots(cpus=2, custom={"licence": 1}), {"CPU": 16.0, "licence": 3.0}, 1 / 3),
        (Slots(cpus=1, gpus=0.25), {"CPU": 16.0, "GPU": 2.0}, 1 / 4),
        (Slots(cpus=1, gpus=2), {"CPU": 16.0, "GPU": 2.0}, 1.0),
    ],
)
def test_a_trial_has_its_share_of_a_nodes_memory(slots: Slots, node: Mapping[str, float], share: float) -> None:
    assert slots.share(node) == pytest.approx(share)
