"""The client of etcd over sockets: the same tests with the model and with three real members."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import Protocol

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from rqdisco.backends.etcd.failures import LeaseNotFound, NotApplied
from rqdisco.backends.etcd.messages import Compare, Range, Txn, TxnOperation, WatchCreate, delete_op, put_op, range_op
from tests.support.etcd.clusters import NAMES, RealCluster
from tests.support.etcd.connected import PATIENCE, Connected, Events
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.real import needs_etcd
from tests.support.etcd.server import ModelServer

_numbers = count(1)


class Members(Protocol):
    """Three members, and what can happen to them."""

    @property
    def endpoints(self) -> tuple[str, ...]: ...

    def happen(self, what: str, name: str) -> None:
        """Have a member stop, start, hang or resume."""

    def close(self) -> None: ...


class ModelMembers:
    """Members of the model, behind sockets."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self._server = ModelServer(ModelEtcd(reactor.seconds, NAMES), reactor.seconds)
        self.endpoints = tuple(self._server.endpoints.values())

    def happen(self, what: str, name: str) -> None:
        with self._server.changing() as model:
            getattr(model, what)(name)

    def close(self) -> None:
        self._server.close()


class RealMembers(RealCluster):
    """Real members."""

    def happen(self, what: str, name: str) -> None:
        getattr(self, what)(name)


@pytest.fixture(scope="module", params=["model", pytest.param("real", marks=needs_etcd)])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    made = ModelMembers() if request.param == "model" else RealMembers(tmp_path_factory.mktemp("etcd"))
    with closing(made):
        yield made


@pytest.fixture
def key() -> bytes:
    """A key of the test's own."""
    return b"client/%d" % next(_numbers)


@async_yield_fixture
async def connected(cluster: Members) -> AsyncIterator[Connected]:
    async with Connected(cluster.endpoints) as made:
        yield made


@ensureDeferred
async def test_a_comparison_decides_which_branch_is_taken_and_what_it_shows(connected: Connected, key: bytes) -> None:
    write = Txn(
        compare=(Compare(key=key, mod_revision=0),),
        success=(put_op(key, b"\x00\xff"),),
        failure=(range_op(Range(key=key)),),
    )
    first = await connected.client.txn(write)
    second = await connected.client.txn(write)
    assert (first.succeeded, second.succeeded) == (True, False)
    shown = second.responses[0].response_range
    assert shown is not None
    assert (shown.kvs[0].value, shown.kvs[0].mod_revision) == (b"\x00\xff", first.header.revision)
    found = await connected.client.range(Range(key=key))
    assert (found.kvs, found.count, found.more) == (shown.kvs, 1, False)
    absent = await connected.client.range(Range(key=key + b"/absent"))
    assert (absent.kvs, absent.count) == ((), 0)
    assert connected.noticed == []


@ensureDeferred
async def test_a_transaction_inside_another_one_has_a_comparison_of_its_own(connected: Connected, key: bytes) -> None:
    def inner(revision: int, name: bytes) -> TxnOperation:
        inside = Txn(
            compare=(Compare(key=key + name, mod_revision=revision),),
            success=(put_op(key + name, b"1"), delete_op(key + b"/other")),
            failure=(range_op(Range(key=key + name)),),
        )
        return TxnOperation(request_txn=inside)

    nothing = TxnOperation(request_txn=Txn())
    answer = await connected.client.txn(Txn(success=(inner(0, b"a"), inner(1 << 60, b"b"), nothing)))
    branches = [each.response_txn for each in answer.responses]
    assert [branch.succeeded for branch in branches if branch is not None] == [True, False, True]
    read = await connected.client.read(Txn(success=(range_op(Range(key=key + b"a")), range_op(Range(key=b"none")))))
    assert [each.response_range.count for each in read.responses if each.response_range is not None] == [1, 0]


@ensureDeferred
async def test_a_batch_whose_answer_is_long_arrives_whole(connected: Connected, key: bytes) -> None:
    puts = tuple(put_op(key + b"/%03d" % number, b"x" * 3000) for number in range(100))
    await connected.client.txn(Txn(success=puts))
    found = await connected.client.range(Range(key=key + b"/", range_end=key + b"0"))
    assert [each.value for each in found.kvs] == [b"x" * 3000] * 100
    page = await connected.client.range(Range(key=key + b"/", range_end=key + b"0", limit=3, keys_only=True))
    assert (len(page.kvs), page.more, page.count, page.kvs[0].value) == (3, True, 100, b"")


