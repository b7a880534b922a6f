"""What a person who opens MLflow's UI finds of a finished study, in a real browser."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from study.database import sqlite_url
from study.records import StudyRecord
from tests.browser.webdriver import ALL, ENTER, Browser, browser
from tests.study import records_factory as factory
from tests.study.mlflow_store import Tracking, served
from tests.study.saved_study import save

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs a browser: chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]

RECORD = factory.finished(trials=6)
# What the page shows, in its order: rows and columns are drawn in any.
NAMES = """
const links = [...document.querySelectorAll('[row-index] [col-id*="Run Name"] a')];
const row = link => Number(link.closest('[row-index]').getAttribute('row-index'));
return links.sort((a, b) => row(a) - row(b)).map(link => link.textContent);
"""
HEADERS = """
const cells = [...document.querySelectorAll('.ag-header-cell')];
const left = cell => cell.getBoundingClientRect().left;
return cells.sort((a, b) => left(a) - left(b)).map(cell => cell.textContent.trim());
"""
PLOTTED = "return [...document.querySelectorAll('.js-plotly-plot')].map(plot => [...plot.data[0].y])"
EXPANDER = "//*[@row-index][.//a[.='{}']]//*[contains(@col-id, 'Run Name')]//button"
# Otherwise the first visit opens a chat beside the page, at some moment.
NO_CHAT = "localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true'"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that is through, its report, and both in MLflow, by the commands that bring them there."""
    folder = tmp_path_factory.mktemp("home")
    (folder / RECORD.name).mkdir()
    save(RECORD, sqlite_url(folder / RECORD.name / "study.db"))
    for command in ("report", "sync"):
        subprocess.run([sys.executable, "-m", "study.cli", command, RECORD.name, "--home", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def ui(home: Path) -> Iterator[str]:
    """The address of its MLflow."""
    with served(home / "mlflow.db") as (uri, _):
        yield f"{uri}/#"


@pytest.fixture
def page(tmp_path: Path, ui: str) -> Iterator[Browser]:
    with browser(tmp_path) as opened:
        opened.open(ui.replace("#", "version"))
        opened.script(NO_CHAT)
        yield opened


@pytest.fixture
def runs(home: Path, ui: str) -> str:
    """The address of the study's run list."""
    experiment = Tracking(f"sqlite:///{home / 'mlflow.db'}", home).client.get_experiment_by_name(RECORD.name)
    assert experiment is not None
    return f"{ui}/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"


def shows(page: Browser, names: list[str]) -> None:
    page.until(lambda: page.script(NAMES) == names, f"the runs {names}")


def best_first(record: StudyRecord, arm: str) -> list[str]:
    """Trials of an arm; those without any validation come last."""
    trials = [trial for trial in record.trials if trial.arm == arm]
    reached = {f"{arm}/{each.number}": max((m.mrr for m in each.curve), default=0.0) for each in trials}
    return sorted(reached, key=lambda name: -reached[name])


def test_the_study_its_arms_and_their_trials_are_nested(page: Browser, ui: str) -> None:
    page.open(f"{ui}/experiments")
    page.click("//*[@role='button'][.='Model training']")
    page.click(f"//a[.='{RECORD.name}']")
    shows(page, [RECORD.name])
    page.click(EXPANDER.format(RECORD.name))
    page.until(lambda: len(page.script(NAMES)) == 5, "four arms below the study")
    assert set(page.script(NAMES)) == {RECORD.name, *(arm.name for arm in RECORD.arms)}
    page.click(EXPANDER.format("transe.sce"))
    page.until(lambda: len(page.script(NAMES)) == 13, "six trials and two replicates below the arm")
    assert {f"transe.sce/{number}" for number in range(6)} <= set(page.script(NAMES))
    page.click("//a[.='transe.sce']")
    page.one("//*[.='test_mrr_mean']")


def test_the_view_of_the_arms_has_the_columns_that_matter_first(page: Browser, runs: str) -> None:
    page.open(runs)
    page.click("[data-testid=saved-views-trigger]")
    page.click("//*[.='Arms, best test mean first']")
    page.until(lambda: len(page.script(NAMES)) == 4, "four arms and nothing else")
    wanted = [
        "arm",
        "model",
        "loss",
        "best_mrr",
        "test_mrr_mean",
        "test_mrr_std",
        "epochs_charged",
        "device_seconds_charged",
        "state",
    ]
    page.until(lambda: wanted == [each for each in page.script(HEADERS) if each in wanted], f"the columns {wanted}")
    page.one("//*[@role='gridcell'][.='COMPLETE']")


def test_trials_are_sorted_by_mrr(page: Browser, runs: str) -> None:
    page.open(f"{runs}&viewStateShareKey=trials")
    page.until(lambda: len(page.script(NAMES)) > 20, "all trials")
    search = page.one("[data-testid=search-box]")
    search.click()
    search.type(f"{ALL}tags.arm = 'complex.sans' and tags.stage = 'search'{ENTER}")
    best = best_first(RECORD, "complex.sans")
    shows(page, best)
    page.click("[data-testid='sort-header-best_mrr']")
    page.until(lambda: page.script(NAMES)[0] == best[-2], "the worst first")  # the last has no value


def test_a_trial_has_its_curves(page: Browser, runs: str) -> None:
    page.open(f"{runs}&searchFilter=tags.arm+%3D+'transe.sce'+and+tags.trial+%3D+'3'&orderByKey=metrics.%60best_mrr%60")
    page.click("//*[@row-index]//a[.='transe.sce/3']")
    page.click("//*[@role='tab'][.='Model metrics']")
    trial = next(each for each in RECORD.trials if (each.arm, each.number) == ("transe.sce", 3))
    curve = list(accumulate((each.mrr for each in trial.curve), max))
    page.until(lambda: curve in page.script(PLOTTED), "a chart of its best_mrr")


def test_the_report_opens_as_an_artifact(page: Browser, runs: str) -> None:
    page.open(f"{runs}&searchFilter=tags.stage+%3D+'study'")
    page.click(f"//*[contains(@col-id, 'Run Name')]//a[.='{RECORD.name}']")
    page.click("//*[@role='tab' or self::a][.='Artifacts']")
    page.click("//*[.='report']")
    page.click("//*[.='index.html']")
    with page.inside("iframe"):
        page.one("//h1[.='two-by-two']")
        assert "Fair: each of the 4 arms spent its budget of 6 trials" in page.one("body").text
