"""What SQLite's errors say about the file of the disk store, and the door by which they leave as ours."""

import contextlib
import sqlite3
from collections.abc import Iterator

from cache_proxy.errors import StoreError


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the lock: worth another try."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk has no room."""
    return _code(error) & 0xFF == sqlite3.SQLITE_FULL


_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # a schema that our statements do not fit
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CONSTRAINT,  # nothing we write breaks a constraint of a sound file
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_READONLY_DBMOVED,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
}


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is broken, foreign, or no longer the one that was opened."""
    return str(error).startswith("Could not decode") or not _DAMAGE.isdisjoint({_code(error), _code(error) & 0xFF})


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The one door by which errors of SQLite and the file system enter."""
    try:
        yield
    except sqlite3.Error as error:
        said = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreError(f"disk: {said}", refused=not is_busy(error)) from error
    except OSError as error:
        raise StoreError(f"disk: {error.strerror or type(error).__name__}") from error
