"""A submitted study: its client is killed, a third node joins, another is lost, the study is stopped and resumed.

Everything is said from other shells than the one that submitted it, which has nothing but the address.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from study.records import StudyRecord, TrialState
from study.store import AttemptRecord
from tests.cluster.nodes import Nodes, cluster
from tests.cluster.shells import finished, shell, until
from tests.study.front_door import Home, is_lost

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

EPOCHS, TRIALS = 24, 4  # long enough for a node to join meanwhile
ARMS = ("complex.sce", "distmult.sce")
FILE = f"""\
name: nodes
dataset: synthetic
seed: 3
arms: {{models: [complex, distmult], losses: [sce]}}
budget: {{trials: {TRIALS}}}
search: {{random_trials: {TRIALS}}}
replicates: 1
resources: {{cpus_per_trial: 0.5, custom: {{berth: 1}}}}
fixed: {{training.max_epochs: {EPOCHS}, model.dim: 256, training.batch_size: 32, validation.every: 1,
        early_stopping.patience: null}}
"""
BERTH = '--resources={"berth": 1}'  # room for one trial, whatever processors there are


@dataclass
class Story:
    """What each command said, and the study at its end."""

    said: dict[str, tuple[int, str]] = field(default_factory=dict)
    running: int = 0  # trials at once after a third node had joined
    record: StudyRecord | None = None
    attempts: list[AttemptRecord] = field(default_factory=list)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with cluster(RAY_AUTH_MODE="disabled") as found:
        yield found


@pytest.fixture(scope="module")
def story(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("home")
    home, told = Home(folder, "nodes"), Story()
    (folder / "nodes.yaml").write_text(FILE)
    first, _ = nodes.add(BERTH), nodes.add(BERTH)
    until(lambda: nodes.joined() == 3, nodes, folder)
    client = shell(nodes, folder, "submit", str(folder / "nodes.yaml"), "--home", str(folder), "--with-code")
    until(lambda: home.charged() >= 4, nodes, folder, living=client)
    client.kill_all()

    told.said["status"] = finished(shell(nodes, folder, "status", "nodes"))
    nodes.add(BERTH)
    until(lambda: running(home) == 3, nodes, folder)
    told.running = 3
    nodes.kill(first)
    until(lambda: any(map(is_lost, home.attempts())), nodes, folder)
    told.said["stop"] = finished(shell(nodes, folder, "stop", "nodes"))
    told.said["stopped"] = finished(shell(nodes, folder, "logs", "nodes"))
    told.said["resume"] = finished(shell(nodes, folder, "resume", "nodes", "--no-wait"))
    told.said["logs"] = finished(shell(nodes, folder, "logs", "nodes"))
    told.record, told.attempts = home.record(), home.attempts()
    return told


def running(home: Home) -> int:
    """Trials that have a worker: each was begun, has not ended, and has been measured since."""
    rows = home.rows(
        """SELECT DISTINCT a.arm, a.trial FROM kge_attempts a JOIN kge_charges c
        ON c.arm = a.arm AND c.stage = a.stage AND c.trial = a.trial AND c.time > a.started WHERE a.ended IS NULL"""
    )
    return len(rows)


def test_what_the_shells_are_told(story: Story) -> None:
    assert {what: code for what, (code, _) in story.said.items()} == {
        "status": 0,
        "stop": 0,
        "stopped": 130,
        "resume": 0,
        "logs": 0,
    }
    assert "trials" in story.said["status"][1]
    assert "has ended" in story.said["stop"][1]
    assert "interrupted: `study resume nodes" in story.said["stopped"][1]
    assert "nodes/report/index.html" in story.said["logs"][1]


def test_a_study_outlives_its_client_and_a_node(story: Story) -> None:
    assert any(map(is_lost, story.attempts))


def test_nodes_that_join_are_made_use_of(story: Story) -> None:
    assert story.running == 3


def test_it_ends_with_exactly_the_budgeted_trials_and_every_epoch_charged_once(story: Story) -> None:
    assert story.record is not None
    trials = story.record.trials
    assert Counter(trial.arm for trial in trials) == dict.fromkeys(ARMS, TRIALS)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert [each.epoch for each in trial.curve] == list(range(1, EPOCHS + 1))


def test_replicates_are_tested(story: Story) -> None:
    assert story.record is not None
    assert [(each.arm, each.state) for each in story.record.replicate_records] == [
        (arm, TrialState.COMPLETE) for arm in ARMS
    ]
    assert all(each.test_metrics for each in story.record.replicate_records)


def test_the_record_knows_the_nodes(story: Story) -> None:
    assert story.record is not None
    assert story.record.environment["nodes"] == "1 x (0 CPU), 2 x (1 CPU, 1 berth)"
    assert story.record.environment["git commit"]  # of the program that was sent along
