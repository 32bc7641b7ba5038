"""Ways to damage a disk store, or to plant something in it. Each takes its folder."""

import os
import pickle
import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import diskcache

from cache_proxy.core.codec import VERSION


def _settle(folder: Path) -> None:
    """Carry the log over into the file, so that there is something in it to damage."""
    with closing(sqlite3.connect(folder / "cache.db", timeout=10)) as connection:
        connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()


def flip(folder: Path) -> None:
    """Flip single bits all over the values and whatever lies between them, in the file and in its log."""
    _settle(folder)
    for name in ("cache.db", "cache.db-wal"):
        path = folder / name
        size = path.stat().st_size if path.exists() else 0
        with path.open("r+b") if size else open(os.devnull, "r+b") as file:  # noqa: PTH123
            for place in random.Random(1).sample(range(size // 4, size), min(size // 2, 400)):
                _flip_bit(file.fileno(), place)


def _flip_bit(descriptor: int, place: int) -> None:
    (byte,) = os.pread(descriptor, 1, place)
    os.pwrite(descriptor, bytes([byte ^ 0x10]), place)


def truncate(folder: Path) -> None:
    """Cut the file in two, and lose the second half."""
    _settle(folder)
    path = folder / "cache.db"
    os.truncate(path, path.stat().st_size // 2)


def overwrite(folder: Path) -> None:
    """Write something else over the whole file, its header too."""
    _settle(folder)
    path = folder / "cache.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(size))


def age(folder: Path) -> None:
    """Make every entry one of another version of the codec."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        other = b"cp" + bytes([VERSION + 1])
        connection.execute("UPDATE Cache SET value = CAST(? || SUBSTR(value, 4) AS BLOB)", (other,))


class Bomb:
    """A pickle that tells when it is opened: it makes ``exploded`` in the folder."""

    def __init__(self, folder: Path) -> None:
        self._place = str(folder / "exploded")

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self._place,)


def plant(folder: Path) -> None:
    """Put pickles, names of files elsewhere and settings into the store: what diskcache would obey."""
    (folder.parent / "victim").write_bytes(b"precious")
    settings = {"size_limit": 1, "cull_limit": 10, "eviction_policy": "least-recently-used", "statistics": 1}
    settings |= {"disk_min_file_size": 0, "_directory": "/", "sqlite_mmap_size": 2**26}
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        bomb = pickle.dumps(Bomb(folder))
        connection.execute("UPDATE Cache SET mode = 4, value = ? WHERE rowid % 3 = 0", (bomb,))
        place = "UPDATE Cache SET mode = rowid % 4 + 1, filename = '../victim', value = NULL WHERE rowid % 3 = 1"
        connection.execute(place)
        connection.executemany("INSERT OR REPLACE INTO Settings VALUES (?, ?)", settings.items())


def check_unharmed(folder: Path) -> None:
    """Nothing that was planted has been run, followed or removed."""
    assert not (folder / "exploded").exists()
    assert (folder.parent / "victim").read_bytes() == b"precious"


def make_foreign(folder: Path) -> None:
    """Leave the folder as another program would that uses diskcache as it comes, the keys of ours among its own."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM Cache LIMIT 50")]
    for path in folder.iterdir():
        path.unlink()
    with diskcache.Cache(str(folder), size_limit=2**20) as theirs:
        for number, key in enumerate(keys):
            theirs[key] = [Bomb(folder), b"theirs" * 100, "theirs", 7.0, bytes(50_000)][number % 5]


DAMAGE: Mapping[str, Callable[[Path], None]] = {"flipped": flip, "truncated": truncate, "overwritten": overwrite}
