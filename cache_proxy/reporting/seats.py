"""Where the workers of one server keep their numbers, so that each can tell those of all.

``serve`` makes a folder for as long as it runs. Each worker takes a seat in it, the lowest that is free, and its
numbers are in files of that seat's number. A worker that comes for one that died takes the seat over and counts on, so
nothing is lost and the files do not grow in number. A seat is a lock that ends with its process: how things stood with
a worker that is gone is then known to be over.

It knows nothing of the library that writes the files, but how it names them and the variable it reads.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("cache_proxy")

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""How the folder reaches the workers: prometheus_client's own name for it."""

_OTHER_SPELLING = "prometheus_multiproc_dir"
_PREFIX = "cache-proxy-metrics-"
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are private; it is there where no disk may be written
_KINDS = ("counter", "histogram", "gauge_livesum")
_ROOM = 2**18
"""Bytes of each file that are really there from the start: a page that the disk has no room for would be a signal, and
the end of the worker."""

_YOUNG = 60.0
"""Seconds in which another server may be about to lock what it has just made."""


@contextlib.contextmanager
def shared(workers: int) -> Iterator[None]:
    """For as long as this lasts, the processes that are started share their numbers, if they are several."""
    # This process and its workers are ours, and what somebody set for another program is not for them.
    for name in (VARIABLE, _OTHER_SPELLING):
        os.environ.pop(name, None)
    folder = _made() if workers > 1 else None
    if folder is None:
        yield
        return
    os.environ[VARIABLE] = str(folder)
    try:
        with _held(folder / "server.lock"):
            yield
    finally:
        os.environ.pop(VARIABLE, None)
        shutil.rmtree(folder, ignore_errors=True)


def _made() -> Path | None:
    try:
        if sys.platform == "win32":
            raise OSError("there are no locks of this kind")
        _sweep(place := _place())
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    except OSError as error:
        log.warning("the workers can not share their numbers (%s): /metrics tells one worker's", error.strerror)
        return None


def _place() -> Path:
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove what servers that were killed have left: folders of ours in which nobody holds anything."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            old = time.time() - status.st_mtime > _YOUNG
            if old and status.st_uid == os.getuid() and not any(map(_is_held, folder.glob("*.lock"))):
                shutil.rmtree(folder, ignore_errors=True)


def take() -> int | None:
    """The number of this process's seat in its server's folder, taken until the process ends. ``None`` if there is no
    such folder; where it can not be used, this process is made to keep its numbers to itself.
    """
    folder = Path(os.environ.get(VARIABLE, ""))
    if not folder.name.startswith(_PREFIX):
        return None
    try:
        number = _seat(folder)
        _prepare(folder, number)
    except OSError as error:
        log.warning("this worker's numbers are not shared (%s): /metrics tells those of the others", error.strerror)
        del os.environ[VARIABLE]
        return None
    return number


def _seat(folder: Path) -> int:
    number = 0
    while _locked(folder / f"seat-{number}.lock") is None:
        number += 1
    return number


def _prepare(folder: Path, number: int) -> None:
    # How things stood with the one who had the seat before is over; what he counted goes on.
    for left in folder.glob(f"gauge_*_{number}.db"):
        left.unlink()
    for kind in _KINDS:
        path = folder / f"{kind}_{number}.db"
        if not path.exists():
            path.write_bytes(bytes(_ROOM))


def files(folder: Path) -> list[str]:
    """The files whose numbers count: all, but for how things stand with workers of ours that are gone."""
    gone = {lock.stem.removeprefix("seat-") for lock in folder.glob("seat-*.lock") if not _is_held(lock)}
    return [str(path) for path in folder.glob("*.db") if not _tells_how_it_stands(path, gone)]


def _tells_how_it_stands(path: Path, of: set[str]) -> bool:
    return path.name.startswith("gauge_live") and path.stem.rpartition("_")[2] in of


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    descriptor = _locked(path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(path: Path) -> int | None:
    """The lock, to be held until it is closed; ``None`` if somebody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
    return descriptor


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
