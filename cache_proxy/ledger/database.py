"""The ledger's database: SQLite in a folder, or a PostgreSQL that several hosts share."""

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from cache_proxy.errors import ConfigError, LedgerError
from cache_proxy.ledger import migrations
from cache_proxy.ledger.migrations import migrate

try:
    # Debian's and Python's own SQLite may lose pages where two processes write (sqlite.org/wal.html#walresetbug). The
    # disk store's file is another one: two copies of SQLite in one process must never open the same.
    import pysqlite3 as sqlite3
except ImportError:  # pragma: no cover - there is one wherever this project is tested
    import sqlite3

log = logging.getLogger("cache_proxy.ledger")

FILE = "ledger.db"

SOUND_SQLITE = (3, 51, 3)
BUSY_SECONDS = 5.0
"""How long one process waits for another that writes."""

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
POSTGRES_SCHEMA = "cache_proxy"
_MIGRATION_LOCK = 0x6361636865  # "cache"


class Database:
    """One database, and the ways to write and to read. Its calls block: they are for threads.

    Every one raises ``LedgerError`` where the database can not do its work.
    """

    def __init__(self, engine: Engine, place: str, path: Path | None = None) -> None:
        """``place`` says where it is, without what a URL may hold besides; ``path`` is its file if it is one."""
        self._engine = engine
        self.place = place
        self._path = path
        self._migrated = False

    @classmethod
    def in_folder(cls, folder: Path) -> "Database":
        """The SQLite file in this folder. Nothing is touched yet."""
        path = folder / FILE
        engine = create_engine(
            f"sqlite:///{path}",
            module=sqlite3,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            poolclass=QueuePool,
            pool_size=2,
            max_overflow=8,
        )
        event.listen(engine, "do_connect", lambda *_: _make_private(path))
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return cls(engine, str(path), path)

    @classmethod
    def of_postgres(cls, url: str) -> "Database":
        """The PostgreSQL behind this URL. Nothing is reached yet. Raises ``ConfigError``."""
        try:
            engine = create_engine(
                _libpq_only("postgresql+psycopg://" + url.partition("://")[2]),
                connect_args={
                    "connect_timeout": CONNECT_SECONDS,
                    "options": _OPTIONS,
                    **_SILENCE,
                    "application_name": "cache-proxy",
                },
                pool_pre_ping=True,
                pool_size=2,
                max_overflow=8,
                execution_options={"schema_translate_map": {None: POSTGRES_SCHEMA}},
            )
        except ModuleNotFoundError:
            raise ConfigError("PostgreSQL needs its driver: pip install 'cache-proxy[postgres]'") from None
        except (SQLAlchemyError, ValueError):
            raise ConfigError("general_settings.database_url (or DATABASE_URL) can not be read as a URL") from None
        place = f"{engine.url.host or ''}:{engine.url.port or 5432}/{engine.url.database or ''}"
        return cls(engine, f"postgresql at {place}")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: committed, for good, when the block ends without an exception."""
        with _translated():
            self._migrate()
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads one state of the database."""
        with _translated():
            self._migrate()
            with self._reader() as connection:
                yield connection

    def _reader(self) -> Connection:
        options: dict[str, Any] = {"reading": True}
        if self._engine.dialect.name == "postgresql":
            # By default each statement would see a state of its own.
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        return self._engine.connect().execution_options(**options)

    def is_there(self) -> bool:
        """Whether there is a ledger already. Unlike everything else, this makes none."""
        with _translated():
            if self._path is not None and not _is_there(self._path):
                return False
            with self._reader() as connection:
                schema = POSTGRES_SCHEMA if connection.dialect.name == "postgresql" else None
                return inspect(connection).has_table(migrations.schema.name, schema=schema)

    def open(self) -> None:
        """Make sure that it is there and its schema up to date. Raises ``ConfigError`` for one of a newer version."""
        with _translated():
            self._migrate()

    def _migrate(self) -> None:
        if self._migrated:
            return
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # A large ledger takes its time, and so does another host that is at it.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
                # Not IF NOT EXISTS: that asks for the right to create even where there is nothing to create.
                if not inspect(connection).has_schema(POSTGRES_SCHEMA):
                    connection.execute(text(f"CREATE SCHEMA {POSTGRES_SCHEMA}"))
            migrate(connection)
        self._migrated = True

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        # Only the kind: a statement's parameters are in the text of an error.
        kind = type(error.orig).__name__ if error.orig is not None else type(error).__name__
        state = getattr(error.orig, "sqlstate", None) or ""
        refused = isinstance(error, DataError | IntegrityError) or state[:2] in _CONTENT
        raise LedgerError(f"the ledger's database failed: {kind}{_said(error)}", refused=refused) from None
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger's database failed: {type(error).__name__}") from None
    except (OverflowError, UnicodeEncodeError) as error:
        # What the driver can not even hand over.
        raise LedgerError(f"the ledger's database failed: {type(error).__name__}", refused=True) from None
    except OSError as error:
        raise LedgerError(f"the ledger's database failed: {error.strerror}") from None


def _said(error: DBAPIError) -> str:
    """SQLite's own words, of a fixed set that says nothing of what was written."""
    words = str(error.orig) if isinstance(error.orig, sqlite3.OperationalError) else ""
    return f" ({words})" if words in _WORDS else ""


_WORDS = frozenset(
    {"database or disk is full", "database is locked", "disk I/O error", "unable to open database file",
     "attempt to write a readonly database"}
)  # fmt: skip


def _is_there(path: Path) -> bool:
    try:
        # Another user's folder is not one that is not there.
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


_making = Lock()


_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{int(BUSY_SECONDS)}s",
        # A host that freezes with a lock held must not stop the others for longer.
        "idle_in_transaction_session_timeout": "10s",
    }.items()
)

_SILENCE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A server that says nothing any more is given up after about ten seconds."""

_CONTENT = ("22", "23", "54")
"""Classes of SQLSTATE that are about what was given: bad data, a broken rule, too long."""

_PRISMA = ("schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size")
"""What LiteLLM's database client takes in a URL, and nobody else knows."""


def _libpq_only(url: str) -> URL:
    return make_url(url).difference_update_query(_PRISMA)


def _make_private(path: Path) -> None:
    """Who spends what is nobody else's business; SQLite gives its other files the rights of this one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    # A file that is there is never opened here: to close it again would end all locks that this process has on it
    # (sqlite.org/howtocorrupt.html, 2.2), and another one could take the log from under its connections.
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _set_up(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, late and of the wrong kind.
    connection.isolation_level = None
    _set_journal(connection)
    for pragma in ("synchronous=FULL", "mmap_size=0", "trusted_schema=OFF", "cell_size_check=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _set_journal(connection: Any) -> None:
    """SQLite itself does not wait where several processes do this to a new file at a time."""
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    # To write, the lock is taken at once: two that read first and write then would both have to give up.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def warn_of_old_sqlite() -> None:
    """One line if this SQLite may lose pages of a file that two processes write."""
    if sqlite3.sqlite_version_info < SOUND_SQLITE:
        fields = {"version": sqlite3.sqlite_version, "floor": ".".join(map(str, SOUND_SQLITE))}
        log.warning(
            "SQLite %(version)s can damage a ledger that several processes write; install pysqlite3, or an SQLite "
            "from %(floor)s on",
            fields,
            extra=fields,
        )
