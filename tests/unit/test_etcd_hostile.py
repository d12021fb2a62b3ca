"""Nothing that others write under the prefix, or answer in etcd's place, breaks a daemon."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from rqdisco.backends.etcd import batch_queue
from rqdisco.backends.etcd.meta import encode_meta
from rqdisco.core.errors import EtcdUnavailable, NoSuchID, StoreUnavailable, TooManyNodes, Undecided
from rqdisco.core.records import Node, Record
from rqdisco.http_client.interfaces import AnswerTooLarge, PostReply
from tests.support.daemon import give_up, result, transferred
from tests.support.etcd.asking import A, B, create, go, is_alone, listed, put_by, register, remove
from tests.support.etcd.daemon import PREFIX, Backend, Cluster, opened
from tests.support.etcd.faults import writes
from tests.support.etcd.memory import DELIVER, HANG, Fate

DEEP = b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
STRANGE = [
    b'{"error":"caf\xe9"}',
    b'{"header":{"cluster_id":"\xff"}}',
    DEEP,
    b"<html>",
    b"null",
    b"",
    b'{"code":1e999}',
]


@pytest.fixture
def daemon() -> Backend:
    return opened(Cluster(), seed=1)


def wait(daemon: Backend, seconds: float) -> None:
    for _ in range(round(seconds * 4)):
        daemon.cluster.clock.advance(0.25)


def write(daemon: Backend, key: bytes, value: bytes = b"") -> None:
    """Write a key as somebody else does."""
    document = {"key": text(f"{PREFIX}v1/".encode() + key), "value": text(value)}
    daemon.cluster.gateway.post("m1", "/v3/kv/put", json.dumps(document).encode(), None)


def text(content: bytes) -> str:
    return b64encode(content).decode()


def answered(daemon: Backend, asking: Deferred[Any], seconds: float = 8.0) -> Any:
    """Return what a request is answered with in time; raise what it fails with."""
    wait(daemon, seconds)
    return result(asking)


def requests(daemon: Backend, discovery_id: str) -> list[Callable[[], Deferred[Any]]]:
    directory = daemon.directory
    return [
        lambda: Deferred.fromCoroutine(directory.look_up(discovery_id)),
        lambda: Deferred.fromCoroutine(daemon.names.look_up_name(discovery_id)),
        lambda: register(daemon, discovery_id, A),
        lambda: remove(daemon, discovery_id, A),
        lambda: Deferred.fromCoroutine(directory.claim(discovery_id, put_by(A), None)),
        lambda: Deferred.fromCoroutine(directory.report(discovery_id, put_by(A), None)),
        lambda: Deferred.fromCoroutine(directory.clear_leader(discovery_id)),
    ]


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("body", STRANGE, ids=["latin-1", "not UTF-8", "deep", "html", "null", "empty", "number"])
@pytest.mark.parametrize("path", ["/v3/kv/txn", "/v3/lease/grant"])
def test_answers_that_no_etcd_gives_refuse_requests_only_while_they_come(
    daemon: Backend, path: str, body: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery_id, post = create(daemon), daemon.transport.post

    def strange(endpoint: str, asked: str, *more: Any) -> Deferred[PostReply]:
        return succeed(PostReply(status, body)) if asked == path else post(endpoint, asked, *more)

    monkeypatch.setattr(daemon.transport, "post", strange)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            answered(daemon, register(daemon, discovery_id, A))
    monkeypatch.undo()
    assert is_alone(register(daemon, discovery_id, A))
    assert listed(daemon, discovery_id) == [A]


@pytest.mark.parametrize(
    "value",
    [b"{", b'{"id":"\xff"}', DEEP, b'{"id":"orders","home":"0000000000000000","version":1,"created_at":1}'],
    ids=["not JSON", "not UTF-8", "deep", "of another ID"],
)
def test_a_damaged_record_refuses_requests_for_its_id_alone(daemon: Backend, value: bytes) -> None:
    other = create(daemon)
    write(daemon, b"ids/damaged", value)
    for ask in requests(daemon, "damaged"):
        with pytest.raises(EtcdUnavailable) as refusal:
            answered(daemon, ask(), 2)
        assert refusal.value.reason.startswith("the record at /rqdisco/v1/ids/damaged is damaged: ")
    assert is_alone(register(daemon, other, A))


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b"x" * 1000])
def test_a_foreign_window_opens_nothing_and_a_foreign_answer_only_delays_removals(
    daemon: Backend, value: bytes
) -> None:
    discovery_id = create(daemon)
    assert is_alone(register(daemon, discovery_id, A))
    write(daemon, b"windows/" + discovery_id.encode(), value)
    assert is_alone(register(daemon, discovery_id, A)), "its own entry is the only one"
    write(daemon, b"answers/" + discovery_id.encode(), value)
    with pytest.raises(StoreUnavailable):
        answered(daemon, remove(daemon, discovery_id, A))
    with pytest.raises(StoreUnavailable):
        answered(daemon, Deferred.fromCoroutine(daemon.directory.freeze("moving")))


@pytest.mark.parametrize("value", [b"hello", b'{"format":1,"store_id":"\xff"}', DEEP, b"[]"])
def test_a_damaged_state_of_the_store_refuses_changes_and_serves_lists(daemon: Backend, value: bytes) -> None:
    discovery_id = create(daemon)
    register(daemon, discovery_id, A)
    write(daemon, b"meta", value)
    for asking in (register(daemon, discovery_id, B), Deferred.fromCoroutine(daemon.directory.create())):
        with pytest.raises(StoreUnavailable):
            answered(daemon, asking)
    assert listed(daemon, discovery_id) == [A]


def test_an_index_key_of_no_id_finds_nothing(daemon: Backend) -> None:
    write(daemon, b"names/orders/\xff")
    with pytest.raises(NoSuchID):
        go(daemon.directory.look_up_name("orders"))


def test_a_daemon_works_on_after_an_error_of_its_own(
    daemon: Backend, logged_errors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery_id = create(daemon)

    def broken(*_: Any) -> Deferred[PostReply]:
        failing: Deferred[PostReply] = Deferred()
        daemon.cluster.clock.callLater(0.05, failing.errback, ZeroDivisionError())
        return failing

    monkeypatch.setattr(daemon.transport, "post", broken)
    # More than one batch of them.
    asked: list[Deferred[Any]] = [Deferred.fromCoroutine(daemon.directory.look_up(discovery_id)) for _ in range(300)]
    asked += [register(daemon, discovery_id, A) for _ in range(3)]
    wait(daemon, 7)
    for asking in asked:
        with pytest.raises(StoreUnavailable):
            result(asking)
    monkeypatch.undo()
    assert is_alone(register(daemon, discovery_id, A))
    assert logged_errors
    logged_errors.clear()


def test_a_stale_answer_is_never_older_than_the_operator_allows() -> None:
    daemon = opened(Cluster(), stale_seconds=10.0)
    discovery_id = create(daemon)
    go(daemon.names.look_up(discovery_id))
    daemon.transport.plan = lambda sent: HANG
    daemon.cluster.clock.advance(10.9)
    asking = Deferred.fromCoroutine(daemon.names.look_up(discovery_id))
    with pytest.raises(StoreUnavailable):
        answered(daemon, asking, 2)


def test_a_store_that_went_back_to_before_a_freeze_is_still_served_but_grants_nothing(daemon: Backend) -> None:
    discovery_id, empty = create(daemon), create(daemon)
    assert is_alone(register(daemon, discovery_id, A))
    saved = daemon.cluster.model.save()
    go(daemon.directory.freeze("moving"))
    go(daemon.directory.thaw())
    daemon.cluster.model.restore(saved)
    assert answered(daemon, register(daemon, discovery_id, B)).bootstrap is None
    assert listed(daemon, discovery_id) == [A, B]
    answered(daemon, Deferred.fromCoroutine(daemon.directory.create()))
    with pytest.raises(Undecided, match="etcd went back from revision"):
        answered(daemon, register(daemon, empty, A))


def test_a_state_that_cannot_be_learned_costs_few_requests(daemon: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    discovery_id = create(daemon)
    daemon.transport.plan = writes(Fate(arrives=(0.5,)))
    give_up(register(daemon, discovery_id, A))
    monkeypatch.setattr(daemon.state, "learn", lambda found: None)
    write(daemon, b"meta", encode_meta(daemon.state.meta))
    creating, before = Deferred.fromCoroutine(daemon.directory.create()), daemon.transport.posts
    with pytest.raises(Undecided):
        answered(daemon, creating)
    # The creation gives up, and the revocation of the grant goes on.
    assert daemon.transport.posts - before < 100


def test_an_epoch_that_goes_back_stops_grants(daemon: Backend) -> None:
    discovery_id = create(daemon)
    before = encode_meta(daemon.state.meta)
    go(daemon.state.raise_epoch(0))
    write(daemon, b"meta", before)
    with pytest.raises(StoreUnavailable):
        answered(daemon, register(daemon, create(daemon), A))
    assert daemon.went_back == ["the epoch of the store in etcd went back from 2 to 1"]
    assert listed(daemon, discovery_id) == []


def test_records_too_large_for_one_answer_are_exported_in_smaller_parts(
    daemon: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"orders{number:02}" for number in range(40)]
    for name in names:
        go(daemon.directory.adopt(transferred(name, Node(addr=A)), as_own=True))
    post = daemon.transport.post

    def small(*request: Any) -> Deferred[PostReply]:
        return post(*request).addCallback(_at_most, 2000)

    monkeypatch.setattr(daemon.transport, "post", small)
    assert [record.id for record in all_records(daemon)] == names
    monkeypatch.setattr(daemon.transport, "post", lambda *request: post(*request).addCallback(_at_most, 500))
    with pytest.raises(EtcdUnavailable):
        all_records(daemon)


def _at_most(reply: PostReply, size: int) -> PostReply:
    if len(reply.body) > size:
        raise AnswerTooLarge("the answer is larger than this daemon reads")
    return reply


def all_records(daemon: Backend) -> list[Record]:
    async def read() -> list[Record]:
        return [record async for page in daemon.directory.records() for record in page]

    records: list[Record] = go(read())
    return records


def test_a_freeze_waits_for_an_answer_of_another_daemon_behind_many_of_its_own(daemon: Backend) -> None:
    other = opened(daemon.cluster, seed=2)
    for number in range(301):
        assert go(daemon.directory.claim(f"a{number}", put_by(A), None)).won
    assert go(other.directory.claim("zoo", put_by(A), None)).won
    with pytest.raises(StoreUnavailable, match="grants are still being answered"):
        answered(daemon, Deferred.fromCoroutine(daemon.directory.freeze("moving")))


def test_turns_that_end_at_once_are_passed_on_however_many_wait(
    daemon: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery_id = create(daemon)
    daemon.transport.plan = lambda sent: Fate(answered=0.05)
    asked = [register(daemon, discovery_id, f"10.1.{number // 250}.{number % 250}:4001") for number in range(2000)]
    monkeypatch.setattr(batch_queue, "MAX_WAITING", 0)
    wait(daemon, 1)
    monkeypatch.undo()
    outcomes: list[object] = []
    for asking in asked:
        asking.addBoth(outcomes.append)
    assert len(outcomes) == 2000
    daemon.transport.plan = lambda sent: DELIVER
    assert answered(daemon, register(daemon, discovery_id, A), 1).record


def test_a_record_has_a_largest_size_and_can_shrink(daemon: Backend) -> None:
    quotes = '"' * 255
    nodes = [Node(addr=f"{number:03}{quotes}:1") for number in range(1000)]
    with pytest.raises(TooManyNodes):
        go(daemon.directory.adopt(transferred("orders", *nodes), as_own=True))
    go(daemon.directory.adopt(transferred("orders", *nodes[:450]), as_own=True))
    asked = [register(daemon, "orders", node.addr) for node in nodes[450:600]]
    with pytest.raises(TooManyNodes):
        result(asked[-1])
    assert 450 < len(listed(daemon, "orders")) < 600
    for asking in asked[:-1]:
        asking.addErrback(lambda failure: failure.trap(TooManyNodes))
    assert result(register(daemon, "orders", nodes[1].addr)).bootstrap is None, "one that is listed is welcome"
    assert result(remove(daemon, "orders", nodes[0].addr)).removed


def test_names_that_dns_asked_for_once_take_no_memory_for_long() -> None:
    daemon = opened(Cluster(), stale_seconds=5.0)
    ids = [create(daemon) for _ in range(50)]
    for discovery_id in ids:
        go(daemon.names.look_up(discovery_id))
    assert len(daemon.names._ids._kept) == 50
    daemon.cluster.clock.advance(6.1)
    go(daemon.names.look_up(ids[0]))
    assert len(daemon.names._ids._kept) == 1


def test_watchers_that_come_one_by_one_share_few_streams_and_miss_nothing(daemon: Backend) -> None:
    ids = [create(daemon) for _ in range(100)]
    seen: list[str] = []
    for discovery_id in ids:
        daemon.watches.add(discovery_id, partial(seen.append, discovery_id))
        daemon.cluster.clock.advance(0.03)
    assert daemon.watches.streams <= 7
    for discovery_id in ids:
        seen.clear()
        register(daemon, discovery_id, A)
        assert seen == [discovery_id]
    daemon.watches.stop()
