"""One process at a time: the lock file beside the disk store.

SQLite has a lock of its own for writers, and before 3.51.3 a defect in it: a checkpoint that meets another
connection's restart of the log can corrupt the file ("WAL-reset", https://sqlite.org/wal.html#walresetbug).
So writing, checkpoints, opening and replacing the file all happen under this lock. Reading needs none.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cache_proxy.errors import StoreError

if sys.platform != "win32":
    import fcntl

_PAUSE = 0.002


class FolderLock:
    """``cache.lock`` in ``directory``. Not re-entrant. A process that is killed lets go of it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "cache.lock"

    @contextlib.contextmanager
    def held(self, patience: float) -> Iterator[None]:
        """Hold it. Raises ``StoreError(refused=False)`` if another has it for ``patience`` seconds, and
        ``OSError`` where the folder can not be written.
        """
        if sys.platform == "win32":
            yield
            return
        # A file of its own each time: the folder may have been made anew.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _take(descriptor, time.monotonic() + patience)
            yield
        finally:
            os.close(descriptor)


def _take(descriptor: int, give_up_at: float) -> None:
    while sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                raise StoreError("disk: busy, another process is writing", refused=False) from None
        time.sleep(_PAUSE)
