"""Daemons in memory, prepared for each documented answer, and asked as one audience."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.limits import Limits
from rqdisco.core.exports import TransferredRecord
from rqdisco.http.apis import Apis
from rqdisco.http.context import HTTPContext, HTTPLimits
from rqdisco.http.operations import Audience
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.requests.runner import ANSWER_SECONDS, RequestTelemetry
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.probes.cluster_judge import ClusterJudge
from rqdisco.security.tokens import SCOPES, Access, TokenRing, describe
from rqdisco.telemetry.events import EventLog, Events
from rqdisco.telemetry.health import DaemonHealth
from tests.support.any_daemon import WALL_US, Probe
from tests.support.backends import new_daemon, over
from tests.support.connections import CLIENT, Connection, request, unchunked
from tests.support.daemon import create_id, result
from tests.support.etcd.daemon import Backend, EtcdDaemon
from tests.support.gossip import DirectNetwork, GossipDaemon, settle, trio

MAX_BODY = 2000
IMPORT_BYTES = 16 << 20
LEADER = {"id": "n1", "api_addr": "http://10.0.0.1:4001", "addr": "10.0.0.1:4002"}
NODE = {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002", "node_id": "n1"}
OTHER = {"addr": "10.0.0.2:4001"}
FOREIGN = "0a5306d9-5842-851c-a00f-72fe57b0eb16"


class Reply(msgspec.Struct, frozen=True):
    """An answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


class PreparedDaemon:
    """A daemon in memory, asked as one audience; the audience's tokens are named after their
    scopes.
    """

    def __init__(self, apis: Apis, audience: Audience, clock: Clock, daemon: Any) -> None:
        self.daemon = daemon
        self.clock = clock
        self.audience = audience
        self.id = FOREIGN
        self.router = apis.operators() if audience == "operator" else apis.public()

    def ask(self, method: str, path: str, body: object = None, token: str | None = "admin", **headers: str) -> Reply:
        """Return the answer, however long it takes."""
        config = SiteConfig()
        site = Site(self.router, Clock(), config, lambda: 0.0)
        # The operator's site is a Unix socket.
        connection = Connection(site, None if self.audience == "operator" else CLIENT)
        if token is not None and self.audience == "guarded":
            headers["Authorization"] = f"Bearer {token}"
        connection.protocol.dataReceived(request(method, path.replace("{id}", self.id), body, **headers))
        for _ in range(int(ANSWER_SECONDS) * 20):
            if not site.connections or not connection.protocol.is_busy:
                break
            self.clock.advance(0.1)
        return _parsed(connection.take(), has_body=method != "HEAD")


def _parsed(data: bytes, *, has_body: bool) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if has_body and headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return Reply(int(status_line.split(" ")[1]), headers, body)


def _access(audience: Audience) -> Access | None:
    if audience != "guarded":
        return None
    return Access(TokenRing([describe(scope, [scope], scope) for scope in SCOPES]))


def daemon_for(audience: Audience, **limits: Any) -> PreparedDaemon:
    """Return a daemon without peers, with an ID that has two nodes and a leader."""
    limits = {"max_nodes": 3, **limits}
    daemon = new_daemon(access=_access(audience), limits=Limits(**limits), max_body=MAX_BODY)
    prepared = PreparedDaemon(daemon.apis, audience, daemon.clock, daemon)
    prepared.id = create_id(daemon)
    for method, path, body in (
        ("POST", "/{id}", NODE),
        ("PUT", "/v1/kv/{id}/leader", LEADER),
        ("POST", "/{id}", OTHER),
    ):
        daemon.clock.advance(1)
        assert prepared.ask(method, path, body).status == 200
    return prepared


