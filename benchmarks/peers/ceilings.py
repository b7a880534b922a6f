"""What this machine can do: the kernels of a case's floor, timed in turn with the libraries. See floors, turns.

    question    {}
    answer      {"bounds": [[[wall, cpu], ...of a stage], ...]}       seconds of every bound of every stage

Each kernel is run a few times with its buffers kept; the fastest run counts, of the fastest way to run it.
"""

import time
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from benchmarks.peers.floors import Bound
from benchmarks.peers.turns import Job, Turns, serve

RUNS = 3
PRODUCT = (1024, 128, 14541)  # whose speed is that of arithmetic
FRESH = 30 * 2**20  # bytes: fresh results above 32 MB cost more than what makes them

Seconds = tuple[float, float]  # wall, CPU


def work(job: Job, turns: Turns) -> None:
    """Answer without end."""
    machine = Machine(job["device"])
    while True:
        turns.answer(bounds=[[machine.seconds(bound) for bound in stage] for stage in job["stages"]])
        turns.question()


class Machine:
    """A device, and what is kept for its kernels."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._kernels: dict[str, list[Callable[[], object]]] = {}

    def seconds(self, bound: Bound) -> Seconds:
        """How long a bound takes at least."""
        match bound["kind"]:
            case "gemm":
                return _times(self._fastest(self._products, *bound["shape"], bound["precision"]), bound["times"])
            case "softmax":
                return self._fastest(self._softmax, *bound["shape"], bound["precision"])
            case "moved":
                number = int(bound["within"] / 8)  # a copy has two buffers, of 4 bytes a number
                return _times(self._fastest(self._copy, number), bound["bytes"] / (8 * number))
            case _:
                m, k, n = PRODUCT
                return _times(self._fastest(self._products, m, k, n, "float32"), bound["flops"] / (2 * m * k * n))

    def _fastest(self, make: Callable[..., Iterator[Callable[[], object]]], *sizes: object) -> Seconds:
        key = f"{make.__name__}{sizes}"
        if key not in self._kernels:
            self._kernels[key] = list(make(*sizes))
            for kernel in self._kernels[key]:
                kernel()  # pages and code
        found = [self._clocked(kernel) for kernel in self._kernels[key] for _ in range(RUNS)]
        return min(wall for wall, _ in found), min(cpu for _, cpu in found)

    def _clocked(self, kernel: Callable[[], object]) -> Seconds:
        """Seconds of a run, of many where one is short."""
        repeats = 1
        while True:
            self._synchronize()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                kernel()
            self._synchronize()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if wall > 0.005:
                return wall / repeats, cpu / repeats
            repeats *= 4

    def _synchronize(self) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()

    def _random(self, *shape: int, precision: str = "float32") -> Tensor:
        return torch.rand(*shape, device=self._device).to(getattr(torch, precision))

    def _products(self, m: int, k: int, n: int, precision: str) -> Iterator[Callable[[], object]]:
        """Both layouts of both factors; on the CPU by oneDNN's linear as well, some rows at a time."""
        a, b, out = (self._random(*shape, precision=precision) for shape in ((m, k), (k, n), (m, n)))
        a_turned, b_turned = a.T.contiguous(), b.T.contiguous()
        yield lambda: torch.mm(a, b, out=out)
        yield lambda: torch.mm(a, b_turned.T, out=out)
        yield lambda: torch.mm(a_turned.T, b, out=out)
        if self._device == "cpu" and _has_linear():
            parts = a.split(max(1, FRESH // (n * a.element_size())))
            yield lambda: [_linear(part, b_turned) for part in parts]

    def _softmax(self, m: int, n: int, precision: str) -> Iterator[Callable[[], object]]:
        block = self._random(m, n, precision=precision)
        yield lambda: torch.softmax(block, dim=1, out=block)

    def _copy(self, number: int) -> Iterator[Callable[[], object]]:
        a, b = self._random(number), self._random(number)
        yield lambda: b.copy_(a)


def _times(seconds: Seconds, factor: float) -> Seconds:
    return seconds[0] * factor, seconds[1] * factor


def _linear(a: Tensor, turned: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, turned, None, "none", [], "")
    return product


@cache
def _has_linear() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


if __name__ == "__main__":
    serve(work)
