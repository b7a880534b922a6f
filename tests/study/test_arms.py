"""Trials in a real database: what is asked, told and read, in any order of crashes and failures."""

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa

from study import seeds
from study.arms import Arms, Search, distributions
from study.config import StudyConfig
from study.database import sqlite_url
from study.errors import WorldError
from study.records import FailureClass, Outcome, TrialRecord, TrialState
from study.space import Space, compose_all
from study.store import Store
from tests.study.study_files import config

DONE = Outcome(state=TrialState.COMPLETE, reason="max_epochs")
ARM = "complex.sce"
LOSSES = "losses: [sce, {name: ns, normalize: mean}]"
Open = Callable[..., Arms]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with Optuna's tables, which take a while to make."""
    file = tmp_path_factory.mktemp("tables") / "study.db"
    Arms(sqlite_url(file), "none").close()
    return file


@pytest.fixture
def url(tmp_path: Path, tables: Path) -> str:
    return sqlite_url(Path(shutil.copy(tables, tmp_path)))


@pytest.fixture
def open_arms() -> Iterator[Open]:
    opened: list[Arms] = []

    def open_(url: str, study: StudyConfig | None = None) -> Arms:
        study = study or config()
        search = Search(seed=study.seed, config=study.search, spaces=compose_all(study))
        opened.append(Arms(url, study.name, search))
        return opened[-1]

    yield open_
    for arms in opened:
        arms.close()


def quality(params: Any) -> float:
    """A made-up MRR, so that TPE has something to learn."""
    return round(1 / (1 + abs(params["optimizer.lr"] - 0.1) * 10 + params["model.dropout.entity"]), 6)


def play(arms: Arms, arm: str, trials: int) -> list[tuple[Any, ...]]:
    """Ask, measure and end some trials; what was asked."""
    asked = []
    for _ in range(trials):
        suggestion = arms.ask(arm)
        mrr = quality(suggestion.params)
        for epoch in (1, 2):
            arms.report(arm, suggestion.number, epoch, mrr * epoch / 2)
        arms.tell(arm, suggestion.number, DONE, (mrr, 2))
        asked.append(tuple(suggestion))
    return asked


def timeless(trials: tuple[TrialRecord, ...]) -> list[TrialRecord]:
    return [replace(each, started=None, ended=None) for each in trials]


# -- asking --------------------------------------------------------------------------------------


def test_the_first_trials_are_the_draws_that_all_arms_share(url: str, open_arms: Open) -> None:
    study = config()
    arms, spaces = open_arms(url, study), compose_all(study)
    for arm in spaces:
        for number in range(2):
            suggestion = arms.ask(arm)
            assert suggestion.number == number
            assert suggestion.params == spaces[arm].draw(lambda path, n=number: seeds.uniform(study.seed, n, path))
            assert suggestion.seed == seeds.training_seed(study.seed, arm, number)
        assert [trial.random for trial in arms.trials(arm)] == [True, True]


def test_then_tpe_asks_and_learns(url: str, open_arms: Open) -> None:
    arms = open_arms(url, config(("trials: 4", "trials: 30"), ("random_trials: 2", "random_trials: 10")))
    play(arms, ARM, 30)
    trials = arms.trials(ARM)
    assert [trial.random for trial in trials] == [True] * 10 + [False] * 20
    values = [trial.best_mrr or 0.0 for trial in trials]
    assert sum(values[20:]) / 10 > sum(values[:10]) / 10


def test_asking_goes_on_alike_in_another_process_and_beside_other_arms(
    url: str, open_arms: Open, tmp_path: Path
) -> None:
    together = play(open_arms(url), ARM, 7)
    fewer = config((LOSSES, "losses: [sce]"))
    assert fewer.arms != config().arms
    elsewhere = sqlite_url(tmp_path / "elsewhere.db")
    apart = [asked for _ in range(7) for asked in play(open_arms(elsewhere, fewer), ARM, 1)]
    assert apart == together


def test_tpe_asks_as_over_a_copy_made_anew(url: str, open_arms: Open) -> None:
    """The formula: a fresh sampler over the arm's trials, read from the database, with a seed of the number."""
    study = config(("trials: 4", "trials: 99"))
    arms, space, rng = open_arms(url, study), compose_all(study)[ARM], random.Random(1)
    running = [suggestion[0] for suggestion in (arms.ask(ARM), arms.ask(ARM))]  # the random part
    storage = optuna.storages.RDBStorage(url)
    pruned, failed = (Outcome(state=state) for state in (TrialState.PRUNED, TrialState.FAIL))
    outcomes = [failed, pruned, pruned, DONE, DONE]  # while none is complete, TPE learns from the pruned ones
    for turn in range(20):
        expected = _anew(storage, study, space)
        suggestion = arms.ask(ARM)
        assert suggestion.params == expected
        running.append(suggestion.number)
        rng.shuffle(running)  # trials end in any order, and up to three run at once
        while len(running) > rng.randrange(4):
            number, outcome = running.pop(), rng.choice(outcomes[: 3 if turn < 12 else 5])
            curve = [rng.random() for _ in range(rng.randrange(1, 4))]
            for epoch, mrr in enumerate(curve, start=1):
                arms.report(ARM, number, epoch, mrr)
            arms.tell(ARM, number, outcome, (max(curve), 1))
        if rng.random() < 0.1:
            arms = open_arms(url, study)  # another driver goes on
    storage.engine.dispose()
    assert {trial.state for trial in arms.trials(ARM)} >= {outcome.state for outcome in outcomes}


