"""What both libraries get in these tests, and what is said where PyKEEN is missing."""

import dataclasses
from collections.abc import Callable

from tests.kge import graphs

Close = Callable[..., None]

ABSENT = "PyKEEN is not installed here: make test-peer"
_RANDOM = graphs.random_graph()
GRAPH = dataclasses.replace(_RANDOM, train=_RANDOM.train.unique(dim=0))  # PyKEEN labels a repeated triple 2
