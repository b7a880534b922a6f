"""One database: SQLite on one machine, PostgreSQL by URL beyond it.

SQLite runs with WAL and synchronous FULL: neither a killed process nor a power cut loses a commit, so no
checkpoint on the disk is ahead of its charges. Every call is retried with back-off while the database is away, so every
write must be idempotent: a commit whose answer was lost is simply written again. The tables carry the
number of their form; a database with tables of another form is refused, never altered.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from study.errors import UserError, WorldError

log = logging.getLogger(__name__)

PATIENCE = 300.0  # seconds that a call is retried before the database counts as lost
IDLE_SECONDS = 60  # after which PostgreSQL takes its locks from a process that sleeps in the middle of a transaction
SCHEMA_TABLE = "kge_schema"
_QUOTED = str.maketrans({each: f"%{ord(each):02X}" for each in "%?{}"})
_COUNTED = {"preserve_rowcount": True}  # else PostgreSQL's answer to an INSERT is lost, and every row looks old
_CREATION = 0x6B67655F73747564  # names PostgreSQL's lock around the creation of tables

P = ParamSpec("P")
R = TypeVar("R")


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite database file, whatever its path holds.

    Only what a URL or Optuna's templates of URLs read otherwise is quoted: MLflow makes the folder as it is spelt here.
    """
    return f"sqlite:///{str(file).translate(_QUOTED)}"


def sqlite_file(url: str, *, where: str = "database") -> Path | None:
    """The file of a SQLite database; None where it is none, or one that SQLite finds by a URI of its own."""
    parts = parsed(url, where=where)
    is_path = parts.get_backend_name() == "sqlite" and "uri" not in parts.query
    return Path(parts.database) if is_path and parts.database else None


def parsed(url: str, *, where: str = "database") -> sa.URL:
    """The URL of a database in its parts; UserError where it has none, which names the option that it came from."""
    try:
        return sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise UserError(f"{where}: must be a sqlite or postgresql+psycopg URL, got: {error}") from None
    except ValueError:
        raise UserError(f"{where}: must be a URL whose port is a number, got {without_password(url)}") from None


def has_password(url: str) -> bool:
    """Whether a database's URL holds a password, before its host or in its query."""
    parts = parsed(url)
    return parts.password is not None or any("password" in key.lower() for key in parts.query)


def without_password(text: str) -> str:
    """A URL, or a sentence with some, as it may be shown; rather too little of it than a piece of a password."""
    shown = re.sub(r"(?i)([?&][^\s=&]*password[^\s=&]*=)[^\s&]*", r"\1***", text)
    return re.sub(r"(?<!/)//[^\s/:]*(:\S*)?@", "//***@", shown)


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """True for what a waiting database cures: locked, restarting, connection lost."""
    return error.connection_invalidated or isinstance(
        error, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError)
    )


def one_line(error: sa.exc.DBAPIError) -> str:
    """What the driver said, first line."""
    return str(error.orig or error).strip().splitlines()[0]


def retried(call: Callable[P, R]) -> Callable[P, R]:
    """The same call, repeated with back-off while the database is away, then WorldError."""

    @wraps(call)
    def patient(*args: P.args, **kwargs: P.kwargs) -> R:
        wait, deadline = 0.05, time.monotonic() + PATIENCE
        while True:
            try:
                return call(*args, **kwargs)
            except sa.exc.DBAPIError as error:
                if not is_transient(error) or time.monotonic() + wait > deadline:
                    raise WorldError(f"database: must answer, got: {one_line(error)}") from error
                log.warning("database: %s; trying again in %.2f s", one_line(error), wait)
            time.sleep(wait)
            wait = min(2 * wait, 5.0)

    return patient


