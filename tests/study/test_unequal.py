"""Budgets that were not equal when the search had ended: the test split stays closed until they are, or it is said."""

from contextlib import closing
from pathlib import Path

import pytest

from study.opening import closed, due, open_test, opened
from study.records import StudyRecord, TrialState
from study.selection import current
from study.store import Store
from tests.study.front_door import Home
from tests.study.test_refused_draws import BETWEEN
from tests.study.toy_study import NS, SCE, Toy

LIMITED = ("replicates: 2", "replicates: 2\nfailures: {identical_errors: 3}")
FREE = "failures: {identical_errors: null}"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Both arms were stopped for their bugs."""
    made = Toy(tmp_path)
    made.launch(*BETWEEN, ("trials: 20", "trials: 40"), LIMITED)
    made.go_on()
    return made


def ranked(record: StudyRecord) -> list[bool]:
    assert {each.state for each in record.replicate_records} == {TrialState.COMPLETE}
    return [bool(each.test_metrics) for each in record.replicate_records]


def test_what_cannot_be_compared_is_not_opened(toy: Toy) -> None:
    record = toy.record()
    assert ranked(record) == [False] * 4
    assert record.openings == ()
    code, said = Home(folder=toy.home, study="toy").finish("resume", "toy", "--plain")
    assert code == 1, said
    assert "error: study 'toy': the test split stays closed; `study resume toy --unequal` opens it" in said
    assert "Comparison withheld: complex.sce and complex.ns have not finished" in said
    assert "complex.ns fell short and was stopped: " in said
    assert "A larger `failures.identical_errors` lets a stopped arm go on." in said
    assert toy.record() == record
    assert "Comparison withheld" in (toy.folder / "report" / "index.html").read_text()


def test_an_amendment_that_makes_them_equal_opens_it_once(toy: Toy) -> None:
    toy.write(*BETWEEN, ("trials: 20", "trials: 40"), ("replicates: 2", f"replicates: 2\n{FREE}"))
    toy.go_on(amend=True)
    record = toy.record()
    assert closed(record) == ""
    assert [(each.arm, each.number) for each in record.openings] == [(NS, 0), (SCE, 0)]
    assert not record.amendments[-1].reopens


def test_an_opening_that_was_noted_is_gone_on_with(toy: Toy) -> None:
    with closing(Store(toy.database)) as store:
        selections = current(store.selections("toy"))
        assert [each.arm for each in due(store, study="toy", selections=selections)] == [NS, SCE]
        assert opened(store, study="toy", folder=toy.folder, selections=selections) == []
        first = due(store, study="toy", selections=selections)[0]
        store.record_opening("toy", first)
        jobs = opened(store, study="toy", folder=toy.folder, selections=selections)
        assert [(job.replicate.arm, job.replicate.index) for job in jobs] == [(NS, 0), (NS, 1)]
        open_test(store, study="toy", folder=toy.folder, selections=selections)
        assert len(opened(store, study="toy", folder=toy.folder, selections=selections)) == 4
