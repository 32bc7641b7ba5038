"""The folder in which workers share their numbers: seats, those who are gone, what killed servers leave."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache_proxy.reporting import seats

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the folders are made."""
    monkeypatch.setattr(seats, "_MEMORY", tmp_path)
    monkeypatch.setenv(seats.VARIABLE, "somebody's")
    yield tmp_path
    assert seats.VARIABLE not in os.environ, "what somebody set for another program is not for ours"


def in_another_process(code: str) -> list[str]:
    """What this code, run as a worker, prints."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    begun = "from cache_proxy.reporting import seats; import os, pathlib\n"
    ended = subprocess.run(
        [sys.executable, "-c", begun + code], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def here() -> Path:
    return Path(os.environ[seats.VARIABLE])


def test_a_single_worker_shares_nothing(place: Path) -> None:
    with seats.shared(1):
        assert seats.VARIABLE not in os.environ
        assert seats.take() is None
    assert list(place.iterdir()) == []


def test_several_workers_have_a_private_folder_for_as_long_as_they_are_served(place: Path) -> None:
    with seats.shared(2):
        assert here().parent == place
        assert here().stat().st_mode & 0o777 == 0o700
        assert in_another_process("print(seats.take())") == ["0"]
    assert list(place.iterdir()) == []


def test_who_comes_takes_the_lowest_free_seat_and_its_numbers_but_not_how_things_stood() -> None:
    with seats.shared(2):
        (here() / "counter_0.db").write_text("counted")
        (here() / "gauge_livesum_0.db").write_text("under way")
        told = in_another_process(
            "folder = pathlib.Path(os.environ[seats.VARIABLE])\n"
            "print(seats.take(), seats.take(), (folder / 'counter_0.db').read_text())\n"
            "print(b'under' in (folder / 'gauge_livesum_0.db').read_bytes())"
        )
        assert told == ["0", "1", "counted", "False"]


def test_how_things_stand_counts_only_for_those_who_live() -> None:
    with seats.shared(2):
        told = in_another_process(
            "folder = pathlib.Path(os.environ[seats.VARIABLE])\n"
            "print(seats.take(), *sorted(pathlib.Path(one).name for one in seats.files(folder)))"
        )
        assert told == ["0", "counter_0.db", "gauge_livesum_0.db", "histogram_0.db"]
        assert sorted(Path(one).name for one in seats.files(here())) == ["counter_0.db", "histogram_0.db"]


def test_in_a_folder_of_somebody_elses_all_files_count_and_nobody_takes_a_seat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gauge_livesum_77.db").touch()
    monkeypatch.setenv(seats.VARIABLE, str(tmp_path))
    assert seats.take() is None
    assert [Path(one).name for one in seats.files(tmp_path)] == ["gauge_livesum_77.db"]
    monkeypatch.delenv(seats.VARIABLE)


def test_what_a_killed_server_has_left_is_removed_by_the_next_unless_a_worker_lives_on(place: Path) -> None:
    def left(name: str, *, age: float) -> Path:
        folder = place / f"{seats._PREFIX}{name}"
        folder.mkdir()
        (folder / "server.lock").touch()
        (folder / "seat-0.lock").touch()
        os.utime(folder, (time.time() - age,) * 2)
        return folder

    dead, young, alive = left("dead", age=999), left("young", age=1), left("alive", age=999)
    other = place / "of-another-program"
    other.mkdir()
    with seats._held(alive / "seat-0.lock"), seats.shared(2):
        assert [folder.exists() for folder in (dead, young, alive, other)] == [False, True, True, True]
        assert here().exists()


def test_without_a_place_for_it_each_worker_keeps_its_numbers_and_the_log_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seats, "_place", lambda: place / "nowhere")
    with seats.shared(2):
        assert seats.VARIABLE not in os.environ
    assert "/metrics tells one worker's" in caplog.text


def test_a_worker_that_can_not_use_the_folder_keeps_its_numbers_to_itself(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(seats.VARIABLE, str(place / f"{seats._PREFIX}gone"))
    assert seats.take() is None
    assert "not shared" in caplog.text
