"""The ledger of a configuration, and who else hears of calls."""

import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING

from cache_proxy.calls import Call, CallObserver, Ledger, Settlement
from cache_proxy.settings import LedgerSettings, reveal

if TYPE_CHECKING:
    from cache_proxy.ledger.books import SqlLedger
    from cache_proxy.ledger.database import Database


log = logging.getLogger("cache_proxy")


def build_database(settings: LedgerSettings) -> "Database":
    """Where the ledger is. Nothing is opened. Raises ``ConfigError``."""
    # Here, for it loads the SQL library.
    from cache_proxy.ledger.database import Database

    url = reveal(settings.url)
    return Database.in_folder(settings.directory) if url is None else Database.of_postgres(url)


def ledger_place(settings: LedgerSettings) -> str:
    """Where it is, for people; nothing of a URL but host, port and name."""
    return build_database(settings).place


def open_ledger(settings: LedgerSettings) -> None:
    """See that it is there, and its schema up to date. Raises ``ConfigError`` and ``LedgerError``."""
    from cache_proxy.ledger.database import warn_of_old_sqlite

    database = build_database(settings)
    if settings.url is None:
        warn_of_old_sqlite()
    try:
        database.open()
    finally:
        database.close()


def build_ledger(settings: LedgerSettings, timed: Callable[[str, float], None] | None = None) -> "SqlLedger | None":
    """The ledger for an event loop, not opened; ``None`` where there is to be none. Raises ``ConfigError``."""
    if not settings.enabled:
        return None
    from cache_proxy.ledger.books import SqlLedger

    return SqlLedger(
        build_database(settings),
        refusing=settings.refusing,
        days=settings.days,
        names_days=settings.names_days,
        timed=timed,
    )


class Watched:
    """A ledger, if there is one, of which others hear as well."""

    def __init__(self, ledger: Ledger | None, observers: Sequence[CallObserver]) -> None:
        self._ledger = ledger
        self._observers = observers

    async def intend(self, call: Call) -> None:
        """See :class:`cache_proxy.calls.Ledger`. Raises ``NotPaid``."""
        if self._ledger is not None:
            await self._ledger.intend(call)

    def settle(self, call: Call, settlement: Settlement) -> Awaitable[None]:
        """See :class:`cache_proxy.calls.Ledger`."""
        for observer in self._observers:
            _tell(observer, observer.settled, call, settlement)
        return NOTHING if self._ledger is None else self._ledger.settle(call, settlement)

    def unsettled(self, call: Call) -> Awaitable[None]:
        """See :class:`cache_proxy.calls.Ledger`."""
        for observer in self._observers:
            _tell(observer, observer.unsettled, call)
        return NOTHING if self._ledger is None else self._ledger.unsettled(call)


def _tell(observer: CallObserver, what: Callable[..., None], *args: Call | Settlement) -> None:
    """A call that an observer could not count must be written down all the same."""
    try:
        what(*args)
    except Exception as error:
        log.error("%s could not record a call (%s)", type(observer).__name__, type(error).__name__)


class Nothing:
    """Nothing to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


NOTHING = Nothing()
