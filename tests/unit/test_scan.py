"""Going through all records of a store while they change."""

from __future__ import annotations

import pytest

from rqdisco.core.records import Record
from rqdisco.storage import memory
from rqdisco.storage.memory import Scan, Store


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SCANNED_AT_ONCE", 4)


def add(store: Store, *ids: str) -> None:
    store.settle([store.put(Record(id=each, owner="0" * 16, version=1, created_at=1)) for each in ids])


def store_of(ids: str) -> Store:
    store = Store()
    add(store, *ids)
    return store


def rest_of(scan: Scan, count: int = 3) -> str:
    keys: list[bytes] = []
    while page := scan.next_keys(count):
        assert len(page) <= count
        keys += page
    return b"".join(keys).decode()


@pytest.mark.parametrize("ids", ["", "a", "abcd", "abcdefghij"])
def test_every_id_is_returned_once(ids: str) -> None:
    assert rest_of(store_of(ids).scan()) == ids


def test_ids_settled_meanwhile_follow() -> None:
    store = store_of("abcdef")
    scan = store.scan()
    assert scan.next_keys(3) == [b"a", b"b", b"c"]
    add(store, "g", "a")
    assert rest_of(scan) == "defg"


@pytest.mark.parametrize("taken", range(7))
@pytest.mark.parametrize("dropped", ["a", "c", "f", "abc", "bdf", "abcdef"])
def test_no_id_is_missed_or_returned_twice_when_others_are_deleted(taken: int, dropped: str) -> None:
    store = store_of("abcdefghij")
    scan = store.scan()
    before = b"".join(scan.next_keys(1)[0] for _ in range(taken)).decode()
    store.drop([each.encode() for each in dropped])
    found = before + rest_of(scan)
    assert len(set(found)) == len(found)
    assert set("abcdefghij") - set(dropped) <= set(found)


def test_deletions_while_the_rest_is_known_move_nothing() -> None:
    store = store_of("abcdefghij")
    scan = store.scan()
    assert scan.next_keys(2) == [b"a", b"b"]
    store.drop([b"a"])
    assert scan.next_keys(3) == [b"c", b"d", b"e"]
    store.drop([b"c", b"j"])
    assert rest_of(scan).startswith("fghi")
