"""The database: every record comes back as it went in, twice written is once written, one driver at a time."""

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event

import pytest
import sqlalchemy as sa

from study import database, lease
from study.arms import Arms
from study.database import retried, sqlite_url
from study.errors import StudyExistsError, StudyLockedError, UnknownStudyError, UserError, WorldError
from study.records import (
    Amendment,
    Arm,
    Cost,
    Dimension,
    FailureClass,
    Measurement,
    Opening,
    Outcome,
    Place,
    ReplicateRecord,
    Selection,
    SpaceCard,
    TrialState,
)
from study.store import AttemptRecord, Registration, Store
from tests.crash.servers import Postgres, postgres_binaries
from tests.ports import free_port

ARM = Arm(
    name="complex.sce",
    dataset="synthetic",
    model="complex",
    loss="sce",
    training_type="one_vs_all",
    objective="p_d",
    fixed=(("model.dim", 32), ("model.reciprocal", False)),
)
CARD = SpaceCard(
    arm=ARM.name,
    tuned=(
        Dimension(path="optimizer.lr", kind="float", low=1e-3, high=1.0, log=True),
        Dimension(path="regularizer.p", kind="categorical", choices=(1, 2.5, "two", None, True)),
    ),
    fixed=(("model.dim", 32), ("early_stopping.patience", None)),
)
STUDY = Registration(
    name="s",
    spec="name: s\n",
    spec_sha256="0" * 64,
    seed=2**63 - 1,
    dataset="synthetic",
    passport={"entities": 3, "nested": {"ratio": 0.1}},
    arms=(ARM,),
    spaces=(CARD,),
    budget=Cost(trials=3),
    budget_unit="trials",
    replicates=2,
    identical_errors=None,
    pruning=(2, 3),
    environment={"python": "3"},
    created=1_760_000_000.125,
)
MEASURED = Measurement(
    arm=ARM.name,
    trial=0,
    epoch=5,
    mrr=1 / 3,
    metrics=(("hits_at_10", 0.1), ("mean_rank", math.inf)),
    loss=0.7,
    epochs=5,
    device_seconds=1.25,
    time=100.5,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL from the programs of this machine."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("needs the programs of a PostgreSQL server")
    with Postgres(binaries) as running:
        yield running.url


@pytest.fixture
def postgres(server: str) -> str:
    """Its database, emptied."""
    engine = sa.create_engine(server)
    tables = sa.MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()
    return server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "study.db")
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    yield opened
    opened.close()


def test_a_study_comes_back_as_it_was_declared(store: Store) -> None:
    store.register_study(STUDY)
    assert store.registration("s") == STUDY
    assert store.study_names() == ["s"]


def test_a_name_is_taken_once_but_a_repeated_write_is_the_same_write(store: Store) -> None:
    store.register_study(STUDY)
    store.register_study(STUDY)
    with pytest.raises(StudyExistsError, match="`study resume s` continues it"):
        store.register_study(replace(STUDY, created=STUDY.created + 1))


def test_an_amended_study_is_what_it_was_amended_to_and_what_it_was_stays_beside_it(store: Store) -> None:
    store.register_study(STUDY, file="/here/s.yaml")
    assert (store.study_file("s"), store.amendments("s")) == ("/here/s.yaml", [])
    larger = replace(STUDY, spec="name: s  # larger\n", spec_sha256="1" * 64, budget=Cost(trials=9))
    amendment = Amendment(
        number=1, spec=larger.spec, spec_sha256="1" * 64, changes=("a: 1 -> 2", "b"), reopens=True, time=2.5
    )
    for _ in range(2):  # the same write, retried
        store.amend_study(larger, amendment, file=None)
    assert store.registration("s") == larger
    assert (store.study_file("s"), store.amendments("s")) == (None, [amendment])
    assert store.study_names() == ["s"]
    assert store.launched("s").spec_sha256 == STUDY.spec_sha256
    assert store.launched("s").spec == STUDY.spec


def test_an_unknown_study_is_refused_with_the_known_names(store: Store) -> None:
    store.register_study(STUDY)
    with pytest.raises(UnknownStudyError, match=r"study 'other' is unknown here \(known: s\)"):
        store.registration("other")


