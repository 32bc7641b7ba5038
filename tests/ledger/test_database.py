"""Where the ledger is: made when it is needed, migrated, private, and silent about secrets."""

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    text,
    update,
)

from cache_proxy.calls import Budget
from cache_proxy.errors import ConfigError, LedgerError
from cache_proxy.ledger import database as module
from cache_proxy.ledger.database import FILE, Database, warn_of_old_sqlite
from cache_proxy.ledger.migrations import STEPS, migrate, schema
from cache_proxy.ledger.notes import Ending, Intent
from cache_proxy.ledger.posting import Batch
from cache_proxy.ledger.tables import batches, metadata
from tests import postgres
from tests.ledger.money import ME, NOON, PRICE, call, paid, rows, sums
from tests.ledger.test_posting import post
from tests.postgres import Postgres

TABLES = {"calls", "shares", "requests", "days", "batches", "schema_version", "keys", "key_changes", "budgets"}


def tables(connection: Connection) -> set[str]:
    schema = module.POSTGRES_SCHEMA if connection.dialect.name == "postgresql" else None
    return set(inspect(connection).get_table_names(schema=schema))


def test_it_is_made_by_whoever_comes_first(database: Database) -> None:
    database.open()
    with database.reading() as connection:
        assert tables(connection) == TABLES


def test_many_that_come_at_once_make_it_once(database: Database) -> None:
    failures = []

    def come() -> None:
        try:
            rows(database, "calls")
        except LedgerError as error:
            failures.append(error)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_one_of_a_newer_version_is_refused(database: Database) -> None:
    database.open()
    with database.writing() as connection:
        connection.execute(update(schema).values(version=99))
        with pytest.raises(ConfigError, match=f"version 99, and this cache-proxy knows {len(STEPS)}"):
            migrate(connection)


def test_one_of_an_older_version_is_brought_up_to_date_and_keeps_what_it_holds(database: Database) -> None:
    def add_a_table(connection: Connection) -> None:
        Table("later", MetaData(), Column("number", Integer)).create(connection)

    database.open()
    with database.writing() as connection:
        connection.execute(insert(batches).values(writer="w", batch="b", at=0))
    for _ in range(2):
        with database.writing() as connection:
            migrate(connection, [*STEPS, add_a_table])
    with database.reading() as connection:
        assert tables(connection) == TABLES | {"later"}
    assert len(rows(database, "batches")) == 1


def test_the_steps_lead_to_the_tables_that_the_program_uses(database: Database) -> None:
    database.open()
    with database.reading() as connection:
        schema = module.POSTGRES_SCHEMA if connection.dialect.name == "postgresql" else None
        for name, table in metadata.tables.items():
            made = {(column["name"], column["nullable"]) for column in inspect(connection).get_columns(name, schema)}
            assert made == {(column.name, column.nullable) for column in table.columns}, name


def prefix(connection: Connection) -> str:
    return f"{module.POSTGRES_SCHEMA}." if connection.dialect.name == "postgresql" else ""


def indexes(connection: Connection) -> set[str]:
    schema = module.POSTGRES_SCHEMA if connection.dialect.name == "postgresql" else None
    made = inspect(connection)
    return {
        str(index["name"])
        for name in ("calls", "shares", "requests", "days")
        for index in made.get_indexes(name, schema=schema)
    }


INDEXES = {str(index.name) for table in metadata.tables.values() for index in table.indexes}


def test_one_of_the_first_version_gets_what_came_later(database: Database) -> None:
    old = Database(database._engine, database.place)
    with old.writing() as connection:
        connection.execute(update(schema).values(version=1))
        for name in TABLES - {"calls", "shares", "requests", "days", "batches", "schema_version"}:
            metadata.tables[name].drop(connection)
        for name in ("shares_key", "days_key", "calls_open"):
            connection.execute(text(f"DROP INDEX {prefix(connection)}{name}"))
        assert indexes(connection) != INDEXES
        connection.execute(insert(batches).values(writer="w", batch="b", at=0))
    database.open()
    with database.reading() as connection:
        assert tables(connection) == TABLES
        assert indexes(connection) == INDEXES
    assert len(rows(database, "batches")) == 1


def test_budgets_of_the_second_version_are_reckoned_anew_from_what_was_paid(database: Database) -> None:
    """Their rows do not say of which duration they are, and may have missed something."""
    poor = ME._replace(budget=Budget(100 * PRICE, "1d"))
    intents = [Intent(call((poor, 30))) for _ in range(2)]
    post(database, [*intents, Ending(intents[0], paid(20), NOON)])
    with database.writing() as connection:
        connection.execute(update(schema).values(version=2))
        connection.execute(text(f"DROP INDEX {prefix(connection)}calls_open"))
        metadata.tables["budgets"].drop(connection)
        columns = (Column(name, BigInteger, nullable=name == "ends_at") for name in ("ends_at", "spent", "reserved"))
        start = Column("starts_at", BigInteger, primary_key=True, autoincrement=False)
        old = Table("budgets", MetaData(), Column("key_hash", Text, primary_key=True), start, *columns)
        old.create(connection)
        connection.execute(insert(old).values(key_hash=ME.key, starts_at=0, spent=1, reserved=1))
    newer = Database(database._engine, database.place)
    refused, fits = Intent(call((poor, 51))), Intent(call((poor, 50)))
    post(newer, [refused, fits])
    assert (refused.refusal is None, fits.refusal is None) == (False, True)
    (row,) = rows(newer, "budgets")
    assert (row["duration"], row["spent"] // PRICE, row["reserved"] // PRICE) == ("1d", 20, 80)
    with newer.reading() as connection:
        assert indexes(connection) == INDEXES


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made = Database.in_folder(tmp_path / "new" / "folder")
        made.open()
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "new" / "folder").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    made.close()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / FILE).symlink_to(tmp_path / "target")
    with pytest.raises(LedgerError):
        Database.in_folder(tmp_path).open()
    assert (tmp_path / "target").read_bytes() == b""


