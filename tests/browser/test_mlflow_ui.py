"""What a person who opens MLflow's UI finds of the demo, run, reported and mirrored for it, in a real browser.

`KGE_PICTURES=docs/images make test-browser` leaves the pictures of docs/mlflow.md there.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest

from study.database import sqlite_url
from study.history import study_record
from study.records import StudyRecord, TrialRecord
from tests.browser.webdriver import ALL, ENTER, Browser, browser
from tests.study.mlflow_store import Tracking, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs a browser: chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]

NAME = "demo"
PAGE = Path(__file__).parents[2] / "docs" / "mlflow.md"
SEARCHES = re.findall(r"^(?:tags|metrics)\..*'$", PAGE.read_text(), re.MULTILINE)
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
# Otherwise a first visit opens a chat beside the page, and a praise of the registry before it, at some moment.
WELCOMED = """
localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true';
localStorage['_mlflow_model_registry_promo_modal_dismissed_v1'] = 'true';
"""
CHOSEN = "localStorage['mlflow.workflowType_v1'] = '\"machine_learning\"'"  # as by a click on "Model training"


@dataclass(frozen=True)
class Ui:
    """MLflow with the demo in it."""

    address: str
    runs: str  # of the list of runs
    record: StudyRecord


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """By the commands that a person types."""
    home = tmp_path_factory.mktemp("home")
    with served(home / "mlflow.db") as (uri, _):
        environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
        for command in ("run", "report"):
            study = [sys.executable, "-m", "study.cli", command, NAME, "--home", str(home)]
            subprocess.run(study, check=True, env=environment)
        experiment = Tracking(uri, home).client.get_experiment_by_name(NAME)
        assert experiment is not None
        runs = f"{uri}/#/experiments/{experiment.experiment_id}/runs"
        yield Ui(f"{uri}/#", runs, study_record(sqlite_url(home / NAME / "study.db"), NAME))


@pytest.fixture
def first_visit(tmp_path: Path, ui: Ui) -> Iterator[Browser]:
    with browser(tmp_path) as opened:
        opened.open(ui.address.replace("#", "version"))
        opened.script(WELCOMED)
        yield opened


@pytest.fixture
def page(first_visit: Browser) -> Browser:
    """Of somebody who was here before."""
    first_visit.script(CHOSEN)
    return first_visit


def picture(page: Browser, name: str) -> None:
    """For the documentation, where it is wanted anew."""
    if folder := os.environ.get("KGE_PICTURES"):
        page.picture(Path(folder) / f"mlflow-{name}.png")


def shows(page: Browser, names: list[str]) -> None:
    page.until(lambda: page.script(NAMES) == names, f"the runs {names}")


def has_columns(page: Browser, wanted: str) -> None:
    """In this order, whatever else there is."""
    names = wanted.split()
    page.until(lambda: [each for each in page.script(HEADERS) if each in names] == names, f"the columns {names}")


def search(page: Browser, words: str) -> None:
    box = page.one("[data-testid=search-box]")
    box.click()
    box.type(f"{ALL}{words}{ENTER}")


def best_first(trials: list[TrialRecord]) -> list[str]:
    return [f"{each.arm}/{each.number}" for each in sorted(trials, key=lambda each: -(each.best_mrr or 0.0))]


def unfold(page: Browser, name: str, *, rows: int) -> None:
    """Show what is below a run, until there are so many rows; a page that still loads folds a row again."""
    clicked = 0.0

    def shown() -> bool:
        nonlocal clicked
        if len(page.script(NAMES)) == rows:
            return True
        if time.monotonic() > clicked + 5:
            page.one(EXPANDER.format(name)).click()
            clicked = time.monotonic()
        return False

    page.until(shown, f"{rows} rows once {name} is unfolded")


def test_the_study_its_arms_and_their_trials_are_nested(first_visit: Browser, ui: Ui) -> None:
    page = first_visit
    page.open(f"{ui.address}/experiments")
    page.click("//*[@role='button'][.='Model training']")
    page.click(f"//a[.='{NAME}']")
    page.click("[data-testid=saved-views-trigger]")
    page.click("//*[.='Study, arms and trials, nested']")
    shows(page, [NAME])
    unfold(page, NAME, rows=7)  # six arms below the study
    assert set(page.script(NAMES)) == {NAME, *(arm.name for arm in ui.record.arms)}
    unfold(page, "complex.sce", rows=12)  # three trials and two replicates below the arm
    assert {f"complex.sce/{which}" for which in ("0", "1", "2", "replicate-0", "replicate-1")} <= {*page.script(NAMES)}
    has_columns(page, "arm trial model loss best_mrr test_mrr_mean epochs_charged device_seconds_charged state")
    picture(page, "nested")
    page.click("//a[.='complex.sce']")
    page.one("//*[.='test_mrr_mean']")


def test_the_view_of_the_arms_has_the_columns_that_matter_first(page: Browser, ui: Ui) -> None:
    page.open(f"{ui.runs}?viewStateShareKey=arms")
    page.until(lambda: len(page.script(NAMES)) == 6, "six arms and nothing else")
    has_columns(page, "arm model loss best_mrr test_mrr_mean test_mrr_std epochs_charged device_seconds_charged state")
    page.one("//*[@role='gridcell'][.='COMPLETE']")
    picture(page, "arms")


def test_the_searches_of_the_documentation_find_what_they_say(page: Browser, ui: Ui) -> None:
    of_arm, good, replicates = SEARCHES
    page.open(f"{ui.runs}?viewStateShareKey=trials")
    page.until(lambda: len(page.script(NAMES)) == 18, "all trials")
    search(page, of_arm)
    shows(page, best_first([each for each in ui.record.trials if each.arm == "complex.sce"]))
    search(page, replicates)
    arms = [arm.name for arm in ui.record.arms if arm.model == "complex"]
    found = {f"{arm}/replicate-{index}" for arm in arms for index in (0, 1)}
    page.until(lambda: set(page.script(NAMES)) == found, "the replicates of complex")
    search(page, good)
    losses = {arm.name: arm.loss for arm in ui.record.arms}
    best = best_first([t for t in ui.record.trials if losses[t.arm].startswith("sce") and (t.best_mrr or 0.0) > 0.3])
    shows(page, best)
    picture(page, "trials")
    page.click("[data-testid='sort-header-best_mrr']")
    shows(page, best[::-1])


def test_a_trial_has_its_curves(page: Browser, ui: Ui) -> None:
    page.open(f"{ui.runs}?viewStateShareKey=trials")
    page.click("//*[@row-index]//a[.='complex.sce/1']")
    page.click("//*[@role='tab'][.='Model metrics']")
    trial = next(each for each in ui.record.trials if (each.arm, each.number) == ("complex.sce", 1))
    curve = list(accumulate((each.mrr for each in trial.curve), max))
    page.until(lambda: curve in page.script(PLOTTED), "a chart of its best_mrr")
    picture(page, "curves")


def test_the_report_opens_as_an_artifact(page: Browser, ui: Ui) -> None:
    page.open(f"{ui.runs}?viewStateShareKey=nested")
    page.click(f"//*[contains(@col-id, 'Run Name')]//a[.='{NAME}']")
    page.click("//*[@role='tab' or self::a][.='Artifacts']")
    page.click("//*[.='report']")
    page.click("//*[.='index.html']")
    with page.inside("iframe"):
        page.one(f"//h1[.='{NAME}']")
        assert "Fair: each of the 6 arms spent its budget of 3 trials" in page.one("body").text
    picture(page, "report")


def test_the_model_of_an_arm_is_registered_with_an_alias_and_a_signature(page: Browser, ui: Ui) -> None:
    page.open(f"{ui.address}/models")
    page.click(f"//a[.='{NAME}.complex.sce_ls']")
    page.click("//a[.='Version 1']")
    page.until(lambda: "@ best" in page.one("body").text, "the alias")
    page.click("//*[.='Inputs (3)']")
    page.until(lambda: "relation (required)" in page.one("body").text, "the signature")
    page.click("//*[.='Tags']")  # away with them
    page.until(lambda: "valid_mrr" not in page.one("body").text, "no tags")
    picture(page, "model")
