"""Each answer that the OpenAPI document speaks of, brought about on a daemon in memory.

`python -m tests.support.openapi` writes the examples of the document anew, from what is answered.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco import __version__
from rqdisco.access.tokens import SCOPES, Access, TokenRing, describe
from rqdisco.home.local import Limits
from rqdisco.observability.health import Health
from rqdisco.peers.office import Office
from rqdisco.transfer import Transferred
from rqdisco.web.connections.site import BoundedSite
from rqdisco.web.openapi.document import operations
from rqdisco.web.openapi.parts import Audience
from rqdisco.web.requests.deadlines import Deadlines
from rqdisco.web.requests.handling import ANSWER_SECONDS
from rqdisco.web.root import Doors
from tests.support.connections import CLIENT, Connection, request, unchunked
from tests.support.daemon import WALL_US, Daemon, Probe, mint, result
from tests.support.peered import DirectNetwork, PeeredDaemon, settle, trio

EXAMPLES = Path(__file__).parents[2] / "rqdisco" / "web" / "openapi" / "examples.py"
AUDIENCES: tuple[Audience, ...] = ("open", "guarded", "operator")
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


class Place:
    """A daemon in memory, asked where an audience is served; the audience's tokens are named after their scopes."""

    def __init__(self, doors: Doors, audience: Audience, clock: Clock, daemon: Any) -> None:
        self.daemon = daemon
        self.clock = clock
        self.audience = audience
        self.id = FOREIGN
        self._resource = doors.operators() if audience == "operator" else doors.public()

    def ask(self, method: str, path: str, body: object = None, token: str | None = "admin", **headers: str) -> Reply:
        """The answer, however long it takes."""
        site = BoundedSite(
            self._resource, Clock(), MAX_BODY, lambda: 0.0, most_body=IMPORT_BYTES, may_send_more=lambda _: True
        )
        # The operator's site is a socket in the file system.
        connection = Connection(site, None if self.audience == "operator" else CLIENT)
        if token is not None and self.audience == "guarded":
            headers["Authorization"] = f"Bearer {token}"
        connection.protocol.dataReceived(request(method, path.replace("{id}", self.id), body, **headers))
        for _ in range(int(ANSWER_SECONDS) * 20):
            if not site.channels or not connection.protocol.requests:
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


def alone(audience: Audience, **limits: Any) -> Place:
    """A daemon without peers, with an ID that has two nodes and a leader."""
    limits = {"max_nodes": 3, **limits}
    daemon = Daemon(access=_access(audience), limits=Limits(**limits), max_body=MAX_BODY)
    place = Place(daemon.doors, audience, daemon.clock, daemon)
    place.id = mint(daemon)
    for method, path, body in (
        ("POST", "/{id}", NODE),
        ("PUT", "/v1/kv/{id}/leader", LEADER),
        ("POST", "/{id}", OTHER),
    ):
        daemon.clock.advance(1)
        assert place.ask(method, path, body).status == 200
    return place


def _over(directory: Any, audience: Audience, clock: Clock, daemon: Any, office: Any) -> Place:
    overview: Any = _Broken() if daemon is None else None
    doors = Doors(
        directory,
        Deadlines(clock, ANSWER_SECONDS),
        lambda: directory.broken() if daemon is None else {},
        Health(lambda: None),
        clock,
        lambda: WALL_US,
        max_body=MAX_BODY,
        strict=False,
        peers=office,
        access=_access(audience),
        overview=overview,
    )
    return Place(doors, audience, clock, daemon)


def peered(audience: Audience) -> Place:
    """The first of three daemons, with an ID of its own."""
    network, daemons = trio(Clock())
    first = daemons[0]
    place = _over(
        first.directory, audience, network.clock, first, Office(first.peered.report, first.peered.successions)
    )
    minting = Deferred.fromCoroutine(first.directory.create())
    settle(network.clock, 1)
    place.id = result(minting).id
    return place


def lost(audience: Audience) -> Place:
    """The same, after the third was killed for good."""
    place = peered(audience)
    place.daemon.network.daemons["c"].stop()
    settle(place.clock, 10)
    return place


def cut_off(audience: Audience) -> Place:
    """A daemon that was told of a peer, and has met nobody yet."""
    network = DirectNetwork(Clock())
    daemon = PeeredDaemon(network, "a", ["b"])
    settle(network.clock, 1)
    return _over(daemon.directory, audience, network.clock, daemon, None)


