"""How a worker is asked for batches, whatever library it runs: lines of JSON, an answer to each question.

    question    {"batches": 3}
    answer      {"laps": [[wall, cpu], ...], "batches": batches of a whole pass, "cpu": seconds since the process began}

A worker lets its library train or rank without end and calls `begins` before every batch, where it waits while
the others have their turn. The first answer is of the first batch and asked by nobody. What libraries print goes
to stderr. Needs nothing but the standard library and torch, which is imported here, after its threads are set.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

Job = Mapping[str, Any]


class Turns:
    """The clock of a worker."""

    def __init__(self, questions: TextIO, answers: TextIO, synchronize: Callable[[], None]) -> None:
        self.batches = 1  # of a whole pass: an epoch or a ranking
        self._questions = questions
        self._answers = answers
        self._synchronize = synchronize
        self._wanted = 1
        self._laps: list[tuple[float, float]] = []
        self._since: tuple[float, float] | None = None

    def begins(self) -> None:
        """A batch begins, and the one before it has ended; leaves the process when no more are wanted."""
        self._synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        if self._since is not None:
            self._laps.append((wall - self._since[0], cpu - self._since[1]))
        if len(self._laps) == self._wanted:
            self.answer(laps=self._laps, batches=self.batches, cpu=cpu)
            self._laps, self._wanted = [], self.question()["batches"]
        self._since = time.perf_counter(), time.process_time()

    def question(self) -> Any:
        """The next one; there are no more when the driver has closed the line."""
        line = self._questions.readline()
        if not line:
            os._exit(0)  # from inside another library's loop
        return json.loads(line)

    def answer(self, **values: object) -> None:
        """One line."""
        print(json.dumps(values), file=self._answers, flush=True)


def serve(work: Callable[[Job, Turns], None]) -> None:
    """The main program of a worker; the job is its argument."""
    job: Job = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch  # noqa: PLC0415 (slow, and part of what a start costs)

    torch.set_num_threads(job["threads"])
    on_gpu = job["device"].startswith("cuda")
    work(job, Turns(sys.stdin, answers, torch.cuda.synchronize if on_gpu else lambda: None))
