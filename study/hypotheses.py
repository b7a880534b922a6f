"""Which arms a study sets out to compare, and what it takes to call one better: declared before anything is known.

    comparison:
      hypotheses: [[ns, sce], [complex.ns, transe.ns]]    # labels of losses (then for every model), or arms
      confidence: 0.95                                    # of intervals; p-values are held against the rest
      better: 0.75                                        # P(A beats B) from which A is called better

Without hypotheses every pair of arms is compared. P-values are corrected for the pairs that are compared, so few
hypotheses find smaller differences. The 0.75 is that of Bouthillier et al.: Accounting for Variance in Machine
Learning Benchmarks. MLSys 2021.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import WithJsonSchema

from kge.config import Section, require
from kge.documents import Where, parse, read_text
from kge.names import unknown
from study.errors import StudyFileError
from study.records import Arm, ComparisonPlan

Pair = tuple[str, str]
# Of any length to pydantic, so that another one is refused in the words of this module; editors are told.
_Pair = Annotated[
    tuple[str, ...], WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2})
]


@dataclass(frozen=True, kw_only=True)
class ComparisonSection(Section):
    """What is to be decided: pairs of losses or of arms, and from when on one is called better than the other."""

    hypotheses: tuple[_Pair, ...] | None = None  # None: all pairs of arms
    confidence: float = 0.95
    better: float = 0.75

    def __post_init__(self) -> None:
        require(self.hypotheses != (), "comparison.hypotheses", "a list of at least one pair, or null", [])
        require(0.5 < self.confidence < 1, "comparison.confidence", "in (0.5, 1)", self.confidence)
        require(0.5 <= self.better < 1, "comparison.better", "in [0.5, 1)", self.better)


@dataclass(frozen=True, kw_only=True)
class _OfFile:
    """A study file, as far as it is read here."""

    comparison: ComparisonSection = field(default_factory=ComparisonSection)


def comparison_plan(section: ComparisonSection, arms: Sequence[Arm], where: Where) -> ComparisonPlan:
    """The section with its pairs of arms spelt out; StudyFileError names a pair that is none."""
    pairs = None if section.hypotheses is None else tuple(_pairs(section.hypotheses, arms, where))
    return ComparisonPlan(pairs=pairs, confidence=section.confidence, better=section.better)


def declared(text: str, arms: Sequence[Arm], path: str) -> ComparisonPlan:
    """What a study file that was accepted once says of this, whatever has become of the files that it names."""
    document = read_text(text, path)
    given = {key: value for key, value in document.data.items() if key == "comparison"}
    return comparison_plan(parse(_OfFile, document, given).comparison, arms, document.where)


def _pairs(hypotheses: Sequence[Sequence[str]], arms: Sequence[Arm], where: Where) -> Iterator[Pair]:
    seen: set[frozenset[str]] = set()
    for index, hypothesis in enumerate(hypotheses):
        place = where(("comparison", "hypotheses", index))
        for pair in _spelt_out(hypothesis, [arm.name for arm in arms], place):
            if frozenset(pair) in seen:
                raise StudyFileError(f"{place}: must not repeat a pair, got {' and '.join(pair)} again")
            seen.add(frozenset(pair))
            yield pair


def _spelt_out(hypothesis: Sequence[str], arms: Sequence[str], place: str) -> list[Pair]:
    if len(hypothesis) != 2:
        raise StudyFileError(f"{place}: must be two losses or two arms, got [{', '.join(hypothesis)}]")
    models, losses = (list(dict.fromkeys(name.split(".")[part] for name in arms)) for part in (0, 1))
    for name in hypothesis:
        if name not in losses and name not in arms:
            raise StudyFileError(f"{place}: {unknown('loss or arm', name, [*losses, *arms])}")
    first, second = hypothesis
    if first == second or (first in arms) != (second in arms):
        raise StudyFileError(f"{place}: must be two losses or two arms, got {first} and {second}")
    return [(first, second)] if first in arms else [(f"{model}.{first}", f"{model}.{second}") for model in models]