def test_what_is_no_database_is_an_error_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="DatabaseError"):
        Database.in_folder(tmp_path).open()
    assert (tmp_path / FILE).read_bytes() == b"not a database" * 100


def test_every_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    made = Database.in_folder(tmp_path)
    with made.writing() as connection:
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    assert told == [2, "wal"]
    made.close()


def test_one_that_waits_for_another_writer_gets_its_turn(tmp_path: Path) -> None:
    one, other = Database.in_folder(tmp_path), Database.in_folder(tmp_path)
    one.open()
    written = []

    def write() -> None:
        with other.writing() as connection:
            connection.execute(text("INSERT INTO batches VALUES ('other', 'b', 0)"))
        written.append("other")

    with one.writing() as connection:
        thread = threading.Thread(target=write)
        thread.start()
        connection.execute(text("INSERT INTO batches VALUES ('one', 'b', 0)"))
        written.append("one")
    thread.join()
    assert written == ["one", "other"]
    one.close()
    other.close()


def test_an_error_says_nothing_of_what_was_written(database: Database) -> None:
    with pytest.raises(LedgerError) as raised, database.writing() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "CANARY"})
    assert "CANARY" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_server_that_is_away_is_an_error_without_its_password() -> None:
    made = Database.of_postgres("postgres://someone:CANARY@127.0.0.1:1/ledger")
    assert made.place == "postgresql at 127.0.0.1:1/ledger"
    with pytest.raises(LedgerError) as raised:
        made.open()
    assert "CANARY" not in str(raised.value)


def test_a_url_that_can_not_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="database_url"):
        Database.of_postgres("postgresql://host:CANARY/ledger")


def test_a_connection_that_broke_is_made_anew() -> None:
    with postgres.running() as server:
        made = Database.of_postgres(server.database())
        made.open()
        server.stop()
        with pytest.raises(LedgerError):
            rows(made, "calls")
        server.start()
        assert rows(made, "calls") == []
        made.close()


def test_an_old_sqlite_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_old_sqlite()
    assert not caplog.records, "the one that comes with this project is sound"
    monkeypatch.setattr(module, "sqlite3", sqlite3)
    monkeypatch.setattr(module, "SOUND_SQLITE", (99, 0, 0))
    warn_of_old_sqlite()
    assert "install pysqlite3" in caplog.text


LOCKED = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)  # where SQLite has its shared locks
except OSError:
    print("locked")
"""


def test_another_connection_leaves_this_process_its_locks_on_the_file(tmp_path: Path) -> None:
    databases = [Database.in_folder(tmp_path) for _ in range(2)]
    with databases[0].reading(), databases[1].reading():
        command = [sys.executable, "-c", LOCKED, str(tmp_path / FILE)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "locked\n"
    for database in databases:
        database.close()


def test_what_only_litellms_client_knows_in_a_url_is_left_out(server: Postgres) -> None:
    made = Database.of_postgres(f"{server.database()}?schema=public&connection_limit=5&pgbouncer=true")
    assert rows(made, "calls") == []
    made.close()


def test_once_it_is_there_nobody_needs_the_right_to_make_it(server: Postgres) -> None:
    url = server.database()
    made = Database.of_postgres(url)
    with made.writing() as connection:
        for statement in (
            "CREATE ROLE writer LOGIN", "GRANT USAGE ON SCHEMA cache_proxy TO writer",
            "GRANT ALL ON ALL TABLES IN SCHEMA cache_proxy TO writer",
        ):  # fmt: skip
            connection.execute(text(statement))
    made.close()
    other = Database.of_postgres(url.replace("postgres@", "writer@"))
    assert rows(other, "calls") == []
    other.close()


def test_a_try_waits_for_one_whose_commit_is_under_way_and_writes_nothing_twice(server: Postgres) -> None:
    made = Database.of_postgres(server.database())
    intent = Intent(call((ME, 60)))
    batch = Batch("b", [intent, Ending(intent, paid(5), NOON)])
    again: list[list[Intent]] = []

    def retry() -> None:
        with made.writing() as connection:
            again.append(batch.post(connection, "w", NOON))

    thread = threading.Thread(target=retry)
    with made.writing() as connection:
        first = batch.post(connection, "w", NOON)
        thread.start()
        thread.join(0.3)
        assert again == [], "it waits"
    thread.join()
    assert again == [first]
    assert sums(made)[""]["tokens_billed"] == 5
    made.close()
