"""The log of an owner's changes returns what followed a version, or that this is too long ago."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from rqdisco.backends.gossip.core.change_log import ChangeLog
from rqdisco.backends.gossip.core.packed import PackedKeys

KEYS = st.one_of(
    st.uuids().map(lambda each: str(each).encode()),
    st.sampled_from(
        [
            b"rqlite",
            b"00000000-0000-0000-0000-000000000001",
            b"00000000-0000-8000-0000-000000000001",
            b"9AF5306D-5842-851C-A00F-72FE57B0EB16",
            b"9af5306d5842851ca00f72fe57b0eb16",
            b"9af5306d-5842-851c-a00f-72fe57b0eb16\n",
            b"cluster-of-somebody_in_production.35",
            b"9af5306-d5842-851c-a00f-72fe57b0eb16",
            b"9af5306d-58-2-851c-a00f-72fe57b0eb16",
            b"9af5306d-5842-851c-a00f-72fe57b0ebxx",
            b"x" * 200,
        ]
    ),
)


@given(keys=st.lists(KEYS, max_size=40))
def test_keys_are_returned_unchanged(keys: list[bytes]) -> None:
    packed = PackedKeys(keys)
    assert packed.unpack() == keys


def test_keys_that_are_uuids_only_when_joined_are_returned_unchanged() -> None:
    text = b"9af5306d-5842-851c-a00f-72fe57b0eb16" * 2
    keys = [text[:35], text[35:]]
    assert PackedKeys(keys).unpack() == keys


def test_a_change_of_a_created_id_takes_little_memory() -> None:
    keys = [b"%08x-5842-851c-a00f-72fe57b0eb16" % number for number in range(20_000)]
    tracemalloc.start()
    try:
        log = ChangeLog(0, max_changes=10_000)
        for version, key in enumerate(keys, 1):
            log.add(version, key)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 10_000 * 40


@given(
    changes=st.lists(st.tuples(st.integers(1, 60), st.sampled_from([b"a", b"b", b"c"])), max_size=60),
    most=st.integers(1, 40),
    after=st.integers(0, 60),
)
def test_the_log_returns_all_changes_after_a_version_or_reports_that_it_cannot(
    changes: list[tuple[int, bytes]], most: int, after: int
) -> None:
    log = ChangeLog(0, most)
    for version, key in changes:
        log.add(version, key)
    since = log.since(after)
    expected = {key for version, key in changes if version > after}
    assert since is None or (set(since) == expected and len(since) == len(expected))
    if since is None:
        assert len(changes) > most


def test_a_full_log_remembers_the_newest() -> None:
    log = ChangeLog(0, max_changes=1000)
    for version in range(1, 5001):
        log.add(version, b"%d" % version)
    assert log.since(5000 - 900) == [b"%d" % version for version in range(5000, 4100, -1)]
    assert log.since(3000) is None
    assert log.since(4100, limit=10) == [b"%d" % version for version in range(5000, 4990, -1)]


def test_a_gap_that_is_filled_later_hides_no_earlier_change() -> None:
    log = ChangeLog(0)
    for version in (10, 3, 11):
        log.add(version, b"%d" % version)
    assert log.since(9) == [b"11", b"10"]
    assert log.since(2) == [b"11", b"3", b"10"]
    assert log.since(10) == [b"11"]
