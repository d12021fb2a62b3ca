"""Reads and writes that wait together are sent together."""

from __future__ import annotations

from functools import partial

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.etcd.batches import Batches
from rqdisco.backends.etcd.messages import (
    KeyValue,
    OperationResponse,
    Range,
    RangeResponse,
    Txn,
    TxnResponse,
    put_op,
)
from tests.support.daemon import result

SLOW_SECONDS = 0.1


class Etcd:
    """Keeps what is sent, and answers when told."""

    def __init__(self) -> None:
        self.reads: list[tuple[Txn, Deferred[TxnResponse]]] = []
        self.node_nonces: list[tuple[Txn, Deferred[TxnResponse]]] = []

    def read(self, txn: Txn) -> Deferred[TxnResponse]:
        self.reads.append((txn, Deferred()))
        return self.reads[-1][1]

    def write(self, txn: Txn) -> Deferred[TxnResponse]:
        self.node_nonces.append((txn, Deferred()))
        return self.node_nonces[-1][1]


def operations(sent: list[tuple[Txn, Deferred[TxnResponse]]]) -> list[int]:
    """Return the number of operations of each transaction."""
    return [len(txn.success) for txn, _ in sent]


def answer(sent: tuple[Txn, Deferred[TxnResponse]]) -> None:
    txn, answered = sent
    responses = tuple(OperationResponse(response_range=RangeResponse()) for _ in txn.success)
    answered.callback(TxnResponse(succeeded=True, responses=responses))


@pytest.fixture
def etcd() -> Etcd:
    return Etcd()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def batches(etcd: Etcd, clock: Clock) -> Batches:
    return Batches(etcd.read, etcd.write, clock)


def put(batches: Batches, key: bytes) -> Deferred[TxnResponse]:
    return batches.write(key, Txn(success=(put_op(key, b"value"),)), 5)


def test_what_arrives_while_a_batch_is_under_way_is_sent_in_one_batch(etcd: Etcd, batches: Batches) -> None:
    read = [batches.read(Range(key=b"%d" % number)) for number in range(5)]
    assert operations(etcd.reads) == [1]
    answer(etcd.reads[0])
    assert operations(etcd.reads) == [1, 4]
    answer(etcd.reads[1])
    assert all(each.called for each in read)


def test_a_range_that_many_want_is_read_once(etcd: Etcd, batches: Batches) -> None:
    batches.read(Range(key=b"first"))
    wanted = [b"a", b"b", b"a", b"a"]
    read = [batches.read(Range(key=key), Range(key=b"meta")) for key in wanted]
    answer(etcd.reads[0])
    txn, answered = etcd.reads[1]
    keys = [each.request_range.key for each in txn.success if each.request_range is not None]
    assert keys == [b"a", b"meta", b"b"]
    responses = tuple(OperationResponse(response_range=RangeResponse(kvs=(KeyValue(key=key),))) for key in keys)
    answered.callback(TxnResponse(succeeded=True, responses=responses))
    found = [[each.kvs[0].key for each in result(reading)] for reading in read]
    assert found == [[key, b"meta"] for key in wanted]


def test_what_is_decided_on_records_that_were_read_together_is_written_together(etcd: Etcd, batches: Batches) -> None:
    def decide(key: bytes, _: object) -> None:
        put(batches, key)

    batches.read(Range(key=b"first"))
    for key in (b"1", b"2", b"3"):
        batches.read(Range(key=key)).addCallback(partial(decide, key))
    answer(etcd.reads[0])
    assert operations(etcd.node_nonces) == []
    answer(etcd.reads[1])
    assert operations(etcd.node_nonces) == [3]


@pytest.mark.parametrize(("seconds", "sent"), [(SLOW_SECONDS / 2, [1]), (SLOW_SECONDS, [1, 2])])
def test_a_second_batch_is_sent_only_if_the_first_one_is_slow(
    etcd: Etcd, batches: Batches, clock: Clock, seconds: float, sent: list[int]
) -> None:
    put(batches, b"first")
    put(batches, b"second")
    clock.advance(seconds)
    put(batches, b"third")
    assert operations(etcd.node_nonces) == sent


def test_a_third_batch_waits_even_if_both_are_slow(etcd: Etcd, batches: Batches, clock: Clock) -> None:
    for number in range(4):
        put(batches, b"%d" % number)
        clock.advance(SLOW_SECONDS)
    assert operations(etcd.node_nonces) == [1, 1]


def test_reads_that_arrive_together_are_sent_together(etcd: Etcd, clock: Clock) -> None:
    batches = Batches(etcd.read, etcd.write, clock, lambda start: clock.callLater(0, start))
    for number in range(3):
        batches.read(Range(key=b"%d" % number))
    assert operations(etcd.reads) == []
    clock.advance(0)
    assert operations(etcd.reads) == [3]
