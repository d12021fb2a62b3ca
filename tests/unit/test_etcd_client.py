"""The client of etcd in virtual time: which endpoint is asked, and what its answers mean."""

from __future__ import annotations

import pytest

from rqdisco.backends.etcd.failures import NotApplied, TooLarge
from rqdisco.backends.etcd.messages import Txn, range_op
from rqdisco.http_client.interfaces import AnswerTooLarge, ConnectionBroken, NotSent, PostReply
from tests.support.played_etcd import (
    E1,
    E2,
    E3,
    HEADER,
    NO_LEADER,
    NO_LEASE,
    NO_SPACE,
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


def test_a_read_is_answered_with_what_etcd_has(etcd: Played) -> None:
    asked = Asked(etcd.client.range(READ))
    assert (etcd.last.path, etcd.last.body) == ("/v3/kv/range", b'{"key":"YQ=="}')
    etcd.last.answer(kvs=[{"key": "YQ==", "value": "MQ==", "mod_revision": "4"}], count="1")
    assert (asked.result.kvs[0].value, asked.result.kvs[0].mod_revision) == (b"1", 4)


def test_an_endpoint_that_answers_is_kept(etcd: Played) -> None:
    for _ in range(3):
        Asked(etcd.client.range(READ))
        etcd.last.answer()
    assert etcd.asked == [E1, E1, E1]


@pytest.mark.parametrize("why", [NotSent("connection refused"), ConnectionBroken("no answer within 1 s")])
def test_a_read_goes_on_to_the_next_endpoint_at_once_and_later_requests_stay_there(
    etcd: Played, why: Exception
) -> None:
    asked = Asked(etcd.client.range(READ))
    etcd.last.fail(why)
    etcd.last.answer()
    assert asked.result.header.revision == 5
    Asked(etcd.client.range(READ))
    assert etcd.asked == [E1, E2, E2]
    assert etcd.counts.switches == 1


def test_requests_that_fail_together_choose_another_endpoint_once(etcd: Played) -> None:
    for _ in range(4):
        Asked(etcd.client.range(READ))
    for post in etcd.sent[:4]:
        post.fail(NotSent("connection refused"))
    assert etcd.asked[4:] == [E2] * 4


def test_a_member_without_a_leader_is_left_for_another_one(etcd: Played) -> None:
    asked = Asked(etcd.client.range(READ))
    etcd.last.refuse(NO_LEADER)
    assert etcd.last.endpoint == E2
    etcd.last.answer()
    assert asked.outcomes


def test_an_attempt_takes_a_second_at_most_and_no_longer_than_the_request_has(etcd: Played) -> None:
    Asked(etcd.client.range(READ, 5.0))
    Asked(etcd.client.range(READ, 0.3))
    assert [post.seconds for post in etcd.sent] == [1.0, 0.3]


def test_operators_read_what_is_wrong_with_each_endpoint(etcd: Played) -> None:
    asked = Asked(etcd.client.range(READ, 2.0))
    fail_until_over(etcd, asked, {E1: NotSent("connection refused"), E2: NotSent("unknown host name")})
    assert asked.failure == (
        NotApplied,
        f"no etcd endpoint answers ({E1}: connection refused; {E2}: unknown host name; {E3}: connection refused)",
    )


def test_endpoints_that_refuse_connections_are_not_asked_without_a_pause(etcd: Played) -> None:
    asked = Asked(etcd.client.range(READ, 5.0))
    fail_until_over(etcd, asked, {})
    assert 20 < len(etcd.sent) < 60


def test_operators_read_that_etcd_has_no_leader(etcd: Played) -> None:
    asked = Asked(etcd.client.range(READ, 2.0))
    while not asked.outcomes:
        etcd.last.refuse(NO_LEADER)
        etcd.wait()
    assert asked.failure == (NotApplied, "etcd has no leader")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, b"404 page not found\n", "there is no JSON gateway; etcd runs with --enable-grpc-gateway=false, or "),
        (404, b"<html>", "there is no JSON gateway"),
        (502, b"Bad Gateway", "HTTP status 502 without a message of etcd's"),
        (302, b"", "HTTP status 302 without a message of etcd's"),
        (500, b"{}", "HTTP status 500 without an error code"),
        (200, b"It works!", "etcd's answer does not fit the request"),
        (200, b"{}", "etcd's answer does not fit the request"),
        (500, b'{"code":2,"message":"etcdserver: \\u001b[31m oh"}', "etcd refuses:  [31m oh"),
    ],
)
def test_what_is_not_etcd_is_named(alone: Played, status: int, body: bytes, reason: str) -> None:
    asked = Asked(alone.client.range(READ, 1.0))
    while not asked.outcomes:
        alone.last.answered.callback(PostReply(status, body))
        alone.wait()
    assert asked.failure[0] is NotApplied
    assert asked.failure[1].startswith(reason)


def test_an_answer_from_before_what_was_seen_is_noticed(etcd: Played) -> None:
    Asked(etcd.client.range(READ))
    etcd.last.answer()
    asked = Asked(etcd.client.txn(WRITE))
    etcd.last.answer(header={**HEADER, "revision": "4"}, **WRITTEN)
    assert asked.result.succeeded
    assert etcd.noticed == ["etcd went back from revision 5 to 4"]


def test_answers_that_overtake_each_other_are_not_taken_for_a_restored_store(etcd: Played) -> None:
    for _ in range(2):
        Asked(etcd.client.range(READ))
    etcd.sent[1].answer(header={**HEADER, "revision": "9"})
    etcd.sent[0].answer()
    assert etcd.noticed == []


def test_a_lease_is_granted_and_revoked(etcd: Played) -> None:
    asked = Asked(etcd.client.grant_lease(30))
    assert etcd.last.body == b'{"TTL":30}'
    etcd.last.answer(ID="77", TTL="30")
    assert (asked.result.id, asked.result.ttl) == (77, 30)
    revoked = Asked(etcd.client.revoke_lease(77))
    etcd.last.refuse(NO_LEASE)
    assert revoked.outcomes == [None]


def test_one_member_is_asked_for_its_state_once(etcd: Played) -> None:
    asked = Asked(etcd.client.status(E3))
    etcd.last.answer(version="3.4.23", dbSize="20480", leader="9")
    assert (asked.result.version, asked.result.db_size) == ("3.4.23", 20480)
    failed = Asked(etcd.client.status(E2))
    etcd.last.fail(NotSent("connection refused"))
    assert failed.failure == (NotApplied, "connection refused")
    assert etcd.asked == [E3, E2]


def test_requests_are_counted_by_outcome_with_their_time(etcd: Played) -> None:
    Asked(etcd.client.txn(WRITE))
    etcd.clock.advance(0.25)
    etcd.last.answer(**WRITTEN)
    Asked(etcd.client.txn(WRITE))
    etcd.last.refuse(NO_SPACE)
    assert etcd.counts.requests == {("txn", "ok"): 1, ("txn", "no_space"): 1}
    assert etcd.counts.seconds.total == 0.25


def test_after_an_answer_that_is_too_large_another_endpoint_is_asked(etcd: Played) -> None:
    reading = Asked(etcd.client.read(Txn(success=(range_op(READ),))))
    etcd.last.answered.errback(AnswerTooLarge("the answer is larger than 16 bytes"))
    assert reading.failure == (TooLarge, "the answer is larger than 16 bytes")
    ranging = Asked(etcd.client.range(READ))
    etcd.last.answered.errback(AnswerTooLarge("the answer is larger than 16 bytes"))
    assert etcd.asked == [E1, E2, E3]
    ranging.deferred.cancel()
