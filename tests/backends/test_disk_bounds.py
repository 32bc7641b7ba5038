from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.backends.disk_bounds import PAGE, Bounds, weight_of

MIB = 2**20
sizes = st.integers(16 * MIB, 2**42)
entries = st.dictionaries(st.binary(min_size=1, max_size=4), st.builds(bytes, st.integers(0, 300_000)), max_size=40)


@given(sizes, sizes)
def test_pages_log_and_one_write_more_stay_within_the_bound_and_a_tenth(max_bytes: int, disk_bytes: int) -> None:
    bounds = Bounds(max_bytes, disk_bytes)
    assert bounds.goal + bounds.log_most + bounds.log_most // 2 <= bounds.whole * 1.1
    assert bounds.whole <= min(max_bytes, disk_bytes)
    assert bounds.tidy_to < bounds.tidy_from < bounds.goal
    assert bounds.log_pages * PAGE <= bounds.log_most // 2


@given(sizes, st.integers(0, 2**42), st.integers(0, 2**42), st.integers(0, 2**30))
def test_the_pages_leave_the_log_its_room_on_the_disk_and_a_damaged_file_its_own(
    max_bytes: int, in_file: int, free: int, aside: int
) -> None:
    bounds = Bounds(max_bytes, max_bytes)
    room = bounds.room(in_file, free, aside)
    assert room + aside <= bounds.goal
    assert room - in_file <= free - bounds.log_most, "growing to the full may take no more than this"


@given(sizes, entries)
def test_what_is_written_at_once_fits_into_the_log_and_nothing_is_left_out(
    max_bytes: int, entries: dict[bytes, bytes]
) -> None:
    bounds = Bounds(max_bytes, max_bytes)
    parts = list(bounds.parts(entries))
    assert [pair for part in parts for pair in part.items()] == list(entries.items())
    for part in parts:
        assert len(part) == 1 or sum(map(weight_of, part.values())) <= bounds.log_most // 2


def test_a_batch_of_512_vectors_is_written_at_once_in_a_store_of_a_gibibyte() -> None:
    vectors = {number.to_bytes(2, "big"): bytes(4145) for number in range(512)}
    assert [len(part) for part in Bounds(2**30, 2**40).parts(vectors)] == [512]