class _Broken:
    """Collaborators that have a bug."""

    index = 1

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: object, **named: object) -> Any:
            raise RuntimeError("a bug")

        return fail


def broken(audience: Audience) -> Place:
    """A daemon with a bug."""
    return _over(_Broken(), audience, Clock(), None, _Broken())


def probed(audience: Audience) -> Place:
    """A daemon that probes nodes, one of which is up, one answers 503, and one is down."""
    probe = Probe()
    probe.network.listens("10.0.0.1")
    probe.network.listens("10.0.0.2", b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    daemon = Daemon(access=_access(audience), probe=probe)
    place = Place(daemon.doors, audience, daemon.clock, daemon)
    place.id = mint(daemon)
    for number in (1, 2, 3):
        assert place.ask("POST", "/{id}", {"addr": f"10.0.0.{number}:4001"}).status == 200
    assert daemon.rounds is not None
    daemon.rounds.startService()
    daemon.clock.pump([0.25] * 120)
    daemon.rounds.stopService()
    return place


def full(audience: Audience) -> Place:
    """A daemon whose disk is full."""
    place = alone(audience)
    place.daemon.disk.room = 0
    return place


def stopping(audience: Audience) -> Place:
    """A daemon that is about to end."""
    place = alone(audience)
    place.daemon.health.stop()
    return place


def crowded(audience: Audience) -> Place:
    """A daemon whose ID has as many nodes as it may have."""
    place = alone(audience)
    assert place.ask("POST", "/{id}", {"addr": "10.0.0.3:4001"}).status == 200
    return place


def orphaned(audience: Audience) -> Place:
    """A daemon that has an empty ID of another."""
    place = alone(audience)
    foreign = Transferred(id=FOREIGN, created_at=1, home="0a5306d958428511")
    assert result(Deferred.fromCoroutine(place.daemon.directory.adopt(foreign, as_own=False)))
    place.id = FOREIGN
    return place


def unnamed(audience: Audience) -> Place:
    """A daemon where no ID comes to be by its leader key."""
    place = alone(audience, make_named=False)
    place.id = "orders"
    return place


def hurried(audience: Audience) -> Place:
    """A daemon where clients may mint one ID a minute, and this one has just minted it."""
    daemon = Daemon(access=_access(audience), max_body=MAX_BODY, mint_rate=1 / 60)
    place = Place(daemon.doors, audience, daemon.clock, daemon)
    assert place.ask("POST", "/").status == 200
    return place


def unknown(audience: Audience) -> Place:
    """A daemon, asked for an ID that there is not."""
    place = alone(audience)
    place.id = FOREIGN
    return place


def full_after_loss(audience: Audience) -> Place:
    """Three daemons of which the third was lost, and the first has a full disk."""
    place = lost(audience)
    place.daemon.disk.room = 0
    return place


def full_of_three(audience: Audience) -> Place:
    """Three daemons, the first of which has a full disk."""
    place = peered(audience)
    place.daemon.disk.room = 0
    return place


class Scene(msgspec.Struct, frozen=True):
    """A request for an operation, and what it is answered where `place` is the case."""

    method: str
    path: str
    status: int
    place: Callable[[Audience], Place] = alone
    body: object = None
    query: str = ""
    token: str | None = "admin"
    headers: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def operation(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        return f"{self.operation}{self.query} {self.status}"

    def play(self, audience: Audience, method: str | None = None) -> Reply:
        """What is answered; with another method, if one is given."""
        headers = dict(self.headers)
        place = self.place(audience)
        if "If_None_Match" in headers:
            headers["If_None_Match"] = place.ask("GET", self.path).headers["etag"]
        return place.ask(method or self.method, self.path + self.query, self.body, self.token, **headers)


KV = "/v1/kv/{id}/leader"
TOO_LARGE = b" " * (MAX_BODY + 1)
_HUGE = b" " * (IMPORT_BYTES + 1)
_RECORD = {"id": "orders", "created_at": 1, "nodes": [NODE], "leader": {"value": msgspec.json.encode(LEADER).decode()}}

_HTML = {"Accept": "text/html"}

SCENES = [
    Scene("GET", "/", 200),
    Scene("GET", "/", 200, headers=_HTML),
    Scene("GET", "/", 303, query="?id=orders", headers=_HTML),
    Scene("GET", "/", 500, broken),
    Scene("POST", "/", 200),
    Scene("POST", "/", 429, hurried),
    Scene("POST", "/", 500, broken),
    Scene("POST", "/", 503, full),
    Scene("POST", "/", 503, lambda audience: alone(audience, max_ids=1)),
    Scene("GET", "/{id}", 200),
    Scene("GET", "/{id}", 200, orphaned),
    Scene("GET", "/{id}", 200, probed),
    Scene("GET", "/{id}", 200, peered, query="?consistent=1"),
    Scene("GET", "/{id}", 200, query="?explain=1"),
    Scene("GET", "/{id}", 200, headers=_HTML),
    Scene("GET", "/{id}", 404, unknown),
    Scene("GET", "/{id}", 404, unknown, headers=_HTML),
    Scene("GET", "/{id}/events", 200),
    Scene("GET", "/{id}/events", 404, unknown),
    Scene("GET", "/{id}/events", 500, broken),
    Scene("GET", "/{id}/events", 503, cut_off),
    Scene("GET", "/status", 200, headers=_HTML),
    Scene("GET", "/status", 404),
    Scene("GET", "/status", 500, broken, headers=_HTML),
    Scene("GET", "/{id}", 500, broken),
    Scene("GET", "/{id}", 503, cut_off),
    Scene("POST", "/{id}", 200, body=NODE),
    Scene("POST", "/{id}", 400, body={"addr": "10.0.0.1 4001"}),
    Scene("POST", "/{id}", 400, body=b"{"),
    Scene("POST", "/{id}", 404, unknown, NODE),
    Scene("POST", "/{id}", 409, crowded, {"addr": "10.0.0.4:4001"}),
    Scene("POST", "/{id}", 410, orphaned, NODE),
    Scene("POST", "/{id}", 413, body=TOO_LARGE),
    Scene("POST", "/{id}", 500, broken, NODE),
    Scene("POST", "/{id}", 503, full, {"addr": "10.0.0.3:4001"}),
    Scene("DELETE", "/{id}", 200, body=OTHER),
    Scene("DELETE", "/{id}", 400, body={}),
    Scene("DELETE", "/{id}", 404, unknown, OTHER),
    Scene("DELETE", "/{id}", 413, body=TOO_LARGE),
    Scene("DELETE", "/{id}", 500, broken, OTHER),
    Scene("DELETE", "/{id}", 503, full, OTHER),
    Scene("GET", KV, 200),
    Scene("GET", KV, 200, query="?raw"),
    Scene("GET", KV, 400, query="?recurse"),
    Scene("GET", KV, 404, unknown),
    Scene("GET", KV, 500, broken),
    Scene("GET", KV, 503, cut_off),
    Scene("PUT", KV, 200, body=LEADER),
    Scene("PUT", KV, 200, body=LEADER, query="?cas=0"),
    Scene("PUT", KV, 200, unknown, body=LEADER, query="?cas=0&flags=1"),
    Scene("PUT", KV, 400, body={"addr": ""}),
    Scene("PUT", KV, 400, body=LEADER, query="?cas=-1"),
    Scene("PUT", KV, 403, unnamed, LEADER),
    Scene("PUT", KV, 409, crowded, {"addr": "10.0.0.4:4002"}),
    Scene("PUT", KV, 410, orphaned, LEADER, "?cas=0"),
    Scene("PUT", KV, 413, body=TOO_LARGE),
    Scene("PUT", KV, 500, broken, LEADER),
    Scene("PUT", KV, 503, full, {**LEADER, "addr": "10.0.0.1:4003"}),
    Scene("DELETE", KV, 200),
    Scene("DELETE", KV, 200, query="?cas=1"),
    Scene("DELETE", KV, 400, query="?cas=x"),
    Scene("DELETE", KV, 500, broken),
    Scene("DELETE", KV, 503, full),
    Scene("GET", "/healthz", 200),
    Scene("GET", "/readyz", 200, full),
    Scene("GET", "/readyz", 200, token=None),
    Scene("GET", "/readyz", 503, stopping),
    Scene("GET", "/readyz", 503, stopping, token=None),
    Scene("GET", "/openapi.json", 200),
    Scene("GET", "/openapi.json", 304, headers={"If_None_Match": "that of the page"}),
    Scene("GET", "/metrics", 200),
    Scene("GET", "/operator/export", 200),
    Scene("POST", "/operator/import", 200, body={"records": [_RECORD, {"id": "..", "created_at": 1}]}),
    Scene("POST", "/operator/import", 400, body={"records": {}}),
    Scene("POST", "/operator/import", 413, body=_HUGE),
    Scene("POST", "/operator/import", 500, broken, {"records": [_RECORD]}),
    Scene("POST", "/operator/import", 503, full, {"records": [_RECORD]}),
    Scene("GET", "/operator/peers", 200, lost),
    Scene("GET", "/operator/peers", 200, peered),
    Scene("GET", "/operator/peers", 404),
    Scene("GET", "/operator/peers", 500, broken),
    Scene("POST", "/operator/peers/forget", 200, lost, {"name": "c"}),
    Scene("POST", "/operator/peers/forget", 400, peered, {"name": 5}),
    Scene("POST", "/operator/peers/forget", 404, body={"name": "c"}),
    Scene("POST", "/operator/peers/forget", 409, peered, {"name": "c"}),
    Scene("POST", "/operator/peers/forget", 413, body=_HUGE),
    Scene("POST", "/operator/peers/forget", 500, broken, {"name": "c"}),
    Scene("POST", "/operator/peers/forget", 503, full_after_loss, {"name": "c"}),
    Scene("POST", "/operator/drain", 200, peered, {"to": "b"}),
    Scene("POST", "/operator/drain", 200, peered),
    Scene("POST", "/operator/drain", 400, peered, {"to": 5}),
    Scene("POST", "/operator/drain", 404, body={}),
    Scene("POST", "/operator/drain", 409, peered, {"to": "d"}),
    Scene("POST", "/operator/drain", 413, body=_HUGE),
    Scene("POST", "/operator/drain", 500, broken, {}),
    Scene("POST", "/operator/drain", 503, full_of_three, {"to": "b"}),
]


def scenes(audience: Audience) -> list[Scene]:
    """All that are answered to this audience; with tokens, also those of who has none, and of who has the wrong one."""
    answered = {operation.key: operation for operation in operations(audience)}
    # The operator's socket limits nobody.
    found = [
        scene
        for scene in SCENES
        if scene.operation in answered and not (scene.place is hurried and audience == "operator")
    ]
    found += [
        Scene(operation.method.upper(), operation.path, 403, headers={"Sec_Fetch_Site": "cross-site"})
        for operation in answered.values()
        if operation.method != "get"
    ]
    if audience != "guarded":
        return found
    for key, operation in answered.items():
        method, _, path = key.partition(" ")
        if operation.right == "known":
            found.append(Scene(method, path, 401, token="unknown"))
        elif operation.right is not None:
            text = operation.words == "text"
            wrong = "mint" if operation.right != "mint" else "read"
            found.append(Scene(method, path, 403 if text else 401, token=None))
            found.append(Scene(method, path, 403, token=wrong))
    return found


def examples() -> dict[str, Any]:
    """What is answered first in each case, and what is asked for it."""
    found: dict[str, Any] = {}
    for audience in ("operator", "guarded"):
        for scene in scenes(audience):
            if scene.path in ("/openapi.json", "/metrics") or scene.place is broken:
                continue
            reply = scene.play(audience)
            key = f"{scene.operation} {scene.status} {reply.kind}"
            if key in found or reply.kind == "text/html" or not reply.body:
                continue
            found[key] = msgspec.json.decode(reply.body) if reply.kind == "application/json" else reply.body.decode()
            if scene.status == 200 and isinstance(scene.body, dict):
                found.setdefault(f"{scene.operation} body", scene.body)
    found["GET / 200 application/json"]["version"] = __version__
    return found


def main() -> None:
    """Write the examples."""
    head = EXAMPLES.read_text().partition("EXAMPLES: ")[0]
    EXAMPLES.write_text(f"{head}EXAMPLES: dict[str, Any] = {examples()!r}\n")
    subprocess.run([str(Path(sys.executable).with_name("ruff")), "format", "-q", str(EXAMPLES)], check=True)


if __name__ == "__main__":
    main()
