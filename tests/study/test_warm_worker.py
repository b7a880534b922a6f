"""A worker that has made a trial begins the next one of the same data set without reading it again.

Real Ray with one slot. Python's audit events tell which files every process opens: the data set's, and the checkpoints
that only a training writes.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

from kge import synthetic
from tests.study.front_door import Home

# Imported by every Python process before anything else.
_WATCH = """
import os, sys
_log, _words = os.environ["WATCH_LOG"], ("train.txt", ".last.pt.")
def _hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and any(word in arguments[0] for word in _words):
        line = f"{os.getpid()} {arguments[0]}\\n".encode()
        file = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)
sys.addaudithook(_hook)
"""

_STUDY = """
name: warm
dataset: {folder}
arms: {{models: [distmult], losses: [sce, ns]}}
budget: {{trials: 2}}
search: {{sampler: random}}
replicates: 1
fixed: {{model.dim: 32, training.max_epochs: 1, negatives.head: 2, negatives.tail: 2}}
resources: {{cpus_per_trial: 1, max_concurrent: 1}}
"""


@pytest.mark.slow
def test_a_worker_reads_the_data_set_once_for_all_its_trials(tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    graph.mkdir()
    for split, triples in synthetic.triples().items():
        (graph / f"{split}.txt").write_text("".join("\t".join(each) + "\n" for each in triples))
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(_WATCH)
    (tmp_path / "warm.yaml").write_text(_STUDY.format(folder=graph))
    paths = os.pathsep.join([str(tmp_path / "watch"), str(Path(__file__).parents[2])])
    home = Home(tmp_path / "home", "warm", {"WATCH_LOG": str(tmp_path / "log"), "PYTHONPATH": paths})
    home.folder.mkdir()
    code, said = home.finish("run", str(tmp_path / "warm.yaml"), "--plain")
    assert code == 0, said

    read, trained = defaultdict[int, int](int), defaultdict[int, set[str]](set)
    for line in (tmp_path / "log").read_text().splitlines():
        pid, _, path = line.partition(" ")
        if path == str(graph / "train.txt"):
            read[int(pid)] += 1
        elif "/trials/" in path:
            trained[int(pid)].add(str(Path(path).parent))
    [(worker, trials)] = trained.items()  # one slot is one worker
    assert len(trials) == 4
    assert read[worker] == 1
