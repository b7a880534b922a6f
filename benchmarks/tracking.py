"""What a large study costs in MLflow: sending it, a page of its runs, and the wait for the first row of them.

    python -m benchmarks.tracking FOLDER                    # 4 arms x 250 trials x 20 epochs
    python -m benchmarks.tracking FOLDER --trials 20        # of each arm

The study is that of the tests (tests.study.records_factory), its curves drawn instead of trained. It goes into a new
SQLite file in FOLDER; a tenth of it, the small study, goes to the `mlflow server` that then stands over the file. The
question is the one that the page of the run list asks: the first hundred trials by best MRR. Large and small take
turns, so that what the machine does beside them and what MLflow takes for any study fall on both. The browser is
headless; without chromium and chromedriver its rows are left out.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from study.records import StudyRecord
from study.tracking.mirror import sync
from tests.browser.webdriver import Browser, browser
from tests.study import records_factory as factory
from tests.study.mlflow_store import served

REPEATS = 7
FIRST_ROW = 'return document.querySelector(\'[row-index="0"] [col-id*="Run Name"] a\')?.textContent'
Server = subprocess.Popen[bytes]


def main() -> None:
    """Measure, and print each figure as it comes."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    database = options.folder / "mlflow.db"
    for old in options.folder.glob("mlflow.db*"):
        old.unlink()
    large = factory.finished(name="large", trials=options.trials, epochs=20)
    small = factory.finished(name="small", trials=options.trials // 10, epochs=20)
    artifacts = options.folder / "artifacts"
    _send(large, f"sqlite:///{database}", artifacts, "a new database")
    _send(large, f"sqlite:///{database}", artifacts, "the same, nothing new")
    with served(database) as (uri, server):
        before = _cpu_seconds(server)
        _send(small, uri, artifacts, "a server")
        spent = _cpu_seconds(server) - before
        print(f"    the server's own: {1000 * spent / len(small.trials):.1f} ms a trial", flush=True)
        experiments = {each.name: _experiment(uri, each.name) for each in (large, small)}
        _searches(uri, experiments, server)
        _rows(uri, experiments)


def _send(record: StudyRecord, uri: str, artifacts: Path, where: str) -> None:
    """The CPU time of this process; into a database, MLflow's client is all there is."""
    began = time.process_time()
    result = sync(record, uri=uri, artifacts=artifacts)
    spent = time.process_time() - began
    trials = len(record.trials)
    print(
        f"{trials} trials to {where}: {spent:.1f} CPU s, {1000 * spent / trials:.1f} ms a trial ({result})", flush=True
    )


def _searches(uri: str, experiments: Mapping[str, str], server: Server) -> None:
    """The first page of trials, sorted by MRR: wall time, and CPU time of the server."""
    seconds, spent = _nothing(experiments), _nothing(experiments)
    for _ in range(REPEATS + 1):
        for name, experiment in experiments.items():
            before, began = _cpu_seconds(server), time.perf_counter()
            _post(uri, "runs/search", _question(experiment))
            seconds[name].append(time.perf_counter() - began)
            spent[name].append(_cpu_seconds(server) - before)
    for name in experiments:
        print(
            f"first page, {name}: {_spread(seconds[name][1:])}; the server's CPU {_spread(spent[name][1:])}", flush=True
        )


def _rows(uri: str, experiments: Mapping[str, str]) -> None:
    """From the address to a row on the page, after a first visit that fills the browser's cache."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        print("first row: no chromium and chromedriver here")
        return
    seconds = _nothing(experiments)
    with TemporaryDirectory() as folder, browser(Path(folder)) as page:
        for _ in range(REPEATS + 1):
            for name, experiment in experiments.items():
                seconds[name].append(_seconds_to_row(page, f"{uri}/#/experiments/{experiment}/runs"))
    for name in experiments:
        print(f"first row, {name}: {_spread(seconds[name][1:])}")


def _seconds_to_row(page: Browser, runs: str) -> float:
    """Looked at ten times a second."""
    page.open("about:blank")
    began = time.perf_counter()
    page.open(f"{runs}?viewStateShareKey=trials&workflowType=machine_learning")
    page.until(lambda: page.script(FIRST_ROW), "a row")
    return time.perf_counter() - began


def _question(experiment: str) -> dict[str, Any]:
    """As the page asks it."""
    return {
        "experiment_ids": [experiment],
        "filter": "tags.stage = 'search'",
        "run_view_type": "ACTIVE_ONLY",
        "max_results": 100,
        "order_by": ["metrics.`best_mrr` DESC"],
    }


def _nothing(names: Iterable[str]) -> dict[str, list[float]]:
    return {name: [] for name in names}


def _spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, from {min(seconds):.2f} to {max(seconds):.2f}"


def _cpu_seconds(server: Server) -> float:
    """Of all processes of the server's session."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == server.pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _experiment(uri: str, name: str) -> str:
    found = _post(uri, "experiments/search", {"max_results": 1, "filter": f"name = '{name}'"})["experiments"]
    return str(found[0]["experiment_id"])


def _post(uri: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/{path}", data=json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=250, help="of each of the four arms")
    return parser.parse_args()


if __name__ == "__main__":
    main()
