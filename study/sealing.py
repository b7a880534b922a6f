"""Which arms keep their selection and their replicates for good: those whose test split was opened."""

from collections.abc import Iterable, Set

from study.records import Amendment, Opening, Selection, TrialRecord


def sealed(openings: Iterable[Opening], amendments: Iterable[Amendment]) -> frozenset[str]:
    """The arms whose test split was opened and may not be opened again."""
    permitted = max((amendment.number for amendment in amendments if amendment.reopens), default=0)
    latest = {each.arm: each.amendment for each in sorted(openings, key=lambda each: (each.arm, each.number))}
    return frozenset(arm for arm, amendment in latest.items() if amendment >= permitted)


def stands(selection: Selection, best: TrialRecord, *, sealed: Set[str]) -> bool:
    """Whether an arm's selection stays: it is of the best trial, or its arm is sealed."""
    return selection.trial == best.number or selection.arm in sealed
