"""The service under Compose, as its user has it: the files under docker/, an .env that new-env.sh made, the commands.

Every deployment has a project name, ports and volumes of its own, and is removed with its volumes. The image
is the one of docker/Dockerfile; TORCH_INDEX, PIP_INDEX_URL and KGE_STUDY_IMAGE reach its build.
"""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
PATIENCE = 600.0  # seconds; a machine may be busy
BUILD = ("TORCH_INDEX", "PIP_INDEX_URL", "KGE_STUDY_IMAGE")
SECRETS = (
    "POSTGRES_PASSWORD",
    "STUDY_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_SECRET_KEY",
    "RAY_TOKEN",
)

Output = subprocess.CompletedProcess[str]


def compose_command() -> list[str]:
    """KGE_TEST_COMPOSE, else `docker compose`, else `docker-compose`."""
    if chosen := os.environ.get("KGE_TEST_COMPOSE"):
        return chosen.split()
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


def new_env(folder: Path, **changes: object) -> Path:
    """An .env as a user makes it, and then some lines of his own."""
    for name in (".env.example", "new-env.sh"):
        shutil.copy(DOCKER / name, folder)
    subprocess.run(["sh", folder / "new-env.sh"], check=True)
    file = folder / ".env"
    with file.open("a") as lines:
        lines.writelines(f"{name}={value}\n" for name, value in changes.items())
    return file


def values(env: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in env.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def run(command: Sequence[str | Path], *, check: bool = True, **options: Any) -> Output:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE, **options)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One Compose project."""

    env: Path
    files: tuple[str, ...]
    workers: int

    @property
    def settings(self) -> Mapping[str, str]:
        return values(self.env)

    @property
    def project(self) -> str:
        return self.settings["COMPOSE_PROJECT_NAME"]

    def command(self, *arguments: str) -> list[str]:
        named = [part for file in self.files for part in ("-f", str(DOCKER / file))]
        return [*compose_command(), "--env-file", str(self.env), "-p", self.project, *named, *arguments]

    def compose(self, *arguments: str, check: bool = True, **options: Any) -> Output:
        return run(self.command(*arguments), check=check, **options)

    def up(self) -> None:
        """Start what does not run and wait until all is healthy."""
        self.compose("up", "-d", "--scale", f"worker={self.workers}")
        self.until_healthy()

    def until_healthy(self) -> None:
        self.until(lambda: set(self.health().values()) == {"healthy"}, self.health)

    def health(self) -> dict[str, str]:
        """Of every container that there should be."""
        there = dict.fromkeys(("db", "mlflow", "head"), "missing")
        there |= {f"worker {number}": "missing" for number in range(self.workers)}
        for service in ("db", "mlflow", "head", "worker"):
            for number, container in enumerate(self.containers(service)):
                name = f"worker {number}" if service == "worker" else service
                there[name] = self.inspect(container)["State"].get("Health", {}).get("Status", "none")
        return there

    def containers(self, service: str) -> list[str]:
        """Running ones, by their names."""
        labels = (f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        return sorted(run(["docker", "ps", "--format", "{{.Names}}", *filters]).stdout.split())

    def inspect(self, container: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(run(["docker", "inspect", container]).stdout)
        return found[0]

    def study(self, *arguments: str, check: bool = True) -> Output:
        """`study` in the head."""
        return self.compose("exec", "-T", "head", "study", *arguments, check=check)

    def run(self, *arguments: str) -> Output:
        """`study` in a container of its own, which is removed afterwards."""
        return self.compose("run", "--rm", "-T", "study", *arguments)

    def save(self, path: str, text: str) -> None:
        self.compose("exec", "-T", "head", "sh", "-c", f"cat > {path}", input=text)

    def rows(self, query: str) -> list[list[str]]:
        """What the studies' database answers."""
        psql = ("psql", "-U", "postgres", "-d", "study", "-X", "-A", "-t", "-F", "|", "-c", query)
        done = self.compose("exec", "-T", "db", *psql)
        return [line.split("|") for line in done.stdout.splitlines() if line]

    def count(self, query: str) -> int:
        return int(self.rows(query)[0][0])

    def counts(self, query: str) -> dict[str, int]:
        return {name: int(count) for name, count in self.rows(query)}

    def address(self, service: str, port: int) -> str:
        """Where Compose says that it is."""
        return "http://" + self.compose("port", service, str(port)).stdout.strip()

    def until(self, happened: Callable[[], object], said: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, said()
            time.sleep(0.5)


@contextmanager
def deployed(folder: Path, *files: str, workers: int, **changes: object) -> Iterator[Deployment]:
    """A deployment that is up; it is removed with all that it holds."""
    changes |= {"COMPOSE_PROJECT_NAME": f"kge-test-{os.getpid()}", "WORKER_CPUS": 1}
    changes |= {"MLFLOW_PORT": free_port(), "RAY_DASHBOARD_PORT": free_port(), "GIT_COMMIT": commit()}
    changes |= {name: os.environ[name] for name in BUILD if name in os.environ}
    service = Deployment(env=new_env(folder, **changes), files=("compose.yaml", *files), workers=workers)
    try:
        service.compose("build", "head")  # the image of all
        service.up()
        yield service
    finally:
        service.compose("down", "--volumes", "--timeout", "5", check=False)


def commit() -> str:
    return run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY).stdout.strip()


def answer(url: str, *, user: str = "", token: str = "", body: object = None) -> tuple[int, bytes]:
    """Status and content of a URL, with and without credentials."""
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
