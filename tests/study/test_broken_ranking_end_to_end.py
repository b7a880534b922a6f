"""A fresh seed whose answers to the test split are not finite: the study goes on without it.

Its driver, as it were, died after it had noted the opening; and what one replicate knows of a relation that is asked
about in the test split alone is not finite.

resume   to the end: this replicate has failed, the others are ranked
resume   again: nothing is left
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kge import synthetic
from kge.catalog import load
from kge.data import Dataset
from kge.documents import parse_config
from kge.fitting import fit
from study.layout import best_checkpoint, replicate_folder
from study.records import FailureClass, ReplicateRecord, StudyRecord, TrialState
from study.replicate import replicate_config
from tests.study.front_door import Home
from tests.study.toy_study import NS, SCE, Toy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a driver starts Ray, and a machine may be busy

PATIENCE = 300.0  # seconds
BROKEN = (SCE, 1)
NEW = "asked_in_test_only"
REASON = "test split: DivergenceError: a score of a head query is not finite (evaluation.py:"


@dataclass
class Story:
    """The study after each of its lives, and what was said in the last two."""

    home: Home
    ranked: tuple[int, str]
    record: StudyRecord
    again: tuple[int, str]
    last: StudyRecord

    def replicates(self) -> dict[tuple[str, int], tuple[TrialState, bool, str]]:
        return {
            (each.arm, each.index): (each.state, bool(each.test_metrics), each.reason)
            for each in self.record.replicate_records
        }


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    toy, graph = Toy(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("data") / "graph"
    write_graph(graph)
    toy.launch(("synthetic", str(graph)))
    toy.go_on(tests=0)
    dataset, record = load(str(graph)), toy.record()
    for replicate in record.replicate_records:
        train(toy.folder, record, replicate, dataset)
    home = Home(toy.home, "toy")
    ranked = resume(home)
    after = home.record()
    return Story(home, ranked, after, resume(home), home.record())


def resume(home: Home) -> tuple[int, str]:
    driver = home.start("resume", "toy", "--plain")
    try:
        return driver.wait(PATIENCE), driver.said()
    finally:
        driver.kill_all()


def train(folder: Path, record: StudyRecord, replicate: ReplicateRecord, dataset: Dataset) -> None:
    """Leave the checkpoint that a replicate leaves, broken for one of them."""
    selection = record.current_selection(replicate.arm)
    assert selection is not None
    checkpoint = folder / best_checkpoint(replicate_folder(replicate.arm, replicate.index))
    config = parse_config(replicate_config(selection, seed=replicate.seed, source=None))
    for _ in fit(config, dataset.sealed(), directory=checkpoint.parent):
        pass
    if (replicate.arm, replicate.index) == BROKEN:
        content = torch.load(checkpoint, weights_only=True)
        content["model"]["relations"][list(dataset.relations).index(NEW)] = torch.inf
        torch.save(content, checkpoint)


def write_graph(folder: Path) -> None:
    """The built-in graph with one relation more, which only the test split asks about."""
    folder.mkdir()
    for split, known in synthetic.triples().items():
        triples = list(known)
        if split == "test":
            head, _, tail = triples[0]
            triples.append((head, NEW, tail))
        (folder / f"{split}.txt").write_text("".join("\t".join(triple) + "\n" for triple in triples))


def test_it_is_a_failed_replicate_of_its_arm_and_the_others_are_ranked(story: Story) -> None:
    assert story.ranked[0] == 0, story.ranked[1]
    replicates = story.replicates()
    assert len(replicates) == 4
    state, tested, reason = replicates.pop(BROKEN)
    assert (state, tested) == (TrialState.FAIL, False)
    assert reason.startswith(REASON)
    assert {(state, tested) for state, tested, _ in replicates.values()} == {(TrialState.COMPLETE, True)}
    assert f"replicate 1: FAIL, {reason}" in story.ranked[1]


def test_the_ranking_is_followed_arm_by_arm(story: Story) -> None:
    lines = [line for line in story.ranked[1].splitlines() if line.startswith("test ")]
    assert len(lines) == 4
    for arm in (SCE, NS):
        mine = [line for line in lines if line.startswith(f"test {arm} ")]
        assert [line.split()[2] for line in mine] == ["1/2", "2/2"]
    assert sum(line.endswith(": ranked") for line in lines) == 3


def test_the_record_says_by_what_it_failed_and_in_how_many_attempts(story: Story) -> None:
    failures = {(each.arm, each.index): each.failure for each in story.record.replicate_records}
    assert {key for key, failure in failures.items() if failure} == {BROKEN}
    assert failures[BROKEN] is FailureClass.DIVERGENCE
    assert {each.attempts for each in story.record.replicate_records} == {1}


def test_it_is_recorded_once(story: Story) -> None:
    assert story.again[0] == 0
    assert "study toy is finished, nothing is left to train or to rank" in story.again[1]
    assert "ranking the test split" not in story.again[1]
    assert story.last.replicate_records == story.record.replicate_records
    assert len(story.last.openings) == 2, "going on is the same opening"


def test_the_report_withholds_its_arm(story: Story) -> None:
    report = story.home.folder / "toy" / "report"
    page = (report / "index.html").read_text()
    assert "complex.sce: 1 of 2 fresh seeds failed; what the others reached is not what a seed of it reaches." in page
    assert len((report / "decisions.csv").read_text().splitlines()) == 1, "its header"
    with (report / "replicates.csv").open() as file:
        rows = {(row["arm"], int(row["index"])): row for row in csv.DictReader(file)}
    assert rows[BROKEN]["reason"].startswith(REASON)
    assert rows[BROKEN]["test_mrr"] == ""
