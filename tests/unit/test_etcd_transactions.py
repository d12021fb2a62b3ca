"""Transactions of the client of etcd: repeated until their fate is known, applied once at most."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from rqdisco.backends.etcd.failures import AuthFailed, LeaseNotFound, NoSpace, NotApplied, OutcomeUnknown
from rqdisco.backends.etcd.messages import Txn, TxnOperation, delete_op, encode, range_op
from rqdisco.http_client.interfaces import ConnectionBroken, NotSent
from tests.support.played_etcd import (
    BUSY,
    DENIED,
    DUPLICATE,
    E1,
    E2,
    E3,
    INVALID_TOKEN,
    LEADER_CHANGED,
    NO_LEADER,
    NO_LEASE,
    NO_SPACE,
    NO_USER,
    OTHERS,
    READ,
    WRITE,
    WRITTEN,
    Asked,
    Played,
    fail_until_over,
)


@pytest.fixture
def etcd() -> Played:
    return Played(E1, E2, E3)


@pytest.fixture
def alone() -> Played:
    return Played(E1)


def test_a_transaction_whose_answer_was_lost_is_sent_again_byte_for_byte(etcd: Played) -> None:
    asked = Asked(etcd.client.txn(WRITE))
    etcd.last.fail(ConnectionBroken("the connection ended"))
    etcd.last.answer(**OTHERS)
    assert asked.result.succeeded is False
    assert etcd.sent[0].body == etcd.sent[1].body == encode(WRITE)
    assert etcd.counts.resends == 1


@pytest.mark.parametrize("refusal", [LEADER_CHANGED, NO_LEADER, (2, "x"), (1, "canceled"), (4, "late"), (13, "bug")])
def test_a_transaction_whose_fate_etcd_does_not_tell_is_sent_again_and_at_last_unknown(
    etcd: Played, refusal: tuple[int, str]
) -> None:
    asked = Asked(etcd.client.txn(WRITE, 2.0))
    while not asked.outcomes:
        etcd.last.refuse(refusal)
        etcd.wait()
    assert type(asked.result) is OutcomeUnknown
    assert len(etcd.sent) > 2


def test_a_transaction_that_was_never_received_is_known_not_to_be_applied(etcd: Played) -> None:
    asked = Asked(etcd.client.txn(WRITE, 2.0))
    fail_until_over(etcd, asked, {})
    assert asked.failure[0] is NotApplied


def test_one_copy_in_doubt_leaves_a_transaction_unknown_whatever_becomes_of_the_others(etcd: Played) -> None:
    asked = Asked(etcd.client.txn(WRITE, 3.0))
    etcd.last.fail(ConnectionBroken("no answer within 1 s"))
    for refusal in (DENIED, DUPLICATE, NO_SPACE):
        assert asked.outcomes == []
        etcd.last.refuse(refusal)
        etcd.wait()
    fail_until_over(etcd, asked, {})
    assert asked.failure[0] is OutcomeUnknown


@pytest.mark.parametrize(
    ("refusal", "kind", "reason"),
    [
        (NO_LEASE, LeaseNotFound, "the lease has expired"),
        (DENIED, AuthFailed, "etcd's user lacks the permission for these keys; its role must cover the whole prefix"),
        (
            NO_SPACE,
            NoSpace,
            "etcd's database is full (NOSPACE alarm): compact and defragment it, then disarm the alarm",
        ),
        (DUPLICATE, NotApplied, "etcd refuses: duplicate key given in txn request"),
        (
            NO_USER,
            AuthFailed,
            "etcd requires a user and a password: set --etcd-user and --etcd-password-file; a client certificate"
            " does not replace them",
        ),
        (INVALID_TOKEN, AuthFailed, "etcd does not accept the token"),
    ],
)
def test_a_transaction_that_etcd_certainly_refused_is_not_sent_again(
    etcd: Played, refusal: tuple[int, str], kind: type[Exception], reason: str
) -> None:
    asked = Asked(etcd.client.txn(WRITE))
    etcd.last.refuse(refusal)
    assert asked.failure == (kind, reason)
    assert len(etcd.sent) == 1


def test_a_dead_lease_settles_a_transaction_whatever_became_of_earlier_copies(etcd: Played) -> None:
    asked = Asked(etcd.client.txn(WRITE))
    etcd.last.fail(ConnectionBroken("the connection ended"))
    etcd.last.refuse(NO_LEASE)
    assert asked.failure[0] is LeaseNotFound


def test_etcd_that_has_too_much_to_do_is_asked_again_after_a_pause(alone: Played) -> None:
    asked = Asked(alone.client.txn(WRITE, 2.0))
    while not asked.outcomes:
        alone.last.refuse(BUSY)
        alone.wait()
    assert asked.failure == (NotApplied, "etcd has too many requests waiting")


def test_an_answer_too_large_for_etcds_own_gateway_leaves_a_transaction_in_doubt(alone: Played) -> None:
    asked = Asked(alone.client.txn(WRITE, 2.0))
    while not asked.outcomes:
        alone.last.refuse((8, "grpc: received message larger than max (5000000 vs. 4194304)"))
        alone.wait()
    assert asked.failure[0] is OutcomeUnknown


def test_no_copy_is_sent_that_could_not_be_answered_in_time(alone: Played) -> None:
    asked = Asked(alone.client.txn(WRITE, 1.05))
    alone.clock.advance(1.0)
    alone.last.fail(NotSent("no connection within 1 s"))
    assert asked.failure[0] is NotApplied
    assert len(alone.sent) == 1


NESTED = Txn(success=(TxnOperation(request_txn=WRITE), delete_op(b"b"), range_op(READ)))
DELETED: dict[str, Any] = {"response_delete_range": {"header": {}}}
FOUND: dict[str, Any] = {"response_range": {"header": {}}}


@pytest.mark.parametrize(
    ("responses", "fits"),
    [
        ([{"response_txn": WRITTEN}, DELETED, FOUND], True),
        ([{"response_txn": OTHERS}, DELETED, FOUND], True),
        ([{"response_txn": {"responses": []}}, DELETED, FOUND], False),
        ([{"response_txn": WRITTEN}, FOUND, DELETED], False),
        ([{"response_txn": WRITTEN}, DELETED], False),
        ([FOUND, DELETED, FOUND], False),
        ([], False),
    ],
)
def test_an_answer_to_less_than_was_asked_is_no_answer(alone: Played, responses: list[Any], fits: bool) -> None:
    asked = Asked(alone.client.txn(NESTED, 1.0))
    while not asked.outcomes:
        alone.last.answer(succeeded=True, responses=responses)
        alone.wait()
    assert (type(asked.result) is OutcomeUnknown) != fits
    assert type(alone_read(responses)) is (NotApplied if not fits else type(asked.result))


def alone_read(responses: list[Any]) -> Any:
    """Return the outcome of the same transaction as one that only reads."""
    alone = Played(E1)
    asked = Asked(alone.client.read(NESTED, 1.0))
    while not asked.outcomes:
        alone.last.answer(succeeded=True, responses=responses)
        alone.wait()
    return asked.result


def test_a_caller_that_gives_up_cancels_what_is_in_flight(etcd: Played) -> None:
    asked = Asked(etcd.client.txn(WRITE))
    asked.deferred.cancel()
    assert etcd.last.was_cancelled
    assert type(asked.result) is CancelledError
    assert etcd.counts.requests == {("txn", "cancelled"): 1}


def test_a_caller_that_gives_up_during_a_pause_sends_nothing_more(alone: Played) -> None:
    asked = Asked(alone.client.txn(WRITE))
    for _ in range(2):
        alone.last.fail(NotSent("connection refused"))
    asked.deferred.cancel()
    alone.wait()
    assert len(alone.sent) == 2
    assert alone.clock.getDelayedCalls() == []
