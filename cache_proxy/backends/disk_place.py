"""Where the disk store is to be: what can be said of the place before it is used."""

import errno
import logging
import os
import tempfile
from pathlib import Path

from cache_proxy.errors import ConfigError

log = logging.getLogger("cache_proxy.disk")

_REMOTE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "smb2",
    "9p",
    "afs",
    "ceph",
    "fuse.sshfs",
    "fuse.glusterfs",
}

_MISTAKES = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR, errno.ENOENT}
"""What no waiting will mend. A full disk and one that has become read-only may pass."""


REMEDY = "name another in CACHE_PROXY_DIR or litellm_settings.cache_params.disk_cache_dir"


def check_writable(
    directory: Path,
    *,
    what: str = "the disk store",
    file: str = "cache.db",
    lock: str = "cache.lock",
    remedy: str = REMEDY,
) -> None:
    """Raise ``ConfigError`` where ``what`` is in this folder may not be written because somebody set it up so.

    A full or broken disk is no such mistake: answers go on without the store.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _try_folder(directory)
        if lock:
            _try(directory / lock, os.O_RDWR | os.O_CREAT)
        for name in (file, f"{file}-wal", f"{file}-shm"):
            _try(directory / name, os.O_RDWR)
    except OSError as error:
        if error.errno not in _MISTAKES:
            return
        who = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
        raise ConfigError(
            f"{what} can not be in {directory}: {error.strerror} ({error.filename}); make it a folder that {who} may "
            f"write, or {remedy}"
        ) from None


def _try_folder(directory: Path) -> None:
    """SQLite makes and removes files beside the store: files that may be written are not enough."""
    try:
        tempfile.TemporaryFile(dir=directory, prefix="cache.").close()
    except OSError as error:
        # Of the folder, and not of a name that nobody has ever seen.
        raise OSError(error.errno, error.strerror, str(directory)) from None


def _try(path: Path, flags: int) -> None:
    try:
        os.close(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600))
    except FileNotFoundError:
        return


def warn_of_remote_folder(directory: Path) -> None:
    """One line if SQLite's locks do not hold there."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    kind = file_system(directory.resolve(), mounts)
    if kind in _REMOTE:
        fields = {"directory": str(directory), "file_system": kind}
        log.warning(
            "directory=%(directory)s is on %(file_system)s: SQLite's locks do not hold there; "
            "use a local disk or redis",
            fields,
            extra=fields,
        )


def file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system that holds an absolute ``path``, from the text of ``/proc/self/mounts``."""
    kinds = {point: kind for _, point, kind, *_ in map(str.split, mounts.splitlines())}
    for folder in (path, *path.parents):
        kind = kinds.get(str(folder).replace(" ", "\\040"))
        if kind is not None:
            return kind
    return None
