import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache_proxy.backends.disk_place import check_writable, file_system
from cache_proxy.backends.disk_trouble import CALM, Trouble
from cache_proxy.errors import ConfigError
from tests.mounts import NOT_PERMITTED, bounded_by_permissions, can_mount, fill, remount, tmpfs

CHECK = "import sys; from pathlib import Path; from cache_proxy.backends.disk_place import check_writable as check; "
CHECK += "check(Path(sys.argv[1]))"


def check_as_somebody_bound_by_permissions(folder: Path) -> str:
    """What the check says there, to a user whom permission bits bind."""
    command = [*bounded_by_permissions(), sys.executable, "-c", CHECK, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2]


@pytest.mark.skipif(
    sys.platform != "linux", reason="root is bound by permission bits through setpriv, which is Linux's"
)
@pytest.mark.parametrize("bits", [0o500, 0o000])
def test_a_folder_that_may_not_be_written_is_named_with_the_remedy(tmp_path: Path, bits: int) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=bits)
    said = check_as_somebody_bound_by_permissions(folder)
    assert "ConfigError" in said
    for word in (str(folder), "Permission denied", f"user {os.getuid()}", "CACHE_PROXY_DIR", "disk_cache_dir"):
        assert word in said


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
@pytest.mark.parametrize("name", ["cache.lock", "cache.db", "cache.db-wal", "cache.db-shm"])
def test_a_store_of_another_user_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch(mode=0o400)
    assert f"({tmp_path}/{name})" in check_as_somebody_bound_by_permissions(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_a_folder_that_may_not_be_written_is_named_though_the_store_in_it_may(tmp_path: Path) -> None:
    for name in ("cache.lock", "cache.db"):
        (tmp_path / name).touch()
    tmp_path.chmod(0o555)
    said = check_as_somebody_bound_by_permissions(tmp_path)
    tmp_path.chmod(0o755)
    assert f"Permission denied ({tmp_path})" in said


def test_the_check_leaves_nothing_behind_but_the_lock(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.lock"]


@pytest.mark.skipif(not can_mount(), reason=NOT_PERMITTED)
def test_a_full_disk_is_no_mistake_and_may_be_mended_later(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "1m,nr_inodes=5") as disk:
        (disk / "store").mkdir()
        for name in ("cache.lock", "cache.db"):
            (disk / "store" / name).touch()
        fill(disk)
        check_writable(disk / "store")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=str(folder)):
            check_writable(folder)


def test_a_link_in_place_of_the_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic links"):
        check_writable(tmp_path)


def test_a_folder_that_is_not_there_yet_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not can_mount(), reason=NOT_PERMITTED)
def test_a_read_only_disk_is_no_mistake_and_may_be_mended_later(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk") as disk:
        remount(disk, "ro")
        check_writable(disk / "store")


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    mounts = "/dev/x / ext4 rw 0 0\nhost:/ /mnt/team nfs4 rw 0 0\ntmpfs /mnt/my\\040disk tmpfs rw 0 0\n"
    assert file_system(Path("/mnt/team/cache"), mounts) == "nfs4"
    assert file_system(Path("/mnt/teammates"), mounts) == "ext4"
    assert file_system(Path("/mnt/my disk/a"), mounts) == "tmpfs"


def test_trouble_is_told_once_however_often_it_flaps_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    trouble = Trouble(Path("/cache"), lambda: now)
    for _ in range(100):
        trouble.met("disk: SQLITE_FULL")
        now += CALM / 2
        trouble.passed()
    now += CALM
    trouble.passed()
    trouble.passed()
    assert [record.getMessage() for record in caplog.records] == [
        "disk store not written, answers are not kept directory=/cache reason=disk: SQLITE_FULL",
        "disk store written again directory=/cache",
    ]
