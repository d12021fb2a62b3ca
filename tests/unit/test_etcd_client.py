"""The client of etcd's gateway: fail-over, repetitions and tokens, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rqdisco.backends.etcd.auth import PATH as AUTHENTICATE
from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import AuthFailed, LeaseNotFound, NoSpace, NotApplied, OutcomeUnknown, TooLarge
from rqdisco.backends.etcd.messages import (
    Compare,
    Range,
    Txn,
    TxnOperation,
    WatchCreate,
    WatchResponse,
    delete_op,
    encode,
    put_op,
    range_op,
)
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.http_client.interfaces import AnswerTooLarge, ConnectionBroken, NotSent, PostReply
from tests.support.logs import observed_by

E1, E2, E3 = "https://e1:2379", "https://e2:2379", "https://e3:2379"
READ = Range(key=b"a")
WRITE = Txn(compare=(Compare(key=b"a", mod_revision=0),), success=(put_op(b"a", b"1"),), failure=(range_op(READ),))
HEADER = {"cluster_id": "7", "member_id": "1", "revision": "5", "raft_term": "2"}
WRITTEN = {"succeeded": True, "responses": [{"response_put": {"header": {"revision": "5"}}}]}
OTHERS = {"responses": [{"response_range": {"header": {"revision": "5"}, "count": "1"}}]}
PASSWORD = "correct horse"

NO_LEADER = 14, "etcdserver: no leader"
LEADER_CHANGED = 14, "etcdserver: leader changed"
NO_LEASE = 5, "etcdserver: requested lease not found"
NO_SPACE = 8, "etcdserver: mvcc: database space exceeded"
DENIED = 7, "etcdserver: permission denied"
DUPLICATE = 3, "etcdserver: duplicate key given in txn request"
BUSY = 8, "etcdserver: too many requests"
INVALID_TOKEN = 16, "etcdserver: invalid auth token"
NO_USER = 3, "etcdserver: user name is empty"
OLD_AUTH = 3, "etcdserver: revision of auth store is old"
WRONG_PASSWORD = 3, "etcdserver: authentication failed, invalid user ID or password"
NO_AUTH = 9, "etcdserver: authentication is not enabled"


class Post(msgspec.Struct):
    """A request that was sent, and how to answer it."""

    endpoint: str
    path: str
    body: bytes
    token: str | None
    seconds: float
    answered: Deferred[PostReply]
    was_cancelled: bool = False

    def answer(self, **members: Any) -> None:
        """Answer as etcd does."""
        self.answered.callback(PostReply(200, json.dumps({"header": HEADER, **members}).encode()))

    def refuse(self, error: tuple[int, str]) -> None:
        """Refuse as etcd does. The status is another one than etcd's, since it says nothing."""
        code, text = error
        self.answered.callback(PostReply(500, json.dumps({"error": text, "message": text, "code": code}).encode()))

    def fail(self, why: Exception) -> None:
        """Lose the request or its answer."""
        self.answered.errback(why)


class Played:
    """A client, and its transport and streams, which the test plays by hand."""

    def __init__(self, *endpoints: str, password: str | None = None) -> None:
        self.clock = Clock()
        self.sent: list[Post] = []
        self.streams: list[PlayedStream] = []
        self.counts = EtcdCounts()
        self.noticed: list[str] = []
        self.guard = RevisionGuard(Seen(), self.noticed.append)
        self.password = password
        credentials = None if password is None else lambda: Credentials("rqdisco", str(self.password))
        config = ClientConfig(endpoints or (E1,), credentials)
        self.client = EtcdClient(config, self, self, self.clock, self.guard, self.counts)

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        post = Post(endpoint, path, body, token, seconds, Deferred(lambda _: setattr(post, "was_cancelled", True)))
        self.sent.append(post)
        return post.answered

    def open(self, endpoint: str, path: str, body: bytes, token: str | None, received: Any) -> PlayedStream:
        stream = PlayedStream(endpoint, body, token, received)
        self.streams.append(stream)
        return stream

    def close(self) -> None:
        raise AssertionError("the transport belongs to another")

    @property
    def last(self) -> Post:
        return self.sent[-1]

    @property
    def asked(self) -> list[str]:
        """The endpoints of all requests."""
        return [post.endpoint for post in self.sent]

    def wait(self) -> None:
        """Let the longest pause pass."""
        self.clock.advance(0.5)