def test_a_trial_that_was_never_written_leaves_no_trace(url: str, open_arms: Open) -> None:
    study = config()
    arms = open_arms(url, study)
    play(arms, ARM, 4)

    def interrupt(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("INSERT INTO trials"):
            raise KeyboardInterrupt

    sa.event.listen(arms._storage.engine, "before_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        arms.ask(ARM)
    sa.event.remove(arms._storage.engine, "before_cursor_execute", interrupt)
    storage = optuna.storages.RDBStorage(url)
    expected = _anew(storage, study, compose_all(study)[ARM])
    storage.engine.dispose()
    assert arms.ask(ARM).params == expected


def test_trials_that_run_at_once_are_not_the_same(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    play(arms, ARM, 3)
    rates = [arms.ask(ARM).params["optimizer.lr"] for _ in range(4)]
    assert len(set(rates)) == 4


def test_a_random_search_never_asks_tpe(url: str, open_arms: Open) -> None:
    study = config(("sampler: tpe", "sampler: random"))
    arms, space = open_arms(url, study), compose_all(study)[ARM]
    asked = play(arms, ARM, 4)
    assert asked[3][1] == space.draw(lambda path: seeds.uniform(study.seed, 3, path))
    assert all(trial.random for trial in arms.trials(ARM))


# -- telling -------------------------------------------------------------------------------------


def test_what_is_told_is_what_is_read(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    outcomes = [
        (DONE, (0.5, 2)),
        (Outcome(state=TrialState.PRUNED, reason="pruned at epoch 2"), (0.25, 1)),
        (Outcome(state=TrialState.FAIL, failure=FailureClass.DIVERGENCE, reason="loss is nan"), (0.125, 1)),
        (Outcome(state=TrialState.FAIL, failure=FailureClass.MEMORY, reason="out of memory"), None),
    ]
    for outcome, best in outcomes:
        number, params, seed, epochs, source = arms.ask(ARM, most=2, source=7)
        for epoch, mrr in ((1, 0.1), (2, 0.2)):
            assert arms.report(ARM, number, epoch, mrr)
        arms.tell(ARM, number, outcome, best)
        record = open_arms(url).trials(ARM)[-1]
        assert (record.state, record.failure, record.reason) == (outcome.state, outcome.failure, outcome.reason)
        assert (record.best_mrr, record.best_epoch) == (best or (None, None))
        assert (dict(record.params), record.seed, record.number) == (params, seed, number)
        assert record.epochs == epochs == 2, "less than its own three"
        assert record.source == source == 7
        assert record.started is not None
        assert record.ended is not None
        assert record.started <= record.ended
    assert arms.curves(ARM) == {number: {1: 0.1, 2: 0.2} for number in range(4)}


def test_optuna_itself_sees_the_trials(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    play(arms, ARM, 1)
    arms.ask(ARM)
    arms.report(ARM, 1, 1, 0.1)
    arms.tell(ARM, 1, Outcome(state=TrialState.PRUNED), (0.1, 1))
    storage = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name=f"small/{ARM}", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert study.best_value == arms.trials(ARM)[0].best_mrr
    assert study.trials[1].intermediate_values == {1: 0.1}
    assert study.trials[0].distributions["optimizer.lr"] == optuna.distributions.FloatDistribution(1e-3, 1.0, log=True)
    storage.engine.dispose()


def test_telling_and_reporting_again_change_nothing(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    play(arms, ARM, 1)
    before = arms.trials(ARM)
    arms.tell(ARM, 0, DONE, (0.9, 9))
    assert not arms.report(ARM, 0, 3, 0.9)
    assert arms.trials(ARM) == before
    assert 3 not in arms.curves(ARM)[0]


def test_studies_of_one_database_do_not_meet(url: str, open_arms: Open) -> None:
    first, second = open_arms(url), open_arms(url, config(("name: small", "name: other")))
    play(first, ARM, 2)
    assert second.trials(ARM) == ()
    assert second.ask(ARM).number == 0


# -- crashes -------------------------------------------------------------------------------------


def test_what_runs_is_issued_again_with_its_params_and_seed(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    play(arms, ARM, 1)
    running = (arms.ask(ARM), arms.ask(ARM, most=1))
    assert [each.epochs for each in running] == [3, 1]
    assert open_arms(url).running(ARM) == running
    assert open_arms(url).reconcile(ARM) == running


def test_a_trial_that_was_never_whole_counts_for_nothing(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    play(arms, ARM, 1)
    storage = optuna.storages.RDBStorage(url)
    optuna.load_study(study_name=f"small/{ARM}", storage=storage).ask()
    storage.engine.dispose()
    again = open_arms(url)
    assert again.reconcile(ARM) == ()
    assert len(again.trials(ARM)) == 1
    assert again.curves(ARM).keys() == {0}
    assert again.ask(ARM).number == 2
    assert [trial.number for trial in again.trials(ARM)] == [0, 2]


def test_a_killed_driver_leaves_whole_trials(url: str, open_arms: Open, tmp_path: Path) -> None:
    program = tmp_path / "ask.py"
    program.write_text(
        "import sys\n"
        "from study.arms import Arms, Search\n"
        "from study.space import compose_all\n"
        "from tests.study.study_files import config\n"
        "study = config()\n"
        "arms = Arms(sys.argv[1], study.name, Search(seed=7, config=study.search, spaces=compose_all(study)))\n"
        f"while True:\n    print(arms.ask('{ARM}').number, flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(program), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env={"PYTHONPATH": str(root)}) as driver:
        assert driver.stdout is not None
        for _ in range(7):
            assert driver.stdout.readline()
        driver.kill()
    running = open_arms(url).reconcile(ARM)
    assert len(running) >= 7
    assert [each.number for each in running] == list(range(len(running)))
    assert {frozenset(each.params) for each in running} == {frozenset(running[0].params)}


def test_a_database_that_fails_now_and_then_changes_nothing(url: str, open_arms: Open, tmp_path: Path) -> None:
    undisturbed = open_arms(sqlite_url(tmp_path / "undisturbed.db"))
    asked = play(undisturbed, ARM, 5)
    arms = open_arms(url)
    statements = 0

    def fail(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements % 151 == 0:
            raise sqlite3.OperationalError("database is locked")

    sa.event.listen(arms._storage.engine, "before_cursor_execute", fail)
    assert play(arms, ARM, 5) == asked
    assert statements > 3 * 151
    sa.event.remove(arms._storage.engine, "before_cursor_execute", fail)
    assert timeless(arms.trials(ARM)) == timeless(undisturbed.trials(ARM))
    assert arms.curves(ARM) == undisturbed.curves(ARM)


def test_a_commit_whose_answer_is_lost_makes_no_second_trial(url: str, open_arms: Open) -> None:
    study = config(("random_trials: 2", "random_trials: 3"))
    arms = open_arms(url, study)
    play(arms, ARM, 1)
    lost = []

    def lose(connection: sa.Connection) -> None:
        connection.connection.commit()
        if not lost and _trials(url) == 2:
            lost.append(True)
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("connection lost"))

    sa.event.listen(arms._storage.engine, "commit", lose)
    suggestion = arms.ask(ARM)
    sa.event.remove(arms._storage.engine, "commit", lose)
    assert lost
    assert _trials(url) == 3  # Optuna tried again by itself
    assert suggestion.number == 1
    assert [trial.number for trial in arms.trials(ARM)] == [0, 1]
    assert arms.running(ARM) == (suggestion,)
    third = arms.ask(ARM)
    assert third.number == 3
    drawn = compose_all(study)[ARM].draw(lambda path: seeds.uniform(study.seed, 2, path))
    assert third.params == drawn, "the one that was taken back has used up no draw"


def test_a_driver_whose_study_was_taken_over_writes_no_trial(url: str, open_arms: Open) -> None:
    arms = open_arms(url)
    with closing(Store(url)) as store, store.lease("s").held(on_lost=int, on_stop=int) as hold, hold.fence(arms.engine):
        play(arms, ARM, 1)
        suggestion = arms.ask(ARM)
        before, curves = arms.trials(ARM), arms.curves(ARM)
        with sa.create_engine(url, poolclass=sa.NullPool).begin() as taken:
            taken.execute(sa.text("UPDATE kge_lease SET token = 'another'"))
        for write in (
            lambda: arms.ask(ARM),
            lambda: arms.report(ARM, suggestion.number, 1, 0.5),
            lambda: arms.tell(ARM, suggestion.number, DONE, (0.5, 1)),
        ):
            with pytest.raises(WorldError, match=r"^study 's': another driver has taken the study over$"):
                write()
        assert arms.trials(ARM) == before
        assert arms.curves(ARM) == curves


def test_sqlite_is_opened_for_many_small_commits(url: str, open_arms: Open) -> None:
    with open_arms(url)._storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def _anew(storage: optuna.storages.RDBStorage, study: StudyConfig, space: Space) -> dict[str, Any]:
    """What TPE asks next over the arm's trials as they lie in the database."""
    trials = storage.get_all_trials(storage.get_study_id_from_name(f"small/{ARM}"))
    seed = seeds.derive(study.seed, ARM, len(trials), "sampler") & 0xFFFFFFFF
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, study.search.first))
    copy = optuna.create_study(direction="maximize", sampler=sampler)
    copy.add_trials(trial for trial in trials if trial.state != optuna.trial.TrialState.FAIL)
    return copy.ask(distributions(space)).params


def _trials(url: str) -> int:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        count: int = connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    return count
