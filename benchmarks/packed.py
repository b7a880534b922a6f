"""One of several trainings that share a device: it trains while it is told to. See packing, peers.turns.

    question    {"begins": a time of time.monotonic(), "seconds": 3.0}
    answer      {"steps": 812, "wall": seconds until the last of them was done, "cpu": seconds, "reserved": bytes}

`reserved` is what torch holds of a GPU's memory. The first answer is given when the training can begin.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.peers.ours import config_of
from benchmarks.peers.turns import Job, Turns, serve
from benchmarks.steps import UNTIMED, Step, forever
from kge.catalog import load
from kge.training import Training


def work(job: Job, turns: Turns) -> None:
    """Answer without end."""
    training = Training(config_of(job), load(job["folder"]).sealed(), device=job["device"])
    steps = forever(training)
    for _ in range(UNTIMED):
        next(steps)
    turns.answer(captured=training.is_captured)
    while True:
        question = turns.question()
        turns.answer(**trained(steps, question["begins"], question["seconds"], job["device"]))


def trained(steps: Iterator[Step], begins: float, seconds: float, device: str) -> dict[str, Any]:
    """As many steps as begin in the time."""
    time.sleep(max(0.0, begins - time.monotonic()))
    number, began, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() < begins + seconds:
        next(steps)
        number += 1
    if device != "cpu":
        torch.cuda.synchronize(device)
    taken = {"steps": number, "wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
    return {**taken, "reserved": 0 if device == "cpu" else torch.cuda.max_memory_reserved(device)}


if __name__ == "__main__":
    serve(work)
