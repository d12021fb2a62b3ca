"""IDs as names without regard to case: which are one name, and which names are ancestors of
others.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rqdisco.core.dns_labels import to_dns_labels
from rqdisco.core.name_index import NameIndex
from rqdisco.storage.memory import Store
from tests.support.daemon import Daemon, create_id

IDS = st.lists(st.from_regex(r"[A-Ca-c.-]{1,6}", fullmatch=True).map(str.encode), max_size=20)
LONG = b"a-long-id-that-is-no-uuid-and-has-a-Capital"


def other_variants(keys: Iterable[bytes], name: bytes) -> list[bytes]:
    """Return what `of` must return, computed the slow way."""
    return list(dict.fromkeys(key for key in keys if key.lower() == name and key != name))[:2]


@given(IDS, st.data())
def test_an_id_is_found_by_its_lower_case_name_and_by_no_other(keys: list[bytes], data: st.DataObject) -> None:
    name_index = NameIndex(keys)
    name = data.draw(st.sampled_from([*(key.lower() for key in keys), b"abc"]))
    assert name_index.variants(name) == other_variants(keys, name)


@given(IDS)
@example([b"a.b.c", b"A.B"])
def test_a_name_is_an_ancestor_of_those_that_end_with_a_dot_and_it(keys: list[bytes]) -> None:
    name_index = NameIndex(keys)
    names = {key.lower()[start:] for key in keys for start in range(len(key))}
    for name in names:
        assert name_index.has_subdomains(name) == any(key.lower().endswith(b"." + name) for key in keys)
    assert not name_index.has_subdomains(b"nobody")


@given(IDS)
def test_neither_order_nor_repetition_of_ids_matters(keys: list[bytes]) -> None:
    at_once, one_by_one = NameIndex(keys), NameIndex()
    for key in (*keys, *keys):
        one_by_one.add(key)
    for name in {key.lower() for key in keys}:
        assert one_by_one.variants(name) == at_once.variants(name)
        assert one_by_one.has_subdomains(name) == at_once.has_subdomains(name)


def test_lower_case_ids_which_nearly_all_are_take_no_memory() -> None:
    name_index = NameIndex(b"%08x-725f-461c-b7a4-13f185bd5007" % number for number in range(1000))
    assert not name_index._by_name
    assert not name_index._parents


def test_many_variants_of_one_name_cost_no_more_than_two() -> None:
    keys = [bytes(byte - 32 * (number >> bit & 1) for bit, byte in enumerate(b"a" * 16)) for number in range(4096)]
    assert len(set(keys)) == 4096
    name_index = NameIndex(keys)
    assert len(name_index.variants(b"a" * 16)) == 2


@pytest.mark.parametrize("key", [LONG, b"-" * 64, b"A" * 38])
def test_the_second_half_of_an_escaped_id_is_an_ancestor_of_the_whole(key: bytes) -> None:
    """A resolver that queries for one label after the other must not be answered that there is
    nothing below.
    """
    first, _, second = to_dns_labels(key.decode()).partition(".")
    assert len(first) == 63
    assert NameIndex([key]).has_subdomains(second.encode())


@pytest.mark.parametrize("key", [b"A" * 37, b"-a", b"b3da7185-725f-461c-b7a4-13f185bd5007"])
def test_an_escaped_id_of_one_label_has_no_ancestor(key: bytes) -> None:
    assert "." not in to_dns_labels(key.decode())
    assert not NameIndex([key])._parents


def test_an_id_has_its_name_once_it_is_durable() -> None:
    store = Daemon().store
    assert not store.name_index.variants(b"abc")
    daemon = Daemon()
    daemon.threads.hold = True
    record = daemon.directory._records.new_record("ABC", version=1, max_ids=None)
    change = daemon.store.put(record)
    assert daemon.store.name_index.variants(b"abc") == []
    daemon.store.settle([change])
    assert daemon.store.name_index.variants(b"abc") == [b"ABC"]


def test_ids_present_at_the_start_have_their_names_too() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    store = Store({b"A.B": b"", discovery_id.encode(): b""})
    assert store.name_index.variants(b"a.b") == [b"A.B"]
    assert store.name_index.has_subdomains(b"b")
    assert store.name_index.variants(discovery_id.encode()) == []