class PlayedStream:
    """A stream that the test plays by hand."""

    def __init__(self, endpoint: str, body: bytes, token: str | None, received: Any) -> None:
        self.endpoint, self.body, self.token, self.received = endpoint, body, token, received
        self.done: Deferred[None] = Deferred()

    def close(self) -> None:
        if not self.done.called:
            self.done.callback(None)


class Asked:
    """A request of the client that was started."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.outcomes: list[Any] = []
        self.deferred = Deferred.fromCoroutine(coroutine)
        self.deferred.addCallbacks(self.outcomes.append, lambda failure: self.outcomes.append(failure.value))

    @property
    def result(self) -> Any:
        """Return the result, or the exception."""
        (outcome,) = self.outcomes
        return outcome

    @property
    def failure(self) -> tuple[type[Exception], str]:
        return type(self.result), str(self.result)


@pytest.fixture
def etcd() -> Played:
    return Played(E1, E2, E3)


@pytest.fixture
def alone() -> Played:
    return Played(E1)


@pytest.fixture
def guarded() -> Played:
    """etcd with authentication."""
    return Played(E1, password=PASSWORD)


# Reads.


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


# Transactions.


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


# A restored store (E8).


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


# Authentication.


def grant(etcd: Played, token: str) -> None:
    """Answer the request for a token."""
    assert etcd.last.path == AUTHENTICATE
    assert json.loads(etcd.last.body) == {"name": "rqdisco", "password": etcd.password}
    assert etcd.last.token is None
    etcd.last.answer(token=token)


def test_the_first_request_fetches_a_token_and_all_have_it(guarded: Played) -> None:
    asked = [Asked(guarded.client.range(READ)), Asked(guarded.client.txn(WRITE))]
    assert len(guarded.sent) == 1
    grant(guarded, "abc.1")
    assert [(post.path, post.token) for post in guarded.sent[1:]] == [
        ("/v3/kv/range", "abc.1"),
        ("/v3/kv/txn", "abc.1"),
    ]
    guarded.sent[1].answer()
    guarded.sent[2].answer(**WRITTEN)
    assert all(each.outcomes for each in asked)


@pytest.mark.parametrize("refusal", [INVALID_TOKEN, NO_USER, OLD_AUTH])
def test_a_token_that_etcd_does_not_take_any_more_is_replaced_and_the_request_repeated(
    guarded: Played, refusal: tuple[int, str]
) -> None:
    asked = Asked(guarded.client.txn(WRITE))
    grant(guarded, "abc.1")
    guarded.password = "changed"
    guarded.last.refuse(refusal)
    grant(guarded, "abc.2")
    assert guarded.last.token == "abc.2"
    guarded.last.answer(**WRITTEN)
    assert asked.result.succeeded
    assert guarded.counts.renewals == 2


def test_a_user_given_before_authentication_was_switched_on_logs_in_afterwards(guarded: Played) -> None:
    Asked(guarded.client.range(READ))
    guarded.last.refuse(NO_AUTH)
    assert guarded.last.token is None
    guarded.last.answer()
    asked = Asked(guarded.client.txn(WRITE))
    # As etcd answers over https, where its gateway has a certificate.
    guarded.last.refuse(DENIED)
    grant(guarded, "abc.1")
    guarded.last.answer(**WRITTEN)
    assert asked.result.succeeded


def test_a_late_refusal_of_an_older_token_fetches_no_other_one(guarded: Played) -> None:
    Asked(guarded.client.range(READ))
    grant(guarded, "abc.1")
    first = guarded.last
    Asked(guarded.client.range(READ))
    guarded.last.refuse(INVALID_TOKEN)
    grant(guarded, "abc.2")
    first.refuse(INVALID_TOKEN)
    assert (guarded.last.path, guarded.last.token) == ("/v3/kv/range", "abc.2")


def test_a_wrong_password_is_named_and_etcd_not_asked_about_it_by_each_request(guarded: Played) -> None:
    asked = Asked(guarded.client.txn(WRITE))
    guarded.last.refuse(WRONG_PASSWORD)
    again = Asked(guarded.client.txn(WRITE))
    for each in (asked, again):
        assert each.failure == (AuthFailed, "etcd refused the user name or the password")
    assert len(guarded.sent) == 1
    guarded.clock.advance(3)
    Asked(guarded.client.range(READ))
    assert len(guarded.sent) == 2


def test_a_password_file_that_cannot_be_read_is_named() -> None:
    def read() -> Credentials:
        raise PermissionError(13, "Permission denied", "/etc/rqdisco/password")

    etcd = Played(E1)
    config = ClientConfig((E1,), read)
    client = EtcdClient(config, etcd, etcd, etcd.clock, etcd.guard, etcd.counts)
    asked = Asked(client.range(READ))
    assert asked.failure == (AuthFailed, "the password file cannot be read: Permission denied")


def test_credentials_do_no_harm_while_etcd_has_authentication_switched_off(guarded: Played) -> None:
    asked = Asked(guarded.client.range(READ))
    guarded.last.refuse(NO_AUTH)
    assert (guarded.last.path, guarded.last.token) == ("/v3/kv/range", None)
    guarded.last.answer()
    assert asked.outcomes
    Asked(guarded.client.range(READ))
    guarded.last.refuse(NO_USER)
    grant(guarded, "abc.1")
    assert guarded.last.token == "abc.1"


def test_a_transaction_that_waited_for_its_token_in_vain_was_not_applied(guarded: Played) -> None:
    asked = Asked(guarded.client.txn(WRITE, 2.0))
    while not asked.outcomes:
        guarded.last.fail(ConnectionBroken("no answer within 1 s"))
        guarded.wait()
    assert asked.failure[0] is NotApplied


def test_a_caller_that_gives_up_does_not_take_the_token_from_others(guarded: Played) -> None:
    given_up = Asked(guarded.client.range(READ))
    Asked(guarded.client.range(READ))
    given_up.deferred.cancel()
    grant(guarded, "abc.1")
    assert [post.token for post in guarded.sent] == [None, "abc.1"]


def test_no_request_waits_longer_for_a_token_than_it_has_time(guarded: Played) -> None:
    asked = Asked(guarded.client.range(READ, 0.5))
    guarded.wait()
    assert asked.failure == (NotApplied, f"no etcd endpoint answers ({E1}: no token in time)")


def test_neither_the_password_nor_the_token_is_in_any_text(guarded: Played) -> None:
    texts: list[str] = []
    with observed_by(lambda event: texts.append(str(event))):
        asked = Asked(guarded.client.range(READ, 1.0))
        guarded.last.answered.callback(PostReply(200, b'{"header":{},"token":"abc\\r\\n1"}'))
        guarded.wait()
        guarded.last.answered.callback(PostReply(200, b'{"header":{},"token":"abc.1'))
        guarded.wait()
    texts += [repr(Credentials("rqdisco", PASSWORD)), str(asked.result), repr(asked.result), repr(guarded.client)]
    assert not [text for text in texts if PASSWORD in text or "abc" in text]


# Leases, members, counts.


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


# WatchHub.


class Watched:
    """A watch of two keys."""

    def __init__(self, etcd: Played) -> None:
        self.received: list[WatchResponse] = []
        self.ends: list[Any] = []
        creates = [WatchCreate(key=b"a"), WatchCreate(key=b"b", watch_id=2)]
        self.watch = etcd.client.watch(creates, self.received.append)
        self.watch.done.addCallbacks(self.ends.append, lambda failure: self.ends.append(failure.value))


def test_one_stream_carries_several_watches(etcd: Played) -> None:
    watched = Watched(etcd)
    (stream,) = etcd.streams
    assert stream.body == b'{"create_request":{"key":"YQ=="}} {"create_request":{"key":"Yg==","watch_id":2}}'
    stream.received(b'{"result":{"header":{"revision":"5"},"watch_id":"2","events":[{"kv":{"key":"Yg=="}}]}}')
    assert [(each.watch_id, each.events[0].kv.key) for each in watched.received] == [(2, b"b")]
    watched.watch.close()
    assert watched.ends == [None]
    assert stream.done.called
    assert etcd.counts.switches == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}', "etcd has no leader"),
        (b'{"error":"etcdserver: no leader","code":14}', "etcd has no leader"),
        (b"404 page not found", "there is no JSON gateway"),
        (b'{"result":{"events":5}}', "etcd's answer does not fit the request"),
    ],
)
def test_a_watch_that_etcd_ends_says_why_and_the_next_one_asks_another_member(
    etcd: Played, line: bytes, reason: str
) -> None:
    watched = Watched(etcd)
    etcd.streams[0].received(line)
    (end,) = watched.ends
    assert type(end) is NotApplied
    assert str(end).startswith(reason)
    Watched(etcd)
    assert etcd.streams[1].endpoint == E2


def test_a_watch_whose_connection_breaks_ends(etcd: Played) -> None:
    watched = Watched(etcd)
    etcd.streams[0].done.errback(ConnectionBroken("the connection ended"))
    assert [str(end) for end in watched.ends] == ["the connection ended"]


def test_a_watch_has_a_token_and_a_refused_one_is_replaced_for_the_next_watch(guarded: Played) -> None:
    watched = Watched(guarded)
    assert guarded.streams == []
    grant(guarded, "abc.1")
    assert guarded.streams[0].token == "abc.1"
    guarded.streams[0].received(b'{"error":{"message":"etcdserver: invalid auth token"}}')
    assert [type(end) for end in watched.ends] == [NotApplied]
    Watched(guarded)
    grant(guarded, "abc.2")
    assert guarded.streams[1].token == "abc.2"


def test_a_watch_that_is_closed_while_it_waits_for_a_token_opens_no_stream(guarded: Played) -> None:
    watched = Watched(guarded)
    watched.watch.close()
    grant(guarded, "abc.1")
    assert (watched.ends, guarded.streams) == ([None], [])


def test_what_a_watcher_raises_ends_its_watch(etcd: Played) -> None:
    def fail(_: WatchResponse) -> None:
        raise ZeroDivisionError

    ends: list[Any] = []
    etcd.client.watch([WatchCreate(key=b"a")], fail).done.addErrback(lambda failure: ends.append(failure.type))
    etcd.streams[0].received(b'{"result":{}}')
    assert ends == [ZeroDivisionError]
    assert etcd.streams[0].done.called


def fail_until_over(etcd: Played, asked: Asked, reasons: dict[str, Exception]) -> None:
    """Refuse the connection of every attempt until the request is over."""
    while not asked.outcomes:
        etcd.last.fail(reasons.get(etcd.last.endpoint, NotSent("connection refused")))
        while not asked.outcomes and etcd.last.answered.called:
            etcd.clock.advance(0.01)


def test_after_an_answer_that_is_too_large_another_endpoint_is_asked(etcd: Played) -> None:
    reading = Asked(etcd.client.read(Txn(success=(range_op(READ),))))
    etcd.last.answered.errback(AnswerTooLarge("the answer is larger than 16 bytes"))
    assert reading.failure == (TooLarge, "the answer is larger than 16 bytes")
    ranging = Asked(etcd.client.range(READ))
    etcd.last.answered.errback(AnswerTooLarge("the answer is larger than 16 bytes"))
    assert etcd.asked == [E1, E2, E3]
    ranging.deferred.cancel()
