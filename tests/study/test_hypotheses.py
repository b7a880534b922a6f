"""What a study sets out to compare: what its file may say, and that it stays."""

from dataclasses import replace
from pathlib import Path

import pytest

from study import amendment
from study.config import parse_study
from study.errors import StudyFileError
from study.history import study_record
from study.hypotheses import declared
from study.records import ComparisonPlan
from study.space import compose_all
from tests.study import records_factory as factory
from tests.study.saved_study import save
from tests.study.study_files import changed, config, line_of

ALL = "replicates: 2\n"


def with_comparison(section: str) -> tuple[str, str]:
    return ALL, f"{ALL}comparison: {{{section}}}\n"


def plan(section: str) -> ComparisonPlan:
    study = config(with_comparison(section))
    return declared(study.text, study.arms, "small.yaml")


def test_without_hypotheses_all_pairs_are_compared() -> None:
    study = config()
    assert declared(study.text, study.arms, "small.yaml") == ComparisonPlan(pairs=None, confidence=0.95, better=0.75)
    assert plan("better: 0.9, confidence: 0.99") == ComparisonPlan(pairs=None, confidence=0.99, better=0.9)


def test_losses_are_compared_for_every_model_and_arms_as_they_are() -> None:
    assert plan("hypotheses: [[ns, sce], [complex.sce, transe-l1.sce]]").pairs == (
        ("complex.ns", "complex.sce"),
        ("transe-l1.ns", "transe-l1.sce"),
        ("complex.sce", "transe-l1.sce"),
    )


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "hypotheses: [[ns, scee]]",
            "comparison.hypotheses[0]: unknown loss or arm 'scee' (known: sce, ns, complex.sce,",
        ),
        (
            "hypotheses: [[ns, sce], [ns, complex.sce]]",
            "comparison.hypotheses[1]: must be two losses or two arms, got ns",
        ),
        ("hypotheses: [[ns, ns]]", "comparison.hypotheses[0]: must be two losses or two arms, got ns and ns"),
        ("hypotheses: [[ns, sce], [complex.sce, complex.ns]]", "comparison.hypotheses[1]: must not repeat a pair, got"),
        ("hypotheses: []", "comparison.hypotheses: must be a list of at least one pair, or null, got []"),
        ("hypotheses: [[ns]]", "comparison.hypotheses[0]: must be two losses or two arms, got [ns]"),
        (
            "hypotheses: [[ns, sce], [sce, ns, complex]]",
            "comparison.hypotheses[1]: must be two losses or two arms, got [sce, ns, complex]",
        ),
        ("hypotheses: [ns]", "comparison.hypotheses[0]: must be a list, got 'ns'"),
        ("confidence: 1.0", "comparison.confidence: must be in (0.5, 1), got 1.0"),
        ("better: 0.4", "comparison.better: must be in [0.5, 1), got 0.4"),
        ("hypothesis: []", "comparison.hypothesis: unknown key 'hypothesis' (known: hypotheses, confidence, better"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_line(section: str, said: str) -> None:
    text = changed(with_comparison(section))
    with pytest.raises(StudyFileError) as error:
        parse_study(text, "small.yaml")
    assert str(error.value).startswith(f"small.yaml:{line_of(text, 'comparison:')}: {said}")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("hypotheses: [[sce, ns]]", "comparison.hypotheses: must stay ns sce in an amendment, got sce ns"),
        ("hypotheses: [[ns, sce]], better: 0.6", "comparison.better: must stay 0.75 in an amendment, got 0.6"),
        ("better: 0.75", "comparison.hypotheses: must stay ns sce in an amendment, got null"),
    ],
)
def test_an_amendment_leaves_the_hypotheses_as_they_were(section: str, said: str) -> None:
    before, after = config(with_comparison("hypotheses: [[ns, sce]]")), config(with_comparison(section))
    with pytest.raises(StudyFileError, match=r"^small.yaml:\d+: ") as error:
        amendment.changes(before, after, cards=(), spaces=compose_all(after))
    assert said in str(error.value)
    assert not amendment.is_same(before, after)


def test_the_database_gives_the_hypotheses_back(tmp_path: Path) -> None:
    record = factory.finished()
    spec = record.spec + "comparison: {hypotheses: [[sce, sans]], better: 0.8}\n"
    database = f"sqlite:///{tmp_path / 'study.db'}"
    save(replace(record, spec=spec), database)
    pairs = (("complex.sce", "complex.sans"), ("transe.sce", "transe.sans"))
    assert study_record(database, record.name).comparison == ComparisonPlan(pairs=pairs, better=0.8)
