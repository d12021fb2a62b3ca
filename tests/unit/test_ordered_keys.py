"""Going through the IDs of a store in their order, while they change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rqdisco.core.records import Node, Record
from rqdisco.storage import memory, ordered_keys
from rqdisco.storage.memory import Store
from rqdisco.storage.ordered_keys import ordered_keys as keys_of


@pytest.fixture(autouse=True, scope="module")
def _small_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_SCANNED_AT_ONCE", 16)
        patch.setattr(ordered_keys, "_STEP", 4)
        patch.setattr(ordered_keys, "_TEXT_STEP", 4)
        patch.setattr(ordered_keys, "_MOST", 5)
        patch.setattr(ordered_keys, "_PAGE", 3)
        yield


def add(store: Store, discovery_id: str, *addrs: str) -> None:
    nodes = tuple(Node(addr=addr) for addr in addrs)
    store.settle([store.put(Record(id=discovery_id, owner="0" * 16, version=1, created_at=1, nodes=nodes))])


@settings(deadline=None)
@given(st.lists(st.text("ab0-", min_size=1, max_size=6), unique=True, max_size=60), st.text("ab0-", max_size=3))
def test_all_ids_behind_a_place_come_once_and_in_order(names: list[str], after: str) -> None:
    store = Store()
    for name in names:
        add(store, name)
    pages = list(keys_of(store, after))
    assert [key.decode() for page in pages for key in page] == sorted(name for name in names if name > after)
    assert max(map(len, pages), default=0) <= 3


@settings(deadline=None)
@given(st.lists(st.text('aAé"\\ 1', min_size=1, max_size=8), max_size=30), st.text('aAé"\\ 1', max_size=3))
def test_no_address_that_contains_the_text_is_left_out(addrs: list[str], text: str) -> None:
    store = Store()
    for number, addr in enumerate(addrs):
        add(store, f"x{number:02}", addr)
    found = {key.decode() for page in keys_of(store, "", text) for key in page}
    wanted = text.encode().lower()
    assert {f"x{number:02}" for number, addr in enumerate(addrs) if wanted in addr.encode().lower()} <= found


def test_the_text_leaves_out_what_cannot_contain_it_except_for_extra_ids() -> None:
    store = Store()
    add(store, "orders", "10.0.0.1:4001")
    add(store, "users", "10.0.0.2:4001")
    assert [page for page in keys_of(store, "", "0.2:") if page] == [[b"users"]]
    assert [page for page in keys_of(store, "", "0.2:", {b"orders"}) if page] == [[b"orders", b"users"]]


def test_a_record_with_many_nodes_is_a_page_of_its_own() -> None:
    store = Store()
    for name in "ab":
        add(store, name, *(f"10.0.0.{number}:4001" for number in range(3000)))
    assert [page for page in keys_of(store, "") if page] == [[b"a"], [b"b"]]


def test_ids_that_expire_meanwhile_break_nothing() -> None:
    store = Store()
    for number in range(40):
        add(store, f"{number:02}")
    keys = keys_of(store, "")
    next(keys)
    store.drop([b"00", b"20", b"39"])
    found = [key for page in keys for key in page]
    assert found == sorted(set(found))
    assert {f"{number:02}".encode() for number in range(40)} - {b"00", b"20", b"39"} <= set(found)
