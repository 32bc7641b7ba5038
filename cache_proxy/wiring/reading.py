"""The ledger of a configuration, for those who only read it."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from cache_proxy.ledger.found import Filters, Page, Usage, Whose
from cache_proxy.settings import LedgerSettings
from cache_proxy.wiring.ledger import build_database

if TYPE_CHECKING:
    from cache_proxy.ledger.database import Database


class Reader:
    """Reads the ledger, and makes none where none was written yet: that is ``None``. Its calls block: they are for
    threads, and may be made by several at once. They raise ``LedgerError``, and ``ConfigError`` for a ledger that a
    newer version has written.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        """Nothing is opened."""
        self._settings = settings
        self._lock = Lock()
        self._built: Database | None = None
        self._is_there = False

    def usage(
        self,
        by: str | None,
        since: float | None,
        until: float | None,
        whose: Whose | None = None,
        most: int | None = None,
    ) -> list[Usage] | None:
        """See :func:`cache_proxy.ledger.usage.usage`."""
        # Here and below, for it loads the SQL library.
        from cache_proxy.ledger.usage import usage

        database = self._written()
        return None if database is None else usage(database, by, since, until, whose, most)

    def spent(self, keys: Sequence[str]) -> Mapping[str, int]:
        """See :meth:`cache_proxy.ledger.keys.KeyTable.spent`. For who writes as well: where there is no ledger one is
        made, for one that could not be made is none in which nothing was spent.
        """
        from cache_proxy.ledger.keys import KeyTable

        return KeyTable(self._database()).spent(keys)

    def logs(self, filters: Filters, offset: int, limit: int, *, newest: bool, counted: bool) -> Page | None:
        """See :func:`cache_proxy.ledger.logs.page`."""
        from cache_proxy.ledger.logs import page

        database = self._written()
        return None if database is None else page(database, filters, offset, limit, newest=newest, counted=counted)

    @property
    def place(self) -> str:
        """Where the ledger is, without what a URL may hold besides."""
        return self._database().place

    def close(self) -> None:
        """Let go of every connection. It may be read again all the same."""
        with self._lock:
            if self._built is not None:
                self._built.close()

    def _database(self) -> "Database":
        with self._lock:
            if self._built is None:
                self._built = build_database(self._settings)
            return self._built

    def _written(self) -> "Database | None":
        database = self._database()
        self._is_there = self._is_there or database.is_there()
        return database if self._is_there else None
