"""`study stop` and drivers in other processes: asked, awaited, told apart."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import cast

import pytest
import sqlalchemy as sa
from ray.tune.search import Searcher

from study import cli, lease
from study.drive import _note_environment, driving
from study.environment import environment
from study.errors import UserError, WorldError
from study.lease import LOST
from study.records import Assignment, Outcome, TrialState
from study.site import Site, site
from study.store import Store
from study.tuner import Desk, Stopped, _Issuer
from study.work import Stop
from tests.study.toy_study import Toy, arms_of, search_of

Captured = pytest.CaptureFixture[str]
CommandLine = Callable[..., tuple[int, str]]

DRIVER = """
import sys, threading
from study.store import Store
asked = threading.Event()
with Store(sys.argv[1]).lease("toy").held(on_lost=asked.set, on_stop=asked.set if sys.argv[2] == "obeys" else int):
    print("held", flush=True)
    asked.wait() if sys.argv[2] == "obeys" else sys.stdin.read()
"""


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    study = Toy(tmp_path)
    study.launch()
    return study


@pytest.fixture
def stop(toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> CommandLine:
    """Runs `study stop`; its exit code and all that it said."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["study", "stop", *arguments, "--home", str(toy.home)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert isinstance(left.value.code, int)
        said = capsys.readouterr()
        return left.value.code, said.out + said.err

    return run


