"""Small file systems of their own, for disks that are full or read-only. Only root may mount."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

FILLER = "filler"
NOT_PERMITTED = "mounting a tmpfs is not permitted here (it takes root on Linux): a full or read-only disk is not tried"


@contextmanager
def tmpfs(folder: Path, size: str = "16m") -> Iterator[Path]:
    """A file system of this size (``mount``'s spelling) at ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def remount(folder: Path, options: str) -> None:
    """Change a mounted file system: ``ro``, ``rw``, ``size=32m``. One with files open for writing can not be made
    read-only."""
    _run("mount", "-o", f"remount,{options}", str(folder))


@cache
def can_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        try:
            with tmpfs(Path(folder) / "tried"):
                return True
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False


def fill(folder: Path) -> Path:
    """Take all the room there is. Returns the file that has it."""
    filler = folder / FILLER
    with filler.open("wb", buffering=0) as file:
        step = 2**20
        while step:
            try:
                file.write(bytes(step))
            except OSError:
                step //= 2
    return filler


def bounded_by_permissions() -> tuple[str, ...]:
    """The command before a command that makes permission bits hold for it, even for root."""
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
