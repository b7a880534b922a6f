"""The built-in graph: families over three generations, made from a fixed seed.

Its relations have the patterns that embeddings must express: symmetric (spouse, sibling, cousin), inverse
(parent and child, grandparent and grandchild), compositional (uncle_or_aunt = sibling after child).
A held-out fact follows from facts in train, so a working model ranks it high within seconds of training.
"""

import itertools
import random
from collections.abc import Iterator

NAME = "synthetic"
_FAMILIES = 40
_HELD_OUT = 0.1  # share of the facts in valid, and again in test

Fact = tuple[str, str, str]


def triples(seed: int = 0) -> dict[str, list[Fact]]:
    """Facts by split; the same seed gives the same lists."""
    rng = random.Random(seed)
    facts = sorted({fact for family in range(_FAMILIES) for fact in _family(family, rng)})
    rng.shuffle(facts)
    held_out = int(len(facts) * _HELD_OUT)
    return {"valid": facts[:held_out], "test": facts[held_out : 2 * held_out], "train": facts[2 * held_out :]}


def _family(number: int, rng: random.Random) -> Iterator[Fact]:
    person = (f"family{number:02d}_person{index:02d}" for index in itertools.count())
    founders = (next(person), next(person))
    children = [next(person) for _ in range(rng.randint(2, 4))]
    grandchildren: dict[str, list[str]] = {}
    yield from _symmetric("spouse", *founders)
    for child in children:
        partner = next(person)
        grandchildren[child] = [next(person) for _ in range(rng.randint(1, 3))]
        yield from _symmetric("spouse", child, partner)
        yield from _generation((child, partner), grandchildren[child])
    yield from _generation(founders, children)
    for founder, kids in itertools.product(founders, grandchildren.values()):
        for grandchild in kids:
            yield founder, "grandparent_of", grandchild
            yield grandchild, "grandchild_of", founder
    for one, other in itertools.permutations(children, 2):
        for nephew in grandchildren[other]:
            yield one, "uncle_or_aunt_of", nephew
        for left, right in itertools.product(grandchildren[one], grandchildren[other]):
            yield from _symmetric("cousin", left, right)


def _generation(parents: tuple[str, str], children: list[str]) -> Iterator[Fact]:
    for parent, child in itertools.product(parents, children):
        yield parent, "parent_of", child
        yield child, "child_of", parent
    for one, other in itertools.combinations(children, 2):
        yield from _symmetric("sibling", one, other)


def _symmetric(relation: str, one: str, other: str) -> Iterator[Fact]:
    yield one, relation, other
    yield other, relation, one