def _over(directory: Any, audience: Audience, clock: Clock, daemon: Any, cluster_admin: Any) -> PreparedDaemon:
    status: Any = _Broken() if daemon is None else None
    apis = Apis(
        HTTPContext(
            directory=directory,
            clock=clock,
            rest=lambda seconds, call: call(),
            wall_us=lambda: WALL_US,
            deadlines=Deadlines(clock, ANSWER_SECONDS),
            telemetry=RequestTelemetry(Events(EventLog(lambda: WALL_US))),
            health=DaemonHealth(lambda: None),
            describe=lambda: directory.broken() if daemon is None else ServiceDocument(version="0"),
            limits=HTTPLimits(max_body=MAX_BODY),
            judge=ClusterJudge(directory, None, None, lambda: WALL_US),
            access=_access(audience),
            cluster_admin=cluster_admin,
            status=status,
        )
    )
    return PreparedDaemon(apis, audience, clock, daemon)


def over_etcd(daemon: Backend) -> PreparedDaemon:
    """Return a daemon in front of etcd, asked by its operator."""
    return _over(daemon.directory, "operator", daemon.cluster.clock, daemon, None)


def over_peers(daemon: GossipDaemon) -> PreparedDaemon:
    """Return a daemon with peers, asked by its operator."""
    return _over(daemon.directory, "operator", daemon.clock, daemon, daemon.backend.admin)


def backend(audience: Audience) -> PreparedDaemon:
    """Return the first of three daemons, with an ID that it owns."""
    network, daemons = trio(Clock())
    first = daemons[0]
    prepared = _over(first.directory, audience, network.clock, first, first.backend.admin)
    creating = Deferred.fromCoroutine(first.directory.create())
    settle(network.clock, 1)
    prepared.id = result(creating).id
    return prepared


def lost(audience: Audience) -> PreparedDaemon:
    """Return the first of three daemons after the third was killed for good."""
    prepared = backend(audience)
    prepared.daemon.network.daemons["c"].stop()
    settle(prepared.clock, 10)
    return prepared


def cut_off(audience: Audience) -> PreparedDaemon:
    """Return a daemon with a configured peer that has met nobody yet."""
    network = DirectNetwork(Clock())
    daemon = GossipDaemon(network, "a", ["b"])
    settle(network.clock, 1)
    return _over(daemon.directory, audience, network.clock, daemon, None)


def without_etcd(audience: Audience) -> PreparedDaemon:
    """Return a daemon whose etcd was stopped."""
    daemon = EtcdDaemon(access=_access(audience))
    daemon.cluster.model.stop("m1")
    return PreparedDaemon(daemon.apis, audience, daemon.clock, daemon)


class _Broken:
    """Collaborators with a bug."""

    index = 1

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: object, **named: object) -> Any:
            raise RuntimeError("a bug")

        return fail


def broken(audience: Audience) -> PreparedDaemon:
    """Return a daemon with a bug."""
    return _over(_Broken(), audience, Clock(), None, _Broken())


def probed(audience: Audience) -> PreparedDaemon:
    """Return a daemon that probes nodes: one is up, one answers 503, one is down, and the name of
    one does not resolve.
    """
    probe = Probe()
    probe.network.listens("10.0.0.1")
    probe.network.listens("10.0.0.2", b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    daemon = new_daemon(access=_access(audience), probe=probe)
    prepared = PreparedDaemon(daemon.apis, audience, daemon.clock, daemon)
    prepared.id = create_id(daemon)
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "n4.example.org"):
        assert prepared.ask("POST", "/{id}", {"addr": f"{host}:4001"}).status == 200
    assert daemon.rounds is not None
    daemon.rounds.startService()
    daemon.clock.pump([0.25] * 120)
    daemon.rounds.stopService()
    return prepared


def full(audience: Audience) -> PreparedDaemon:
    """Return a daemon whose store is full."""
    prepared = daemon_for(audience)
    prepared.daemon.fill()
    return prepared


def with_disk(audience: Audience) -> PreparedDaemon:
    """Return a daemon that stores its records itself, whatever the test is for."""
    with over("single"):
        return daemon_for(audience)


def with_full_disk(audience: Audience) -> PreparedDaemon:
    """Return such a daemon whose disk is full."""
    with over("single"):
        return full(audience)


def without_disk(audience: Audience) -> PreparedDaemon:
    """Return a daemon that stores its records in etcd, whatever the test is for."""
    with over("etcd"):
        return daemon_for(audience)


