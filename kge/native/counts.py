"""Each true answer against the scores of its query, in one pass: how many entities beat it, how many others tie.

    greater(b, y) = #{ e : s_be > s_by }        equal(b, y) = #{ e != y : s_be = s_by }

Tensor operations write a block of truth values for each of the two and read it again.

Shapes  scores (b, E), row and answer (P), counts (3, P) for greater, equal and all.
"""

from typing import Any, no_type_check

from numba import njit

from kge.native import CACHED, FAST


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def over_entities(first: int, last: int, scores: Any, row: Any, answer: Any, counts: Any) -> None:
    """Counts over all entities."""
    for pair in range(first, last):
        line = scores[row[pair]]
        true = line[answer[pair]]
        greater, equal = 0, -1
        for entity in range(len(line)):  # over the line itself the loop would not be a vector's
            greater += line[entity] > true
            equal += line[entity] == true
        counts[0, pair], counts[1, pair], counts[2, pair] = greater, equal, len(line)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def over_known(first: int, last: int, scores: Any, row: Any, answer: Any, starts: Any, known: Any, counts: Any) -> None:
    """Counts over the other known answers: those of row b are known[starts[b] : starts[b + 1]]."""
    for pair in range(first, last):
        line = scores[row[pair]]
        true = line[answer[pair]]
        greater = equal = others = 0
        for place in range(starts[row[pair]], starts[row[pair] + 1]):
            entity = known[place]
            other = entity != answer[pair]
            greater += other and line[entity] > true
            equal += other and line[entity] == true
            others += other
        counts[0, pair], counts[1, pair], counts[2, pair] = greater, equal, others
