"""``cache-proxy check``: what a configuration would do, said before it does it.

``report`` says what the settings say, ``probing`` asks the store and the ledger, ``words`` writes it down for people.
"""

import asyncio
import os
from collections.abc import Mapping

from cache_proxy.check import probing
from cache_proxy.check.probing import probe
from cache_proxy.check.report import OFFLINE, Report, report
from cache_proxy.errors import ConfigError
from cache_proxy.settings import load

__all__ = ["Report", "check"]


def check(path: str | None, *, offline: bool = False, environ: Mapping[str, str] = os.environ) -> Report:
    """The report on this file, or on the environment alone. ``offline`` connects to nothing and opens no folder."""
    try:
        settings = load(path, environ)
        store = OFFLINE if offline else asyncio.run(probe(settings))
        ledger = probing.ledger(settings, offline=offline)
    except ConfigError as error:
        return Report(config=path, error=str(error))
    return report(path, settings, store, ledger)