def frozen(audience: Audience) -> PreparedDaemon:
    """Return a daemon that an operator froze."""
    prepared = daemon_for(audience)
    result(Deferred.fromCoroutine(prepared.daemon.directory.freeze("frozen for a migration to http://b:4000")))
    return prepared


def full_and_frozen(audience: Audience) -> PreparedDaemon:
    """Return a daemon that an operator froze, and whose store is full."""
    prepared = frozen(audience)
    prepared.daemon.fill()
    return prepared


def stopping(audience: Audience) -> PreparedDaemon:
    """Return a daemon that is stopping."""
    prepared = daemon_for(audience)
    prepared.daemon.health.stop()
    return prepared


def crowded(audience: Audience) -> PreparedDaemon:
    """Return a daemon whose ID has as many nodes as allowed."""
    prepared = daemon_for(audience)
    assert prepared.ask("POST", "/{id}", {"addr": "10.0.0.3:4001"}).status == 200
    return prepared


def with_all_ids(audience: Audience) -> PreparedDaemon:
    """Return a daemon that has as many IDs as allowed."""
    prepared = daemon_for(audience, max_ids=1)
    prepared.daemon.recount()
    return prepared


def ownerless(audience: Audience) -> PreparedDaemon:
    """Return a daemon with an empty ID of another owner."""
    prepared = daemon_for(audience)
    foreign = TransferredRecord(id=FOREIGN, created_at=1, owner="0a5306d958428511")
    assert result(Deferred.fromCoroutine(prepared.daemon.directory.adopt(foreign, as_own=False)))
    prepared.id = FOREIGN
    return prepared


def unnamed(audience: Audience) -> PreparedDaemon:
    """Return a daemon where leader keys create no IDs."""
    prepared = daemon_for(audience, create_named=False)
    prepared.id = "orders"
    return prepared


def named(audience: Audience) -> PreparedDaemon:
    """Return a daemon and a name under which no ID was created yet."""
    prepared = daemon_for(audience)
    prepared.id = "orders"
    return prepared


def claimed(audience: Audience) -> PreparedDaemon:
    """Return a daemon with an ID that a node has claimed without reporting itself yet."""
    prepared = named(audience)
    assert prepared.ask("PUT", "/v1/kv/{id}/leader?cas=0", LEADER).body == b"true"
    return prepared


def on_behalf(audience: Audience) -> PreparedDaemon:
    """Return the second of two daemons, with an ID of the first, which is away; so one of its nodes
    is unconfirmed.
    """
    network, (first, second) = trio(Clock(), "ab")
    prepared = _over(second.directory, audience, network.clock, second, None)
    creating = Deferred.fromCoroutine(first.directory.create())
    settle(network.clock, 1)
    prepared.id = result(creating).id
    for node in (NODE, OTHER):
        assert prepared.ask("POST", "/{id}", node).status == 200
        network.split("a")
        settle(network.clock, 3)
    return prepared


def hurried(audience: Audience) -> PreparedDaemon:
    """Return a daemon where clients may create one ID a minute, and this one just did."""
    daemon = new_daemon(access=_access(audience), max_body=MAX_BODY, create_rate=1 / 60)
    prepared = PreparedDaemon(daemon.apis, audience, daemon.clock, daemon)
    assert prepared.ask("POST", "/").status == 200
    return prepared


def unknown(audience: Audience) -> PreparedDaemon:
    """Return a daemon and an ID that does not exist."""
    prepared = daemon_for(audience)
    prepared.id = FOREIGN
    return prepared


def full_after_loss(audience: Audience) -> PreparedDaemon:
    """Return the first of three daemons, with a full disk, after the third was lost."""
    prepared = lost(audience)
    prepared.daemon.disk.room = 0
    return prepared


def full_of_three(audience: Audience) -> PreparedDaemon:
    """Return the first of three daemons, with a full disk."""
    prepared = backend(audience)
    prepared.daemon.disk.room = 0
    return prepared
