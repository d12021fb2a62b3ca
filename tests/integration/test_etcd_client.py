"""The client of etcd over sockets: the same tests with the model and with three real members."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.iweb import IPolicyForHTTPS

from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import AuthFailed, EtcdFailure, LeaseNotFound, NotApplied
from rqdisco.backends.etcd.messages import (
    Compare,
    Range,
    Txn,
    TxnOperation,
    WatchCreate,
    WatchResponse,
    delete_op,
    put_op,
    range_op,
)
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.backends.etcd.transport.connections import PooledTransport
from rqdisco.backends.etcd.transport.streams import AgentStreams, stream_agent
from rqdisco.http_client.network import Network
from rqdisco.security.certificates import Certificates, Files
from rqdisco.security.tls import ClientPolicy
from tests.support.certificates import Authority
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.real import ETCD, RealEtcd, RealMember
from tests.support.etcd.server import ModelServer
from tests.support.etcd.subjects import OverHTTP

NAMES = ("e1", "e2", "e3")
PATIENCE = 20.0
_numbers = count(1)
needs_etcd = pytest.mark.skipif(ETCD is None, reason="etcd is not installed")


class Cluster(Protocol):
    """Three members, and what can happen to them."""

    @property
    def endpoints(self) -> tuple[str, ...]: ...

    def happen(self, what: str, name: str) -> None:
        """Have a member stop, start, hang or resume."""

    def close(self) -> None: ...


class ModelCluster:
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


class RealCluster:
    """Real members."""

    def __init__(self, directory: Path) -> None:
        self._etcd = RealEtcd(directory, 3)
        self.endpoints = self._etcd.endpoints

    def happen(self, what: str, name: str) -> None:
        member = self._etcd.members[name]
        if what == "start":
            self._etcd.start(name)
        else:
            {"stop": member.kill, "hang": member.hang, "resume": member.resume}[what]()

    def close(self) -> None:
        self._etcd.close()


@pytest.fixture(scope="module", params=["model", pytest.param("real", marks=needs_etcd)])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = ModelCluster() if request.param == "model" else RealCluster(tmp_path_factory.mktemp("etcd"))
    with closing(made):
        yield made


@pytest.fixture
def key() -> bytes:
    """A key of the test's own."""
    return b"client/%d" % next(_numbers)


class Connected:
    """A client over sockets."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        credentials: Callable[[], Credentials] | None = None,
        policy: IPolicyForHTTPS | None = None,
    ) -> None:
        from twisted.internet import reactor

        self.clock: Any = reactor
        self.counts = EtcdCounts()
        self.noticed: list[str] = []
        network = Network(reactor, policy)
        self.transport = PooledTransport(network, self.clock)
        self.client = EtcdClient(
            ClientConfig(endpoints, credentials),
            self.transport,
            AgentStreams(stream_agent(reactor, network), self.clock),
            self.clock,
            RevisionGuard(Seen(), self.noticed.append),
            self.counts,
        )

    async def __aenter__(self) -> Connected:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.close()
        # Connections that are aborted end in the reactor's next turn.
        await deferLater(self.clock, 0)

    async def failure(self, request: Range | Txn, seconds: float = 2.0) -> EtcdFailure:
        """Return the failure of a request."""
        try:
            if isinstance(request, Txn):
                await self.client.txn(request, seconds)
            else:
                await self.client.range(request, seconds)
        except EtcdFailure as error:
            return error
        raise AssertionError("it succeeded")


class Events:
    """Collects the events of a watch, which a test can await."""

    def __init__(self, clock: Any) -> None:
        self.responses: list[WatchResponse] = []
        self._clock = clock
        self._awaited: tuple[Callable[[], bool], Deferred[None]] | None = None

    def __call__(self, response: WatchResponse) -> None:
        self.responses.append(response)
        if self._awaited is not None and self._awaited[0]():
            awaited, self._awaited = self._awaited[1], None
            awaited.callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for responses that meet a condition."""
        if not condition():
            awaited: Deferred[None] = Deferred()
            self._awaited = condition, awaited
            await awaited.addTimeout(PATIENCE, self._clock)

    @property
    def keys(self) -> list[tuple[int, str, bytes]]:
        """The watch, kind and key of each event."""
        return [(each.watch_id, event.type, event.kv.key) for each in self.responses for event in each.events]


@async_yield_fixture
async def connected(cluster: Cluster) -> AsyncIterator[Connected]:
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
async def test_members_tell_their_version_and_alarms(connected: Connected, cluster: Cluster) -> None:
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
    cluster: Cluster, connected: Connected, key: bytes
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
async def test_a_member_that_hangs_is_left_after_a_second(cluster: Cluster, connected: Connected, key: bytes) -> None:
    await connected.client.range(Range(key=key))
    with happening(cluster, "hang", "resume"):
        answer = await connected.client.txn(Txn(success=(put_op(key, b"1"),)), PATIENCE)
        assert answer.succeeded
        begun = connected.clock.seconds()
        await connected.client.range(Range(key=key), PATIENCE)
        assert connected.clock.seconds() - begun < 1.0
    assert connected.counts.resends >= 1


@ensureDeferred
async def test_connections_from_before_a_restart_fail_no_request(cluster: Cluster, key: bytes) -> None:
    async with Connected(cluster.endpoints[:1]) as connected:
        await connected.client.range(Range(key=key))
        cluster.happen("stop", "e1")
        cluster.happen("start", "e1")
        await connected.client.range(Range(key=key), PATIENCE)


@contextmanager
def happening(cluster: Cluster, begin: str, end: str) -> Iterator[None]:
    """Have the first member fail for a while."""
    cluster.happen(begin, "e1")
    try:
        yield
    finally:
        cluster.happen(end, "e1")


