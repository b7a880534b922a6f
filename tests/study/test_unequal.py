"""Budgets that were not equal when the search had ended: the test split stays closed until they are, or it is said."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from study.history import is_closed, is_done
from study.opening import open_test
from study.records import Opening, StudyRecord, TrialState
from study.report.fairness import unequal
from study.status import status_lines
from study.store import Store
from study.tracking.projection import project
from tests.study.front_door import Home
from tests.study.test_refused_draws import BETWEEN
from tests.study.toy_study import NS, SCE, Toy

TRIALS = ("trials: 20", "trials: 40")
LIMITED = ("replicates: 2", "replicates: 2\nfailures: {identical_errors: 3}")
FREE = ("replicates: 2", "replicates: 2\nfailures: {identical_errors: null}")
ONE = ("losses: [sce, ns]", "losses: [sce]")
PRETRAINED = ("[sce, ns]", "[sce, {name: sce, label: pre, pretrain: sce}]")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Both arms were stopped for their bugs."""
    made = Toy(tmp_path)
    made.launch(*BETWEEN, TRIALS, LIMITED)
    made.go_on()
    return made


def ranked(record: StudyRecord) -> list[bool]:
    assert {each.state for each in record.replicate_records} == {TrialState.COMPLETE}
    return [bool(each.test_metrics) for each in record.replicate_records]


def test_what_cannot_be_compared_is_not_opened(toy: Toy) -> None:
    record = toy.record()
    assert (ranked(record), record.openings) == ([False] * 4, ())
    code, said = Home(folder=toy.home, study="toy").finish("resume", "toy", "--plain")
    assert code == 1, said
    for sentence in (
        f"error: study 'toy': the test split stays closed for {NS}, {SCE}. ",
        "Comparison withheld: complex.sce and complex.ns have not finished",
        "complex.ns fell short and was stopped: ",
        "`study resume toy --amend` with a larger `failures.identical_errors` can change that.",
        f"`study resume toy --home {toy.home} --unequal` opens it all the same.\n",
    ):
        assert sentence in said
    assert toy.record() == record
    page = (toy.folder / "report" / "index.html").read_text()
    assert (
        "The test split was not opened, because the budgets of arms are not equal: complex.sce and complex.ns." in page
    )


def test_it_is_over_and_says_how_it_could_go_on(toy: Toy) -> None:
    record = toy.record()
    assert all(is_closed(record, arm) and is_done(record, arm) for arm in (SCE, NS))
    assert {run.status for run in project(record).runs if run.parent is None} == {"FINISHED"}
    lines = list(status_lines(record, None))
    assert lines[0].endswith("no driver is running")
    assert (
        sum(line.startswith(f"test split: closed for {SCE}, {NS}, unless --unequal is said. ") for line in lines) == 1
    )
    training = replace(record.replicate_records[0], state=TrialState.RUNNING)
    begun = replace(record, replicate_records=(training, *record.replicate_records[1:]))
    assert not any(is_closed(begun, arm) for arm in (SCE, NS))


def test_an_amendment_that_makes_them_equal_opens_it_once(toy: Toy) -> None:
    toy.write(*BETWEEN, TRIALS, FREE)
    toy.go_on(amend=True)
    record = toy.record()
    assert unequal(record) == ""
    assert [(each.arm, each.number) for each in record.openings] == [(NS, 0), (SCE, 0)]
    assert not record.amendments[-1].reopens
    assert not is_closed(record, SCE)


def test_what_was_opened_is_ranked_while_the_others_stay_closed(toy: Toy) -> None:
    with closing(Store(toy.database)) as store:
        selection = next(each for each in store.selections("toy") if each.arm == NS)
        noted = Opening(arm=NS, number=0, selection_sha256=selection.sha256, replicates=(0, 1), time=1.0)
        store.record_opening("toy", noted)
        jobs, closed = open_test(store, record=toy.record(), folder=toy.folder)
        assert [(job.replicate.arm, job.replicate.index) for job in jobs] == [(NS, 0), (NS, 1)]
        assert closed is not None
        assert closed.arms == (SCE,)
        assert "`study resume toy --amend --reopen` with a larger" in closed.why
        assert store.openings("toy") == [noted]
        jobs, closed = open_test(store, record=toy.record(), folder=toy.folder, unequal=True)
        assert (len(jobs), closed) == (4, None)


def test_one_arm_alone_is_opened(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.launch(*BETWEEN, TRIALS, LIMITED, ONE)
    toy.go_on()
    record = toy.record()
    assert (len(record.stops), ranked(record)) == (1, [True] * 2)


def test_no_amendment_is_named_where_none_is_taken(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.launch(*BETWEEN, TRIALS, LIMITED, PRETRAINED)
    toy.go_on()
    assert unequal(toy.record()).endswith(" No amendment can change that.")
