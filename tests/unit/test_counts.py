"""Counters of requests, and counts of a million records without scanning them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rqdisco.core.codec import encode_record, split_record
from rqdisco.core.records import Grant, Leader, Node, Record
from rqdisco.storage.initial_count import RECORDS_AT_ONCE, InitialCount
from rqdisco.storage.memory import Store
from rqdisco.storage.node_counter import NodeCounter, nodes_in
from rqdisco.storage.timed_disk import TimedDisk
from rqdisco.telemetry.counters import Histogram, RequestCounts
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor

OWNER, OTHER = "0123456789abcdef", "fedcba9876543210"
NASTY = st.text(st.sampled_from('a"\\}{[],:é \n')) | st.just('"},{"addr":"x"}],"nodes":[{"addr":"y"}],"lost":true}')
NODES = st.builds(Node, addr=NASTY, raft_addr=st.none() | NASTY, node_id=st.none() | NASTY)
RECORDS = st.builds(
    Record,
    id=st.just("x"),
    owner=st.sampled_from((OWNER, OTHER)),
    version=st.integers(0, 2**53),
    created_at=st.integers(0, 2**53),
    nodes=st.lists(NODES, max_size=4).map(tuple),
    grant=st.none() | st.builds(Grant, addr=NASTY, boot=st.just(1), at=st.just(1), pending=st.booleans()),
    was_emptied=st.booleans(),
    leader=st.none()
    | st.builds(Leader, addr=NASTY, value=NASTY, created=st.just(1), modified=st.just(1), flags=st.integers(0, 9)),
    confirmed=st.booleans(),
    previous_owners=st.lists(st.just(OTHER), max_size=2).map(tuple),
    ownerless=st.booleans(),
)


def kept(record: Record) -> bytes:
    return split_record(encode_record(record))[1]


def record(number: int, *addrs: str, owner: str = OWNER, lost: bool = False) -> Record:
    nodes = tuple(Node(addr=addr) for addr in addrs)
    return Record(id=f"id-{number}", owner=owner, version=number, created_at=1, nodes=nodes, ownerless=lost)


def put(store: Store, *records: Record) -> None:
    store.settle([store.put(each) for each in records])


@given(RECORDS)
def test_node_count_and_owner_are_read_from_the_bytes_whatever_nodes_are_called(known: Record) -> None:
    assert nodes_in(kept(known)) == len(known.nodes)
    node_counter = NodeCounter()
    node_counter.changed(None, kept(known))
    assert list(node_counter.owners()) == [(known.owner, known.ownerless, 1)]


def test_every_field_of_a_record_was_tried_in_the_bytes() -> None:
    """A field after `lost` in the line would hide it."""
    assert Record.__struct_fields__[-1] == "ownerless"
    assert Node.__struct_fields__[0] == "addr"


def test_nodes_are_counted_through_registrations_removals_and_changes_of_owner() -> None:
    store = Store()
    store.node_counter = node_counter = NodeCounter()
    put(store, record(1, "a", "b"), record(2, "a"))
    assert (node_counter.nodes, list(node_counter.owners())) == (3, [(OWNER, False, 2)])
    put(store, record(1, "b"), record(2, owner=OTHER, lost=True))
    assert (node_counter.nodes, sorted(node_counter.owners())) == (1, [(OWNER, False, 1), (OTHER, True, 1)])


def test_records_present_at_the_start_are_counted_gradually_while_they_change() -> None:
    clock, store = Clock(), Store()
    count = 3 * RECORDS_AT_ONCE
    put(store, *(record(number, "a", "b") for number in range(count)))
    store.node_counter = node_counter = NodeCounter(list(store.values()))
    census = InitialCount(clock, node_counter)
    census.startService()
    assert not node_counter.is_complete
    put(store, record(0, "a"), record(count - 1), record(count, "a"))
    clock.pump([0.01] * 3)
    assert node_counter.is_complete
    assert (node_counter.nodes, list(node_counter.owners())) == (2 * count - 1 - 2 + 1, [(OWNER, False, count + 1)])
    assert not clock.getDelayedCalls()


def test_a_stopped_count_leaves_no_timer() -> None:
    clock, store = Clock(), Store()
    put(store, *(record(number) for number in range(RECORDS_AT_ONCE + 1)))
    census = InitialCount(clock, NodeCounter(list(store.values())))
    census.startService()
    assert clock.getDelayedCalls()
    census.stopService()
    assert not clock.getDelayedCalls()


def test_a_value_belongs_to_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5, 99.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 1, 2], 104.5)


def test_unknown_methods_are_counted_as_one() -> None:
    counts = RequestCounts()
    for number in range(100):
        counts.answered(("discovery", "/ID"), b"M%d" % number, 404, 0.1)
    counts.answered(("discovery", "/ID"), b"GET", 404, 0.1)
    assert {key[1]: each.statuses[404] for key, each in counts.by_route.items()} == {"other": 100, "GET": 1}
    assert len(counts._known) == 1


@pytest.mark.parametrize("stall", [0.0, 0.3, 1.0])
def test_a_stall_of_the_reactor_is_measured_in_full(stall: float) -> None:
    clock = Clock()
    watch = ReactorDelayMonitor(clock)
    watch.startService()
    clock.advance(0.1)
    clock.advance(0.1 + stall)
    assert watch.late.total == pytest.approx(stall)
    assert sum(watch.late.counts) == 2
    watch.stopService()
    assert not clock.getDelayedCalls()


def test_syncs_are_measured_in_the_thread_that_waits_for_them(tmp_path: Path) -> None:
    clock, syncs = Clock(), Histogram((0.1, 1.0))

    def seconds() -> float:
        clock.advance(0.25)
        return clock.seconds()

    handle = TimedDisk(seconds, syncs).create(tmp_path / "segment")
    handle.write(b"abc")
    handle.sync()
    handle.close()
    assert (syncs.counts, syncs.total) == ([0, 1, 0], 0.25)
    assert (tmp_path / "segment").read_bytes() == b"abc"