class Guarded:
    """A cluster of one with authentication, and a user who may use the keys below `allowed/`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._admin = OverHTTP(endpoint)
        self._token: str | None = None
        for user, role in (("root", "root"), ("rqdisco", "keys")):
            self.administer("user/add", name=user, password="secret")
            self.administer("role/add", name=role)
            self.administer("user/grant", user=user, role=role)
        ends = {"key": encoded(b"allowed/"), "range_end": encoded(b"allowed0")}
        self.administer("role/grant", name="keys", perm={"permType": "READWRITE", **ends})
        self.administer("enable")
        self._token = self._admin.post("/v3/auth/authenticate", {"name": "root", "password": "secret"}).document[
            "token"
        ]

    def administer(self, what: str, **members: object) -> None:
        """Change users and roles."""
        answered = self._admin.post(f"/v3/auth/{what}", members, self._token)
        assert answered.status == 200, answered

    def close(self) -> None:
        self._admin.close()


@pytest.fixture(params=["model", pytest.param("real", marks=needs_etcd)])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    from twisted.internet import reactor

    with ExitStack() as stack:
        if request.param == "model":
            server = ModelServer(ModelEtcd(reactor.seconds, ("e1",)), reactor.seconds)
            stack.callback(server.close)
            endpoint = server.endpoints["e1"]
        else:
            etcd = RealEtcd(tmp_path)
            stack.callback(etcd.close)
            (endpoint,) = etcd.endpoints
        yield stack.enter_context(closing(Guarded(endpoint)))


@ensureDeferred
async def test_a_user_reaches_what_its_role_allows_even_after_its_password_was_changed(guarded: Guarded) -> None:
    password = "secret"
    async with Connected((guarded.endpoint,), lambda: Credentials("rqdisco", password)) as connected:
        allowed = Txn(success=(put_op(b"allowed/a", b"1"),))
        assert (await connected.client.txn(allowed)).succeeded
        denied = await connected.failure(Txn(success=(put_op(b"denied", b"1"),)))
        assert type(denied) is AuthFailed
        assert str(denied).startswith("etcd's user lacks the permission")
        events = Events(connected.clock)
        watch = connected.client.watch([WatchCreate(key=b"allowed/a")], events)
        await events.until(lambda: bool(events.responses))
        watch.close()
        password = "changed"
        guarded.administer("user/changepw", name="rqdisco", password=password)
        assert (await connected.client.txn(allowed)).succeeded
        assert (await connected.client.range(Range(key=b"allowed/a"))).count == 1
        assert connected.counts.renewals >= 2


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (None, "etcd requires a user and a password"),
        (lambda: Credentials("rqdisco", "wrong"), "etcd refused the user name or the password"),
        (lambda: Credentials("nobody", "secret"), "etcd refused the user name or the password"),
    ],
)
@ensureDeferred
async def test_without_the_right_password_every_request_says_so(
    guarded: Guarded, credentials: Any, reason: str
) -> None:
    async with Connected((guarded.endpoint,), credentials) as connected:
        for request in (Range(key=b"allowed/a"), Txn(success=(put_op(b"allowed/a", b"1"),))):
            failure = await connected.failure(request)
            assert type(failure) is AuthFailed
            assert str(failure).startswith(reason)


@needs_etcd
@ensureDeferred
async def test_a_gateway_that_is_switched_off_is_named(tmp_path: Path) -> None:
    etcd = RealEtcd(tmp_path, options=["--enable-grpc-gateway=false"])
    try:
        async with Connected(etcd.endpoints) as connected:
            failure = await connected.failure(Range(key=b"a"))
            assert str(failure).startswith("there is no JSON gateway")
            with pytest.raises(NotApplied, match="there is no JSON gateway"):
                await connected.client.status(etcd.endpoints[0])
    finally:
        etcd.close()


class TLSMember(RealMember):
    """A member whose clients use TLS, with a certificate of their own."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__("e1", directory)
        self.authority = directory / "authority.crt"
        self.authority.write_bytes(authority.pem)
        key, certificate = authority.write(directory, "server", [self.address.rpartition(":")[0]])
        own = f"{self.name}=http://{self.peer_address}"
        options = [f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={self.authority}"]
        self.start(own, [*options, "--client-cert-auth"])
        self.wait_until_ready()

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}"


def policy(authority: Path, pair: tuple[Path, Path] | None) -> ClientPolicy:
    from twisted.internet import reactor

    key, certificate = pair or (None, None)
    files = Files(key=key, certificate=certificate, authorities=authority)
    return ClientPolicy(Certificates(reactor.seconds).for_clients("etcd", files))


@needs_etcd
@ensureDeferred
async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = Authority()
    member = TLSMember(tmp_path, authority)
    pair = authority.write(tmp_path, "root", [])
    try:
        async with Connected((member.endpoint,), None, policy(member.authority, pair)) as connected:
            for number in range(3):
                assert (await connected.client.txn(Txn(success=(put_op(b"a", b"%d" % number),)), PATIENCE)).succeeded
            events = Events(connected.clock)
            watch = connected.client.watch([WatchCreate(key=b"a")], events)
            await events.until(lambda: bool(events.responses))
            watch.close()
            await watch.done
        async with Connected((member.endpoint,), None, policy(member.authority, None)) as connected:
            assert "TLS" in str(await connected.failure(Range(key=b"a")))
        (tmp_path / "other").mkdir()
        other = tmp_path / "other" / "authority.crt"
        other.write_bytes(Authority().pem)
        async with Connected((member.endpoint,), None, policy(other, pair)) as connected:
            failure = await connected.failure(Txn(success=(put_op(b"a", b"1"),)))
            assert type(failure) is NotApplied
            assert "certificate verify failed" in str(failure)
    finally:
        member.kill()


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()