def test_an_epoch_is_charged_once_and_measured_again_it_is_waste(store: Store) -> None:
    again = replace(MEASURED, mrr=0.9, device_seconds=2.0, time=MEASURED.time + 1)
    assert store.charge("s", "search", MEASURED)
    assert store.charge("s", "search", MEASURED), "the same write, retried"
    assert not store.charge("s", "search", again)
    assert not store.charge("s", "search", again)
    assert store.measurements("s", "search") == [MEASURED]
    assert store.wasted("s") == Cost(epochs=5, device_seconds=2.0)


def test_a_validation_that_a_resumed_training_tells_again_is_no_waste(store: Store) -> None:
    assert store.charge("s", "search", MEASURED)
    assert not store.charge("s", "search", replace(MEASURED, time=MEASURED.time + 60))
    assert store.wasted("s") == Cost()


def test_charges_of_other_studies_stages_arms_trials_and_epochs_do_not_collide(store: Store) -> None:
    others = [replace(MEASURED, arm="b"), replace(MEASURED, trial=1), replace(MEASURED, epoch=10)]
    charged = [("s", "search", each) for each in (MEASURED, *others)]
    charged += [("t", "search", MEASURED), ("s", "replicate", MEASURED)]
    assert all(store.charge(*each) for each in charged)
    assert store.measurements("s", "search") == [others[0], MEASURED, others[2], others[1]]


def test_an_attempt_is_written_when_it_starts_and_when_it_ends(store: Store) -> None:
    open_ = AttemptRecord(arm=ARM.name, stage="search", trial=0, attempt=0, started=1.5)
    store.record_attempt("s", open_)
    assert store.attempts("s", "search") == [open_]
    lost = Outcome(state=TrialState.FAIL, failure=FailureClass.INFRASTRUCTURE, reason="worker lost")
    closed = replace(open_, ended=2.5, outcome=lost)
    store.record_attempt("s", closed)
    store.record_attempt("s", closed)
    assert store.attempts("s", "search") == [closed]
    assert store.attempts("s", "replicate") == []


def test_where_an_attempt_ran_is_written_once(store: Store) -> None:
    place = Place(arm=ARM.name, stage="search", trial=3, attempt=1, node="f" * 56, host="node-a", device="NVIDIA H100")
    store.record_place("s", place)
    store.record_place("s", place)
    assert store.places("s") == [place]
    assert store.places("other") == []


