"""Loops that no tensor operation does well, compiled for the CPU by numba.

They make nothing that torch cannot make: each stands behind a switch, beside the plain formula it must equal, and
where numba is missing, or tensors live on another device, the plain formula runs. The files here are imported at
their first use, because numba is not needed to start.

Every row of a result is made by one thread, in one order, so values do not depend on how many threads there are.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from kge.files import is_writable

# Sums may be reordered, which is what fills vector units; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "arcp", "nsz"}


# Numba keeps what it compiled in one of these; where none can be written it must be told to keep nothing.
_CACHES = (
    os.environ.get("NUMBA_CACHE_DIR", ""),
    f"{Path(__file__).parent}/__pycache__",
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),  # noqa: PTH111 (Path's refuses where no home is)
)
CACHED = any(is_writable(Path(each)) for each in _CACHES if each)


def can_run(*tensors: Tensor) -> bool:
    """Whether the compiled loops take these: float32 or ids, on the CPU, with numba installed."""
    return _installed() and all(
        each.device.type == "cpu" and each.dtype in (torch.float32, torch.int64) for each in tensors
    )


def over_rows(loop: Callable[..., None], rows: int, *arguments: object) -> None:
    """Run loop(first, last, *arguments) over all rows, a consecutive part for each of torch's threads."""
    threads = min(torch.get_num_threads(), rows)
    if threads <= 1:
        loop(0, rows, *arguments)
        return
    bounds = [rows * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for part in [pool.submit(loop, *each, *arguments) for each in pairwise(bounds)]:
            part.result()


@cache
def _installed() -> bool:
    return find_spec("numba") is not None
