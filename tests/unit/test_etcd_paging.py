"""All keys of a long range are read, in order, and etcd lists few of them more than once."""

from __future__ import annotations

from bisect import bisect_left
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from rqdisco.backends.etcd.messages import KeyValue, Range, RangeResponse
from rqdisco.backends.etcd.paging import RangeCursor

PREFIX = b"/rqdisco/v1/ids/"
MOST = 20


def answer(keys: list[bytes], asked: Range) -> RangeResponse:
    """Answer as etcd does: the count is that of the whole range."""
    inside = keys[bisect_left(keys, asked.key) : bisect_left(keys, asked.range_end)]
    page = inside[: asked.limit]
    return RangeResponse(kvs=tuple(map(KeyValue, page)), more=len(page) < len(inside), count=len(inside))


def read_all(names: list[str]) -> tuple[list[str], int, int]:
    """Return the names in the order of pages, the number of pages, and that of keys listed."""
    keys = sorted(PREFIX + name.encode() for name in names)
    keys = [b"/rqdisco/v1/answers/a", *keys, b"/rqdisco/v1/meta"]
    cursor, found, pages, listed = RangeCursor(PREFIX, MOST), [], 0, 0
    while not cursor.is_at_end:
        page = answer(keys, cursor.part())
        cursor.advance(page)
        found += [each.key[len(PREFIX) :].decode() for each in page.kvs]
        pages, listed = pages + 1, listed + page.count
    return found, pages, listed


@given(st.sets(st.text("-.09AZaz_", min_size=1, max_size=40), max_size=150))
def test_every_key_is_read_once_and_in_order(names: set[str]) -> None:
    assert read_all(list(names))[0] == sorted(names)


def test_keys_that_differ_only_far_behind_are_read_too() -> None:
    names = [f"{'a' * 60}{number:05}" for number in range(500)]
    assert read_all(names)[0] == names


def test_the_work_grows_with_the_number_of_keys_and_not_with_its_square() -> None:
    random = Random(1)
    names = [str(UUID(int=random.getrandbits(128))) for _ in range(20_000)]
    found, pages, listed = read_all(names)
    assert found == sorted(names)
    assert pages < 5 * len(names) / MOST
    assert listed < 20 * len(names)


def test_nothing_is_one_page() -> None:
    assert read_all([])[:2] == ([], 1)