def test_a_database_from_before_places_were_written_down_opens(url: str) -> None:
    Store(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE kge_places"))
    engine.dispose()
    store = Store(url)
    assert store.places("s") == []
    store.close()


def test_what_was_selected_first_stays(store: Store) -> None:
    config = {"seed": 1, "model": {"name": "complex", "dim": 32}, "optimizer": {"lr": 0.1}}
    chosen = Selection(arm=ARM.name, trial=1, epoch=5, valid_mrr=1 / 3, config=config, sha256="a" * 64, time=9.5)
    store.record_selection("s", chosen)
    store.record_selection("s", replace(chosen, trial=2))
    assert store.selections("s") == [chosen]
    later = replace(chosen, trial=2, number=1)
    store.record_selection("s", later)
    assert store.selections("s") == [chosen, later]


def test_a_replicate_is_overwritten_and_costs_what_it_was_charged(store: Store) -> None:
    running = ReplicateRecord(
        arm=ARM.name,
        index=0,
        selection_sha256="a" * 64,
        seed=2**31 - 1,
        state=TrialState.RUNNING,
        best_epoch=None,
        valid_mrr=None,
        test_metrics=(),
        cost=Cost(trials=1),
        ranks_file=None,
    )
    store.record_replicate("s", running)
    assert store.replicates("s") == [running]
    store.charge("s", "replicate", MEASURED)
    tested = replace(
        running,
        state=TrialState.COMPLETE,
        best_epoch=5,
        valid_mrr=1 / 3,
        test_metrics=(("mrr", 0.1), ("hits_at_10", 0.3)),
        cost=Cost(trials=1, epochs=5, device_seconds=1.25),
        ranks_file="ranks/complex.sce-0.parquet",
        reason="max_epochs",
    )
    store.record_replicate("s", tested)
    assert store.replicates("s") == [tested]


def test_an_opening_is_written_once_and_the_next_beside_it(store: Store) -> None:
    first = Opening(arm=ARM.name, number=0, selection_sha256="a" * 64, replicates=(0, 1), time=1.0)
    store.record_opening("s", first)
    store.record_opening("s", replace(first, time=2.0))
    assert store.openings("s") == [first]
    second = replace(first, number=1, replicates=(2,), amendment=1)
    store.record_opening("s", second)
    assert store.openings("s") == [first, second]


def test_a_second_driver_is_refused_until_the_first_lets_go(store: Store) -> None:
    first, second = store.lease("s"), store.lease("s")
    first.acquire()
    first.acquire()
    with pytest.raises(StudyLockedError, match=f"must have one driver, process {os.getpid()} on"):
        second.acquire()
    store.lease("t").acquire()
    first.release()
    second.acquire()
    assert not first.renew()
    assert second.renew()


def test_a_driver_that_died_on_this_machine_frees_its_study_at_once(store: Store, url: str) -> None:
    code = "import sys; from study.store import Store; Store(sys.argv[1]).lease('s').acquire(); print('held')"
    driver = subprocess.Popen([sys.executable, "-c", code + "; input()", url], stdin=-1, stdout=-1, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    with pytest.raises(StudyLockedError, match=f"process {driver.pid} on"):
        store.lease("s").acquire()
    driver.kill()
    os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # dead, but still a zombie
    store.lease("s").acquire()
    driver.communicate()


def rewrite_lease(url: str, *, patience: float = 30.0, **values: object) -> None:
    """Another host has written the lease of study s, or another clock; it waits so long for a lock."""
    waits = (
        {"options": f"-c lock_timeout={1000 * patience:g}"} if url.startswith("postgresql") else {"timeout": patience}
    )
    engine = sa.create_engine(url, connect_args=waits, poolclass=sa.NullPool)
    with engine.begin() as connection:
        names = ", ".join(f"{name} = :{name}" for name in values)
        connection.execute(sa.text(f"UPDATE kge_lease SET {names} WHERE study = 's'"), values)


@pytest.mark.parametrize("expires", [-1.0, 3600.0])
def test_a_driver_elsewhere_frees_its_study_when_it_renews_its_lease_no_more(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, expires: float
) -> None:
    monkeypatch.setattr(lease, "WATCH_SECONDS", 0.5)
    first, second, said = store.lease("s"), store.lease("s"), list[str]()
    first.acquire()
    rewrite_lease(url, host="elsewhere boot pid:[1]", pid=1, expires=time.time() + expires)
    second.acquire(say=said.append)
    died = "process 1 on elsewhere, which may have died"
    assert said == [f"study s: waiting 0.5 s at most to see whether {died}, renews its lease"]
    assert second.renew()
    assert not first.renew()


@pytest.mark.parametrize("expires", [1.0, 1e12])
@pytest.mark.parametrize("host", ["elsewhere", f"{socket.gethostname()} boot pid:[1]"])
def test_a_driver_elsewhere_lives_while_it_renews_whatever_its_clock_says(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, host: str, expires: float
) -> None:
    monkeypatch.setattr(lease, "WATCH_SECONDS", 60.0)
    first, hostname = store.lease("s"), host.partition(" ")[0]
    first.acquire()
    rewrite_lease(url, host=host, pid=2**30, expires=expires)  # no process of ours has this number

    def renew_late() -> None:
        Event().wait(0.5)
        rewrite_lease(url, expires=expires + 1)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(renew_late)
        with pytest.raises(StudyLockedError, match=f"process {2**30} on {hostname} is running it"):
            store.lease("s").acquire()
    assert first.renew()


def test_processes_are_looked_up_only_where_their_numbers_are_ours(store: Store, url: str) -> None:
    store.lease("s").acquire()
    hostname, ours = socket.gethostname(), lease.this_host()
    for host, is_gone in [(ours, True), (hostname, True), (f"{hostname} boot pid:[1]", False), ("elsewhere", False)]:
        rewrite_lease(url, host=host, pid=2**30)
        owner = store.lease("s").owner()
        assert owner is not None
        assert owner.is_gone is is_gone
        assert owner.is_alive is not is_gone
        assert owner.name == f"process {2**30} on {host.partition(' ')[0]}"


def test_a_driver_can_ask_whether_the_study_is_still_its_own(store: Store, url: str) -> None:
    lost = list[bool]()
    with store.lease("s").held(on_lost=lambda: lost.append(True), on_stop=pytest.fail) as hold:
        hold.check()
        rewrite_lease(url, token="another's")
        with pytest.raises(WorldError, match=r"^study 's': another driver has taken the study over$"):
            hold.check()
        assert lost


def writes(store: Store) -> dict[str, Callable[[], object]]:
    """What a driver writes, by name."""
    attempt = AttemptRecord(arm=ARM.name, stage="search", trial=0, attempt=0, started=1.0)
    amendment = Amendment(number=1, spec="", spec_sha256="", changes=(), reopens=False, time=1.0)
    opening = Opening(arm=ARM.name, number=0, selection_sha256="", replicates=(0,), time=1.0, amendment=0)
    place = Place(arm=ARM.name, stage="search", trial=0, attempt=0, node="n", host="h", device="cpu")
    return {
        "amendment": lambda: store.amend_study(replace(STUDY, name="s"), amendment, file=None),
        "attempt": lambda: store.record_attempt("s", attempt),
        "charge": lambda: store.charge("s", "search", MEASURED),
        "opening": lambda: store.record_opening("s", opening),
        "place": lambda: store.record_place("s", place),
    }


@pytest.mark.parametrize("what", ["amendment", "attempt", "charge", "opening", "place"])
def test_a_driver_whose_study_was_taken_over_writes_nothing(store: Store, url: str, what: str) -> None:
    lost = list[bool]()
    with store.lease("s").held(on_lost=lambda: lost.append(True), on_stop=pytest.fail):
        before = contents(url)
        rewrite_lease(url, token="another's")
        with pytest.raises(WorldError, match=r"^study 's': another driver has taken the study over$"):
            writes(store)[what]()
        assert contents(url) == before
        assert lost


@pytest.mark.parametrize("what", ["attempt", "charge"])
def test_who_takes_a_study_over_waits_for_what_its_driver_is_writing(store: Store, url: str, what: str) -> None:
    tried = list[sa.Connection]()

    def take(connection: sa.Connection) -> None:
        tried.append(connection)
        with pytest.raises(sa.exc.OperationalError, match="lock"):
            rewrite_lease(url, patience=0.2, token="another's")

    with store.lease("s").held(on_lost=int, on_stop=pytest.fail):
        sa.event.listen(store._database.engine, "commit", take)  # written and checked
        writes(store)[what]()
        sa.event.remove(store._database.engine, "commit", take)
        assert len(tried) == 1
        rewrite_lease(url, patience=0.2, token="another's")
        with pytest.raises(WorldError, match="another driver has taken the study over"):
            writes(store)[what]()


def test_a_driver_waits_for_who_is_taking_its_study_over(store: Store, url: str) -> None:
    engine = sa.create_engine(url)
    with store.lease("s").held(on_lost=int, on_stop=pytest.fail), ThreadPoolExecutor(1) as pool:
        with engine.begin() as taking:
            taking.execute(sa.text("UPDATE kge_lease SET token = 'another'"))
            charge = pool.submit(writes(store)["charge"])
        with pytest.raises(WorldError, match="another driver has taken the study over"):
            charge.result()
    engine.dispose()
    assert store.measurements("s", "search") == []


def test_a_driver_that_sleeps_while_it_writes_holds_up_nobody_for_long(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends its session; SQLite, whose only lock it has, can not."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    taken = list[bool]()

    def sleep(_: sa.Connection) -> None:
        rewrite_lease(postgres, token="another's")
        taken.append(True)

    with closing(Store(postgres)) as store, store.lease("s").held(on_lost=int, on_stop=pytest.fail):
        sa.event.listen(store._database.engine, "commit", sleep)  # until it is taken over
        with pytest.raises(WorldError, match="another driver has taken the study over"):
            writes(store)["charge"]()
        assert taken == [True]
        assert store.measurements("s", "search") == []


def contents(url: str) -> dict[str, list[object]]:
    """The rows of all tables but the leases."""
    engine, tables = sa.create_engine(url), sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {name: list[object](connection.execute(sa.select(each))) for name, each in tables.tables.items()}
    engine.dispose()
    return {name: rows for name, rows in found.items() if name != "kge_lease"}


def test_a_held_lease_is_let_go_at_the_end(store: Store) -> None:
    with store.lease("s").held(on_lost=pytest.fail, on_stop=pytest.fail):
        assert store.lease("s").owner() is not None
    assert store.lease("s").owner() is None


def test_a_database_that_was_away_has_taken_no_study(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.01)
    ours, lost, looks, seen = store.lease("s"), list[bool](), list[bool](), Event()
    look = ours.owner

    def away_at_first() -> lease.Owner | None:
        looks.append(True)
        if len(looks) == 1:
            raise WorldError("database: must answer")
        seen.set()
        return look()

    monkeypatch.setattr(ours, "owner", away_at_first)
    with ours.held(on_lost=lambda: lost.append(True), on_stop=pytest.fail):
        assert seen.wait(30)
    assert not lost


@pytest.mark.parametrize(
    ("statements", "form"),
    [
        (["CREATE TABLE kge_studies (name TEXT PRIMARY KEY)"], 0),
        (["CREATE TABLE kge_schema (form INTEGER PRIMARY KEY)", "INSERT INTO kge_schema VALUES (99)"], 99),
    ],
)
def test_a_database_of_another_version_is_refused_and_left_alone(url: str, statements: list[str], form: int) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    tables = sa.inspect(engine).get_table_names()
    sentence = rf"was written by another version of kge-study \(tables of form {form}, this version has form \d+\)"
    with pytest.raises(UserError, match=sentence):
        Store(url)
    assert sa.inspect(engine).get_table_names() == tables
    engine.dispose()


def test_studies_that_begin_at_once_make_their_tables_one_after_the_other(postgres: str) -> None:
    together = Barrier(6)

    def begin(number: int) -> None:
        together.wait()
        Store(postgres).close()
        together.wait()
        Arms(postgres, f"s{number}").close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(begin, range(6)))


@pytest.mark.parametrize("folder", ["what?", "50%41", "{ü b}"])
def test_a_file_is_where_its_path_says(folder: str, tmp_path: Path) -> None:
    file = tmp_path / folder / "study.db"
    file.parent.mkdir()
    assert database.sqlite_file(sqlite_url(file)) == file
    Store(sqlite_url(file)).close()
    Arms(sqlite_url(file), "s").close()
    assert {path.name for path in tmp_path.iterdir()} == {folder}
    assert file.is_file()


def test_sqlite_writes_ahead_and_loses_no_commit_to_a_power_cut(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path / "study.db"))
    with store._database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def test_a_call_is_repeated_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    @retried
    def call(fails: int, error: type[sa.exc.DBAPIError]) -> str:
        calls.append(fails)
        if len(calls) <= fails:
            raise error("SELECT 1", {}, Exception("the database is starting up"))
        return "answer"

    assert call(2, sa.exc.OperationalError) == "answer"
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(WorldError, match="database: must answer, got: the database is starting up"):
        call(1, sa.exc.IntegrityError)
    calls.clear()
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    with pytest.raises(WorldError):
        call(1000, sa.exc.OperationalError)


@pytest.mark.parametrize(
    ("bad", "error"),
    [("nonsense", UserError), ("oracle://here/there", UserError), ("sqlite:////no/such/folder/study.db", WorldError)],
)
def test_a_database_that_is_none_is_a_mistake_and_one_that_does_not_open_the_worlds_fault(
    bad: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="database"):
        Store(bad)


def test_a_database_that_does_not_open_is_named_without_its_password() -> None:
    url = f"postgresql+psycopg://127.0.0.1:{free_port()}/s?sslpassword=hunter2"
    with pytest.raises(WorldError, match=r"database \S+:\d+/s\?sslpassword=\*\*\*: must open"):
        Store(url)
