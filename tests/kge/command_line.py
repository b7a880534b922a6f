"""What the tests of the `kge` command share; the fixture is in conftest."""

from collections.abc import Callable
from typing import NamedTuple

CONFIG = """
dataset: {dataset}
model: {{name: complex, dim: 8}}
loss: {{name: sce}}
training: {{batch_size: 16, max_epochs: 3}}
validation: {{every: 1}}
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Kge = Callable[..., Ran]
