"""A submitted study of nodes that share nothing: PostgreSQL with a password, checkpoints in a bucket, a node is lost.

It is submitted while the cluster has its head alone.
Database and bucket are reached by variables of the nodes. What a command says, what it sends and what Ray writes
or shows holds neither secret.
"""

import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from study.records import StudyRecord, TrialState
from study.store import AttemptRecord
from tests.cluster.nodes import Nodes, cluster
from tests.cluster.shells import finished, shell, until
from tests.crash.servers import Postgres, postgres_binaries
from tests.study.buckets import BUCKET, SECRET, Buckets, buckets
from tests.study.front_door import Home, below, is_lost, title

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

PASSWORD = "f3a1c7722b0e4d6b"
EPOCHS, TRIALS = 24, 2  # long enough for a node to join meanwhile
ARMS = ("complex.sce", "distmult.sce")
FILE = f"""\
name: afar
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{trials: {TRIALS}}}
search: {{random_trials: {TRIALS}}}
replicates: 1
resources: {{cpus_per_trial: 0.5, custom: {{berth: 1}}}}
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 128, training.batch_size: 32, validation.every: 1,
        early_stopping.patience: null}}
"""
BERTH = '--resources={"berth": 1}'


@dataclass
class Story:
    """What was seen on the way, and the study at its end."""

    home: Home
    bucket: Buckets
    nodes: Nodes
    titles: list[str]  # of all processes in the middle
    jobs: str  # what the job server tells of its jobs
    said: dict[str, tuple[int, str]]
    record: StudyRecord
    attempts: list[AttemptRecord]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("needs the programs of a PostgreSQL server")
    folder = tmp_path_factory.mktemp("home")
    (folder / "afar.yaml").write_text(FILE)
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres(binaries, password=PASSWORD))
        bucket = stack.enter_context(buckets(folder))
        variables = bucket.variables | {"RAY_AUTH_MODE": "disabled", "PGPASSWORD": PASSWORD}
        nodes = stack.enter_context(cluster(**variables))
        home = Home(folder, "afar", url=postgres.url.replace("study@", f"study:{PASSWORD}@"))
        yield told(nodes, home, bucket, postgres.url)


def told(nodes: Nodes, home: Home, bucket: Buckets, url: str) -> Story:
    folder, said = home.folder, dict[str, tuple[int, str]]()
    places = ("--home", str(folder), "--database", url, "--checkpoints", f"s3://{BUCKET}/kept")
    client = shell(nodes, folder, "submit", str(folder / "afar.yaml"), *places, "--with-code")
    until(lambda: "waiting for a node" in client.said(), nodes, folder, living=client)
    first = nodes.add(BERTH)
    until(lambda: nodes.joined() == 2, nodes, folder, living=client)
    nodes.add(BERTH)
    until(lambda: len(home.rows("SELECT DISTINCT node FROM kge_places")) == 2, nodes, folder, living=client)
    until(lambda: home.charged() >= 4, nodes, folder, living=client)
    titles = [title(pid) for pid in below(1)]
    nodes.kill(first)
    nodes.add(BERTH)
    said["submit"] = finished(client)
    said["status"] = finished(shell(nodes, folder, "status", "afar"))
    with urllib.request.urlopen(f"{nodes.jobs}/api/jobs/", timeout=60) as answer:
        jobs = answer.read().decode()
    return Story(home, bucket, nodes, titles, jobs, said, home.record(), home.attempts())


def test_it_ends_with_exactly_the_budgeted_trials_and_every_epoch_charged_once(story: Story) -> None:
    code, said = story.said["submit"]
    assert code == 0, said
    trials = story.record.trials
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, TRIALS)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, EPOCHS + 1))
    assert any(map(is_lost, story.attempts))


def test_the_database_is_postgresql_and_the_checkpoints_are_in_the_bucket(story: Story) -> None:
    assert not story.home.database.exists()
    keys = story.bucket.keys("kept/afar/trials")
    assert len(keys) == len(ARMS) * TRIALS
    assert all(key.endswith("/best.pt") for key in keys)
    here = sorted(str(file.relative_to(story.home.folder / "afar")) for file in story.home.folder.rglob("*.pt"))
    assert here == [f"replicates/{arm}/0/best.pt" for arm in ARMS]  # what stands for the arms, for MLflow


def test_it_is_known_which_node_trained_what(story: Story) -> None:
    nodes = {each.node for each in story.record.places}
    assert 2 <= len(nodes) <= 3
    lost = {(each.arm, each.trial, each.attempt) for each in story.attempts if is_lost(each)}
    by_attempt = {
        (each.arm, each.trial, each.attempt): each.node for each in story.record.places if each.stage == "search"
    }
    for arm, trial, attempt in lost & by_attempt.keys():
        assert by_attempt[arm, trial, attempt + 1] != by_attempt[arm, trial, attempt]


def test_a_head_alone_waits_for_its_nodes(story: Story) -> None:
    first, *_ = story.said["submit"][1].splitlines()[1:]
    needs = "0.5 CPU, 1 berth per trial where the cluster has 1 x (0 CPU)"
    assert first == f"waiting for a node, 120 s at most: {needs}"


def test_status_from_another_shell_finds_the_database(story: Story) -> None:
    code, said = story.said["status"]
    assert code == 0
    assert said.count(f"{TRIALS} spent, 0 reserved of {TRIALS} trials") == len(ARMS)


@pytest.mark.parametrize("secret", [PASSWORD, SECRET])
def test_no_log_process_list_or_job_shows_a_secret(story: Story, secret: str) -> None:
    written = [file for file in [*story.nodes.files(), *story.home.folder.rglob("*")] if file.is_file()]
    assert not [file for file in written if secret.encode() in file.read_bytes()]
    assert not [each for each in story.titles if secret in each]
    assert "afar" in story.jobs
    assert secret not in story.jobs
