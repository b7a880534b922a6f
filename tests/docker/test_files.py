"""What Compose says of the files, and the secrets that they are given; nothing is started."""

from itertools import product
from pathlib import Path

import pytest

from tests.docker.deployment import DOCKER, SECRETS, compose_command, new_env, run, values

pytestmark = pytest.mark.docker

EXTRAS = [
    tuple(name for name in chosen if name) for chosen in product(("compose.gpu.yaml", ""), ("compose.auth.yaml", ""))
]


def config(env: Path, *files: str) -> str:
    named = [part for file in ("compose.yaml", *files) for part in ("-f", str(DOCKER / file))]
    return run([*compose_command(), "--env-file", str(env), *named, "config"]).stdout


@pytest.mark.parametrize("extras", EXTRAS, ids=lambda extras: "+".join(("compose.yaml", *extras)))
def test_every_combination_of_files_is_accepted(tmp_path: Path, extras: tuple[str, ...]) -> None:
    assert "worker" in config(new_env(tmp_path), *extras)


def test_new_env_makes_secrets_that_nobody_else_reads_and_never_replaces_them(tmp_path: Path) -> None:
    file = new_env(tmp_path)
    secrets = [values(file)[name] for name in SECRETS]
    assert all(len(secret) == 48 for secret in secrets)
    assert len(set(secrets)) == len(SECRETS)
    assert file.stat().st_mode & 0o077 == 0
    before = file.read_text()
    again = run(["sh", tmp_path / "new-env.sh"], check=False)
    assert again.returncode == 2
    assert "must not exist" in again.stderr
    assert file.read_text() == before


def test_without_a_password_nothing_starts(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    named = ("-f", str(DOCKER / "compose.yaml"))
    done = run([*compose_command(), "--env-file", str(empty), *named, "config"], check=False)
    assert done.returncode != 0
    assert "sh new-env.sh makes one" in done.stderr