@ensureDeferred
async def test_what_etcd_refuses_says_why(connected: Connected, key: bytes) -> None:
    twice = await connected.failure(Txn(success=(put_op(key, b"1"), put_op(key, b"2"))))
    assert (type(twice), str(twice)) == (NotApplied, "etcd refuses: duplicate key given in txn request")
    no_lease = await connected.failure(Txn(success=(put_op(key, b"1", lease=4711),)))
    assert type(no_lease) is LeaseNotFound
    no_key = await connected.failure(Range(key=b""))
    assert str(no_key) == "etcd refuses: key is not provided"


@ensureDeferred
async def test_a_revoked_lease_takes_its_keys_with_it(connected: Connected, key: bytes) -> None:
    lease = await connected.client.grant_lease(60)
    left = await connected.client.time_to_live(lease.id)
    assert 50 < left.ttl <= left.granted_ttl == 60
    await connected.client.txn(Txn(success=(put_op(key, b"1", lease.id),)))
    await connected.client.revoke_lease(lease.id)
    await connected.client.revoke_lease(lease.id)
    assert (await connected.client.range(Range(key=key))).count == 0
    assert (await connected.client.time_to_live(lease.id)).ttl == -1


@ensureDeferred
async def test_members_tell_their_version_and_alarms(connected: Connected, cluster: Members) -> None:
    for endpoint in cluster.endpoints:
        status = await connected.client.status(endpoint)
        assert status.version.startswith("3.")
        assert status.leader
    assert (await connected.client.alarms()).alarms == ()


@ensureDeferred
async def test_one_connection_carries_several_watches(connected: Connected, key: bytes) -> None:
    events = Events(connected.clock)
    creates = [WatchCreate(key=key + b"a", watch_id=1), WatchCreate(key=key + b"b", watch_id=2)]
    watch = connected.client.watch(creates, events)
    await events.until(lambda: [each.created for each in events.responses] == [True, True])
    await connected.client.txn(Txn(success=(put_op(key + b"a", b"1"), put_op(key + b"b", b"1"))))
    await connected.client.txn(Txn(success=(delete_op(key + b"b"),)))
    await events.until(lambda: len(events.keys) == 3)
    assert sorted(events.keys) == [(1, "PUT", key + b"a"), (2, "DELETE", key + b"b"), (2, "PUT", key + b"b")]
    watch.close()
    await watch.done


@ensureDeferred
async def test_requests_survive_the_end_of_a_member_and_its_watches_end(
    cluster: Members, connected: Connected, key: bytes
) -> None:
    events = Events(connected.clock)
    watch = connected.client.watch([WatchCreate(key=key)], events)
    await events.until(lambda: bool(events.responses))
    with happening(cluster, "stop", "start"):
        with pytest.raises(NotApplied):
            await watch.done
        # Real members need some seconds to elect another leader.
        await connected.client.read(Txn(success=(range_op(Range(key=key)),)), PATIENCE)
        answer = await connected.client.txn(Txn(success=(put_op(key, b"1"),)), PATIENCE)
        assert answer.succeeded
    assert connected.counts.switches > 0


@ensureDeferred
async def test_a_member_that_hangs_is_left_after_a_second(cluster: Members, connected: Connected, key: bytes) -> None:
    await connected.client.range(Range(key=key))
    with happening(cluster, "hang", "resume"):
        answer = await connected.client.txn(Txn(success=(put_op(key, b"1"),)), PATIENCE)
        assert answer.succeeded
        begun = connected.clock.seconds()
        await connected.client.range(Range(key=key), PATIENCE)
        assert connected.clock.seconds() - begun < 1.0
    assert connected.counts.resends >= 1


@ensureDeferred
async def test_connections_from_before_a_restart_fail_no_request(cluster: Members, key: bytes) -> None:
    async with Connected(cluster.endpoints[:1]) as connected:
        await connected.client.range(Range(key=key))
        cluster.happen("stop", "e1")
        cluster.happen("start", "e1")
        await connected.client.range(Range(key=key), PATIENCE)


@contextmanager
def happening(cluster: Members, begin: str, end: str) -> Iterator[None]:
    """Have the first member fail for a while."""
    cluster.happen(begin, "e1")
    try:
        yield
    finally:
        cluster.happen(end, "e1")
