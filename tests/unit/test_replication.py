"""Deltas are accepted in any order of arrival, and the cursor is as far as there is no
gap.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest

from rqdisco.backends.gossip.core.cursors import BYTES_PER_MESSAGE, RECORDS_PER_MESSAGE, Cursors
from rqdisco.backends.gossip.core.messages import Delta, Pull
from rqdisco.core import codec
from rqdisco.core.records import Node, Record
from rqdisco.storage.memory import Change, Store

OWNER, HERE = "a" * 16, "b" * 16


def record(number: int, version: int, owner: str = OWNER) -> Record:
    return Record(id=f"id-{number}", owner=owner, version=version, created_at=0, nodes=(Node(addr=f"n{version}:1"),))


def delta(after: int, upto: int, *sent: Record) -> Delta:
    return Delta(owner=OWNER, after=after, upto=upto, records=[msgspec.Raw(codec.encode_record(each)) for each in sent])


class Receiver:
    """A daemon that receives deltas, on a disk that is written to at once."""

    def __init__(self, own: str = HERE, at_start: Sequence[Record] = (), era: int = 1) -> None:
        self.store = Store()
        self.store.settle([self.store.put(each) for each in at_start])
        self.cursors = Cursors(own, self.store, era=era)

    def take(self, *deltas: Delta) -> None:
        for each in deltas:
            taken = self.cursors.apply(each)
            self._settle(taken.changes)
            self.cursors.commit(each.owner, taken.reached)

    def put(self, *records: Record) -> None:
        self._settle([self.store.put(each) for each in records])

    def _settle(self, changes: list[Change]) -> None:
        self.store.settle(changes)
        self.cursors.settled(changes)

    @property
    def cursor(self) -> int:
        return self.cursors.cursor(OWNER)

    @property
    def versions(self) -> dict[str, int]:
        return {key: found.version for key in self.store.ids() if (found := self.store.settled(key)) is not None}


STEPS = (delta(0, 10, record(1, 4), record(2, 10)), delta(10, 12, record(1, 12)), delta(12, 15, record(3, 15)))


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)))
def test_reordered_deltas_have_the_same_result(order: Sequence[Delta]) -> None:
    receiver = Receiver()
    receiver.take(*order)
    assert receiver.cursor == 15
    assert receiver.versions == {"id-1": 12, "id-2": 10, "id-3": 15}


def test_changes_beyond_a_gap_are_stored_and_move_no_cursor() -> None:
    receiver = Receiver()
    receiver.take(STEPS[0], STEPS[2])
    assert receiver.cursor == 10
    assert receiver.versions == {"id-1": 4, "id-2": 10, "id-3": 15}


def test_a_change_refused_by_the_disk_fills_no_gap_later() -> None:
    receiver = Receiver()
    receiver.cursors.apply(STEPS[1])
    receiver.store.discard()
    receiver.cursors.rollback()
    receiver.take(STEPS[0])
    assert receiver.cursor == 10


def test_a_delta_twice_changes_nothing() -> None:
    receiver = Receiver()
    receiver.take(*STEPS, *STEPS)
    assert receiver.cursor == 15
    assert receiver.cursors.apply(STEPS[2]).changes == []


def test_pages_bring_all_records_of_an_owner_while_more_arrive() -> None:
    count = 3 * RECORDS_PER_MESSAGE
    sender = Receiver(OWNER, [record(number, number + 1) for number in range(count)])
    receiver = Receiver()
    page, upto, pages = 0, 0, 0
    while True:
        answer = sender.cursors.page(Pull(owner=OWNER, after=0, page=page, upto=upto))
        receiver.take(answer.delta)
        pages += 1
        if not answer.page:
            break
        page, upto = answer.page, answer.delta.upto
        sender.put(record(count + pages, count + pages), record(0, count + pages + 100))
    assert pages > 2
    later = sender.cursors.delta(OWNER, receiver.cursor)
    if later is not None:
        receiver.take(later)
    assert receiver.versions == sender.versions
    assert receiver.cursor == sender.cursor


def large_record(number: int) -> Record:
    """Return a record with as many nodes as an ID may have, each with the longest addresses."""
    nodes = tuple(
        Node(addr=f"{node:0250}:1", raft_addr=f"{node:0250}:2", node_id=f"{node:0260}") for node in range(1000)
    )
    return Record(id=f"id-{number}", owner=OWNER, version=number, created_at=0, nodes=nodes)


def test_large_records_travel_in_messages_that_peers_take() -> None:
    large = [large_record(number) for number in range(1, 7)]
    sender = Receiver(OWNER)
    sender.put(*large)
    pushed, pulled = Receiver(), Receiver()
    while (sent := sender.cursors.delta(OWNER, pushed.cursor)) is not None and sent.records:
        assert sum(map(len, map(bytes, sent.records))) < 2 * BYTES_PER_MESSAGE
        pushed.take(sent)
    position = 0
    while True:
        page = Receiver(OWNER, large).cursors.page(Pull(owner=OWNER, after=0, page=position, upto=6))
        assert sum(map(len, map(bytes, page.delta.records))) < 2 * BYTES_PER_MESSAGE
        pulled.take(page.delta)
        position = page.page
        if not position:
            break
    assert pushed.versions == pulled.versions == sender.versions
    assert pushed.cursor == pulled.cursor == 6


def rest_of(receiver: Receiver, place: int) -> list[str]:
    """Return the IDs of all pages from one on."""
    sent = []
    while True:
        page = receiver.cursors.page(Pull(owner=OWNER, after=1, page=place, upto=5000))
        sent += [codec.decode_record(bytes(raw)).id for raw in page.delta.records]
        place = page.page
        if not place:
            return sent


def test_a_paging_receiver_misses_nothing_when_its_peer_restarts_in_between() -> None:
    """IDs are in another order then, and a place in the previous one has no meaning."""
    records = [record(number, 2 + number) for number in range(1600)]
    place = Receiver(at_start=records).cursors.page(Pull(owner=OWNER, after=1)).page
    again = Receiver(at_start=list(reversed(records)), era=7)
    assert set(rest_of(again, place)) == {each.id for each in records}


def test_a_paging_receiver_misses_nothing_when_many_ids_are_forgotten_in_between() -> None:
    receiver = Receiver(at_start=[record(number, 2 + number) for number in range(25_000)])
    receiver.cursors.skip_versions(30_000)
    page = receiver.cursors.page(Pull(owner=OWNER, after=1))
    receiver.store.drop([f"id-{number}".encode() for number in range(23_000)])
    assert {f"id-{number}" for number in range(23_000, 25_000)} <= set(rest_of(receiver, page.page))


class CountingStore(Store):
    """A store that counts the lines read."""

    lines_read = 0

    def line(self, key: bytes) -> bytes | None:
        self.lines_read += 1
        return super().line(key)


def test_a_receiver_far_behind_gets_every_change_and_each_message_reads_only_what_it_sends() -> None:
    sender, receiver = Receiver(OWNER), Receiver()
    sender.store = store = CountingStore()
    sender.cursors = Cursors(OWNER, store)
    count = 10 * RECORDS_PER_MESSAGE
    sender.put(*(record(number % (count - 100), number + 1) for number in range(count)))
    messages = 0
    while (sent := sender.cursors.delta(OWNER, receiver.cursor)) is not None and sent.records:
        receiver.take(sent)
        messages += 1
    assert receiver.versions == sender.versions
    assert receiver.cursor == sender.cursor
    assert messages == 10
    assert store.lines_read < 2 * count