def prepare(engine: sa.Engine) -> None:
    """On every new connection: WAL and synchronous FULL in SQLite, an end to idle transactions in PostgreSQL."""
    settings = {
        "sqlite": [f"PRAGMA {each}" for each in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL")],
        "postgresql": [f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"],
    }

    @sa.event.listens_for(engine, "connect")
    def settle(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for setting in settings.get(engine.dialect.name, ()):
            cursor.execute(setting)
        cursor.close()
        connection.commit()


@contextmanager
def fenced(engine: sa.Engine, check: Callable[[sa.Connection], None], *, but: sa.Table) -> Iterator[None]:
    """Have every transaction checked, inside it, by what it writes to any table but one; what raises rolls it back.

    It has written before it is checked, so that in SQLite no other process commits between the check and its end.
    """

    def wrote(connection: sa.Connection, *said: Any) -> None:
        statement = said[3].invoked_statement  # None for one that SQLAlchemy did not make
        if not isinstance(statement, sa.SelectBase) and getattr(statement, "table", None) is not but:
            check(connection)

    sa.event.listen(engine, "after_cursor_execute", wrote)
    try:
        yield
    finally:
        sa.event.remove(engine, "after_cursor_execute", wrote)


@contextmanager
def creation(url: str) -> Iterator[None]:
    """Creation of tables by one process at a time; PostgreSQL's IF NOT EXISTS fails where two are at it at once."""
    if parsed(url).get_backend_name() != "postgresql":
        yield
        return
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:  # the lock ends with the transaction
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION)))
        yield


class Database:
    """The few statements that the store is made of; each is one transaction."""

    def __init__(self, url: str, tables: sa.MetaData, *, schema: int) -> None:
        try:
            self.engine = sa.create_engine(parsed(url), pool_pre_ping=True)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise UserError(f"database: must be a sqlite or postgresql+psycopg URL, got: {error}") from error
        prepare(self.engine)
        shown = without_password(url)
        try:
            with creation(url):
                found = self._schema(tables, schema)
                if found == schema:
                    self._create(*tables.sorted_tables)
        except sa.exc.DBAPIError as error:
            raise WorldError(f"database {shown}: must open, got: {one_line(error)}") from error
        if found != schema:
            self.engine.dispose()
            raise UserError(
                f"database {shown}: was written by another version of kge-study"
                f" (tables of form {found}, this version has form {schema})"
            )

    def _schema(self, tables: sa.MetaData, ours: int) -> int:
        """The form of the tables in the database, 0 from before forms had numbers; where there are none, it is ours."""
        there = sa.inspect(self.engine).get_table_names()
        if SCHEMA_TABLE not in there and not tables.tables.keys().isdisjoint(there):
            return 0
        table = sa.Table(SCHEMA_TABLE, sa.MetaData(), sa.Column("form", sa.Integer, primary_key=True))
        self._create(table)  # before all others: tables without a number are old
        found = self.select(table)
        if found:
            return int(found[0]["form"])
        self.insert(table, {"form": ours})
        return ours

    def _create(self, *tables: sa.Table) -> None:
        """In one statement each: another process may be at it, too."""
        with self.engine.begin() as connection:
            for table in tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))

    def insert(self, table: sa.Table, row: Mapping[str, object]) -> bool:
        """Insert unless the key exists; True when the row is new."""
        with self.engine.begin() as connection:
            result = connection.execute(
                self._insert(table).values(dict(row)).on_conflict_do_nothing(), execution_options=_COUNTED
            )
            return result.rowcount > 0

    def upsert(self, table: sa.Table, key: Mapping[str, object], values: Mapping[str, object]) -> None:
        """Insert or overwrite the row of a key."""
        insert = self._insert(table).values({**key, **values})
        with self.engine.begin() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=dict(values)))

    def update(self, table: sa.Table, key: Mapping[str, object], values: Mapping[str, object]) -> bool:
        """Update the rows of a key; True when there was one."""
        with self.engine.begin() as connection:
            result = connection.execute(sa.update(table).where(*_equal(table, key)).values(dict(values)))
            return result.rowcount > 0

    def delete(self, table: sa.Table, **key: object) -> None:
        """Delete the rows of a key."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(table).where(*_equal(table, key)))

    def select(self, table: sa.Table, **key: object) -> Sequence[sa.RowMapping]:
        """Rows of a key, in the order of the table's primary key."""
        query = sa.select(table).where(*_equal(table, key)).order_by(*table.primary_key.columns)
        with self.engine.connect() as connection:
            return connection.execute(query).mappings().all()

    def _insert(self, table: sa.Table) -> Any:
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)


def _equal(table: sa.Table, key: Mapping[str, object]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]