@contextmanager
def driver(toy: Toy, what: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the study, and obeys when it is asked to stop or does not."""
    command = [sys.executable, "-c", DRIVER, toy.database, what]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_driver_in_another_process_is_asked_and_awaited(toy: Toy, stop: CommandLine) -> None:
    with driver(toy, "obeys") as process:
        code, said = stop("toy")
        asked, ended = said.splitlines()
        assert code == 0
        assert asked.startswith(f"study toy: process {process.pid} on ")
        assert asked.endswith(" is asked to stop")
        assert ended.endswith(" has ended")
        assert process.wait(60) == 0
    with closing(Store(toy.database)) as store:
        assert store.lease("toy").owner() is None


def test_a_driver_that_takes_long_is_told_and_is_still_asked(toy: Toy, stop: CommandLine) -> None:
    with driver(toy, "refuses") as process:
        code, said = stop("toy", "--timeout", "0")
        assert code == 1
        assert f"error: study 'toy': process {process.pid} on " in said
        assert said.endswith("must end within 0 s, it is still settling\n")
        with closing(Store(toy.database)) as store:
            owner = store.lease("toy").owner()
            assert owner is not None
            assert owner.stop
    assert stop("toy") == (0, "study toy: no driver is running\n")  # it was killed
    with closing(Store(toy.database)) as store, store.lease("toy").held(on_lost=pytest.fail, on_stop=pytest.fail):
        owner = store.lease("toy").owner()
        assert owner is not None
        assert not owner.stop, "the next driver was not asked"


def test_a_driver_whose_study_was_taken_over_writes_nothing_more(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 3600.0)  # its thread sleeps as it did
    stop, taken = Stop(), sa.create_engine(toy.database)
    site = Site(name="toy", home=toy.home, database=toy.database)
    with closing(Store(toy.database)) as store, driving(site, store, stop, say=pytest.fail) as hold:
        study = store.registration("toy")
        with arms_of(study, toy.database) as arms, hold.fence(arms.engine):
            work = search_of(store, study, arms, toy.folder)
            assignment = work.next()
            assert assignment is not None
            with taken.begin() as connection:
                connection.execute(sa.text("UPDATE kge_lease SET token = 'another'"))
            everything = rows_of(taken)
            outcome = Outcome(state=TrialState.COMPLETE, reason="max_epochs")
            for event in (
                work.next,
                lambda: work.measured(assignment, next(toy._training(assignment))),
                lambda: work.ended(assignment, outcome),
                lambda: work.lost(assignment, reason="", by_itself=True, held=0.0),
            ):
                with pytest.raises(WorldError, match=r"^study 'toy': another driver has taken the study over$"):
                    event()
            assert rows_of(taken) == everything
    assert stop.reason == LOST
    taken.dispose()


def rows_of(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    """All that a database holds, by table."""
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sa.select(each))] for name, each in tables.tables.items()
        }


def test_a_driver_whose_clock_is_late_is_asked_and_awaited(
    toy: Toy, stop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", -1.0)  # run out by every clock when it is written
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    asked = Event()
    with closing(Store(toy.database)) as store, ThreadPoolExecutor(1) as pool:
        held = Event()

        def drive_late() -> None:
            with store.lease("toy").held(on_lost=asked.set, on_stop=asked.set):
                held.set()
                asked.wait(60)

        driver = pool.submit(drive_late)
        held.wait(60)
        code, said = stop("toy")
        driver.result()
    assert code == 0
    doubt, told, ended = said.splitlines()
    assert "which may have died, renews its lease" in doubt
    assert told.endswith(" is asked to stop")
    assert ended.endswith(" has ended")


def test_nothing_to_stop_is_no_error_and_an_unknown_study_is(stop: CommandLine) -> None:
    assert stop("toy") == (0, "study toy: no driver is running\n")
    code, said = stop("toys")
    assert code == 2
    assert "study 'toys' is unknown in" in said


def test_what_a_study_goes_on_with_is_noted_where_it_is_something_else(toy: Toy) -> None:
    said = list[str]()
    with closing(Store(toy.database)) as store:
        study = store.registration("toy")
        _note_environment(store, study, say=said.append)
        assert said == []
        older = replace(study, environment={**study.environment, "torch": "1.0", "nodes": "8", "checkpoints": "s3://b"})
        _note_environment(store, older, say=said.append)
        _note_environment(store, older, say=said.append)
        (noted,) = store.continuations("toy")
    assert said == [f"going on with: torch: 1.0 then, {study.environment['torch']} now"]
    assert noted.environment == study.environment
    assert toy.record().continuations == (noted,)


def test_a_checkout_that_changes_while_a_driver_runs_is_nothing_that_it_goes_on_with(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(toy.database)) as store:
        study = replace(store.registration("toy"), environment=environment())
        monkeypatch.setattr("study.environment._commit", lambda: "another")
        _note_environment(store, study, say=pytest.fail)
        assert store.continuations("toy") == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_that_every_thread_would_have_for_itself_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"^database: must be a file where it is SQLite, .*, got 'sqlite"):
        site("toy", database=url)


def test_a_study_does_not_begin_in_a_folder_with_trainings_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    left = tmp_path / "toy" / "trials" / "complex.sce" / "0"
    left.mkdir(parents=True)
    Toy(tmp_path).write()
    monkeypatch.setattr(sys, "argv", ["study", "run", str(tmp_path / "toy.yaml"), "--home", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'toy' / 'trials'}: must be empty where a study begins")
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"trials"}


@pytest.mark.parametrize("command", ["status", "report", "sync", "stop"])
def test_to_look_for_a_study_makes_no_database(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", command, "toy", "--database", "sqlite:///new.db"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: study 'toy' is unknown: there is no file new.db\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["toy", "--home", "elsewhere"], "--home: must be the folder that holds 'toy' and its checkpoints, got "),
        (["toy", "--no-wait"], "--no-wait and --with-code: must come with --address http://HEAD:8265"),
        (["toy", "--database", "toy.db"], "database: must be a sqlite or postgresql+psycopg URL, got: "),
    ],
)
def test_a_study_goes_on_from_where_it_is_or_is_refused(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(toy.home)
    database = [] if "--database" in arguments else ["--database", toy.database]
    monkeypatch.setattr(sys, "argv", ["study", "resume", *arguments, *database])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert not (toy.home / "elsewhere").exists()


def test_a_study_that_was_interrupted_goes_on_where_it_ran(capsys: Captured) -> None:
    assert cli._ended(False, "toy", cli._place_in_words(Path("/h"), None, "auto")) == 130
    assert capsys.readouterr().err == "interrupted: `study resume toy --home /h --address auto` continues it\n"


def test_a_stop_before_the_first_question_ends_tune_at_once() -> None:
    stop = Stop()
    desk = Desk(Nothing(), stop=stop, width=1, look=lambda: 1, placed=lambda _: None)
    assert _Issuer(desk).suggest("a") == Searcher.FINISHED
    stop("SIGINT")
    with pytest.raises(Stopped):
        _Issuer(desk).suggest("b")


@pytest.mark.parametrize(("width", "losses"), [(1, 12), (4, 12), (24, 72)])
def test_a_large_node_that_dies_ends_no_study(width: int, losses: int) -> None:
    desk = Desk(Lost(), stop=Stop(), width=width, look=lambda: width, placed=lambda _: None)
    for number in range(losses - 1):
        desk.issue(str(number))
        desk.lose(str(number), reason="the node died")
    desk.issue("last")
    with pytest.raises(
        WorldError, match=rf"^workers: must live, {losses} were lost in a row, the last: the node died$"
    ):
        desk.lose("last", reason="the node died")


class Lost:
    """A work of which everything is lost."""

    is_done = False

    def next(self) -> Assignment:
        return cast(Assignment, object())

    def lost(self, *_: object, **__: object) -> None:
        """It knows."""


class Nothing:
    """A work without any."""

    is_done = True

    def next(self) -> None:
        return None
