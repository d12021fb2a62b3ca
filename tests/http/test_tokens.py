"""Doors that ask for tokens: what each scope allows, what is said to all others, and how a token can be given."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from rqdisco.access.tokens import SCOPES, Access, TokenRing, describe
from rqdisco.observability.events import Event
from rqdisco.web.connections.site import BoundedSite
from rqdisco.web.requests.request_ids import RequestIDs
from rqdisco.web.root import IMPORT_BYTES
from tests.support.daemon import Daemon, mint, register

A = "10.0.0.1:4001"
VALUE = {"id": "1", "api_addr": "http://h:1", "addr": "h:2"}
OTHER = "0a5306d9-5842-851c-a00f-72fe57b0eb16"
MAX_BODY = 2000


def secret(name: str) -> str:
    return f"rqd_{name}-0123456789abcdef"


class Guarded:
    """A daemon with a token for each scope, named after it, and for what is bound to its one ID."""

    def __init__(self) -> None:
        self.access = Access(TokenRing())
        self.daemon = Daemon(access=self.access, max_body=MAX_BODY)
        self.id = mint(self.daemon)
        register(self.daemon, self.id, A)
        bound = [describe(f"{scope}-here", [scope], secret(f"{scope}-here"), self.id) for scope in ("read", "write")]
        elsewhere = [describe("elsewhere", ["read", "write"], secret("elsewhere"), OTHER)]
        unbound = [describe(scope, [scope], secret(scope)) for scope in SCOPES]
        self.access.ring = TokenRing([*unbound, *bound, *elsewhere])
        self.daemon.clock.advance(100)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = None,
        *,
        operators: bool = False,
        **headers: str,
    ) -> Any:
        """Status, reason, headers and body of the answer, over a connection of its own."""
        doors = self.daemon.doors
        site = BoundedSite(
            doors.operators() if operators else doors.public(),
            Clock(),
            MAX_BODY,
            lambda: 0.0,
            most_body=IMPORT_BYTES,
            may_send_more=doors.may_send_more,
        )
        protocol, transport = site.buildProtocol(None), StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.7", 1))
        protocol.makeConnection(transport)
        content = b"" if body is None else msgspec.json.encode(body)
        if token is not None:
            headers["Authorization"] = f"Bearer {secret(token)}"
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + content)
        while any(call.getTime() <= self.daemon.clock.seconds() for call in self.daemon.clock.getDelayedCalls()):
            self.daemon.clock.advance(0)
        head, _, answered = transport.value().partition(b"\r\n\r\n")
        status_line, *rest = head.decode().split("\r\n")
        _, status, reason = status_line.split(" ", 2)
        got = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        return int(status), reason, got, answered.decode()


TOKENS = ("mint", "read", "write", "admin", "read-here", "write-here", "elsewhere")
READ = {"read", "admin", "read-here"}
WRITE = {"write", "admin", "write-here"}
READ_ELSEWHERE = {"read", "admin", "elsewhere"}
WRITE_ELSEWHERE = {"write", "admin", "elsewhere"}
READ_ANYWHERE = {"read", "admin"}
WRITE_ANYWHERE = {"write", "admin"}

# Each request, and which tokens allow it; {id} is the known ID, {other} the one that nobody minted.
REQUESTS: list[tuple[str, str, object, set[str]]] = [
    ("POST", "/", None, {"mint", "admin"}),
    ("GET", "/{id}", None, READ),
    ("HEAD", "/{id}", None, READ),
    ("GET", "/{id}?consistent=1", None, READ),
    ("PUT", "/{id}", None, READ),
    ("GET", "//{id}/", None, READ),
    ("GET", "/%7Bid", None, READ_ANYWHERE),
    ("GET", "/a/b", None, READ_ANYWHERE),
    ("POST", "/{id}", {"addr": "b:1"}, WRITE),
    ("POST", "/{id}/", {"addr": "b:1"}, WRITE),
    ("DELETE", "/{id}", {"addr": A}, WRITE),
    ("GET", "/{other}", None, READ_ELSEWHERE),
    ("POST", "/{other}", {"addr": "b:1"}, WRITE_ELSEWHERE),
    ("DELETE", "/{other}", {"addr": "b:1"}, WRITE_ELSEWHERE),
    ("GET", "/v1/kv/{id}/leader", None, READ),
    ("GET", "/v1/kv/%7Bid/leader", None, READ_ANYWHERE),
    ("GET", "/v1/kv/{id}/other", None, READ_ANYWHERE),
    ("POST", "/v1/kv/{id}/leader", None, READ),
    ("PUT", "/v1/kv/{id}/leader", VALUE, WRITE),
    ("PUT", "/v1/kv/{id}/leader?cas=0", VALUE, WRITE),
    ("PUT", "/v1/kv/{other}/leader?cas=0", VALUE, WRITE_ELSEWHERE),
    ("PUT", "/v1/kv/new/leader", VALUE, WRITE_ANYWHERE),
    ("PUT", "/v1/kv/new/leader?acquire=x", VALUE, WRITE_ANYWHERE),
    ("DELETE", "/v1/kv/{id}/leader", None, WRITE),
    ("GET", "/operator/export", None, {"admin"}),
    ("POST", "/operator/import", {"records": []}, {"admin"}),
    ("POST", "/operator/export", None, {"admin"}),
    ("GET", "/operator/peers", None, {"admin"}),
    ("POST", "/operator/peers/forget", {"name": "x"}, {"admin"}),
    ("POST", "/operator/drain", {}, {"admin"}),
    ("GET", "/operator/nonsense", None, {"admin"}),
    ("PUT", "/", None, set(TOKENS)),
    ("GET", "//", None, set(TOKENS)),
    ("GET", "/v1/kv/", None, set(TOKENS)),
    ("GET", "/v1/agent/self", None, set(TOKENS)),
    ("GET", "/v1/%ff", None, set(TOKENS)),
    ("GET", "/operator/%ff", None, {"admin"}),
]


NAMES = [f"{method} {path}" for method, path, *_ in REQUESTS]


@pytest.mark.parametrize(("method", "path", "body", "allows"), REQUESTS, ids=NAMES)
def test_each_scope_allows_what_it_is_for_and_nothing_else(
    method: str, path: str, body: object, allows: set[str]
) -> None:
    for token in TOKENS:
        guarded = Guarded()
        where = path.replace("{id}", guarded.id).replace("{other}", OTHER)
        before = guarded.daemon.store.last_version
        status, _, _, content = guarded.ask(method, where, body, token)
        if token in allows:
            assert status not in (401, 403), (token, content)
        else:
            assert status == 403, (token, content)
            assert guarded.daemon.store.last_version == before


@pytest.mark.parametrize(("method", "path", "body"), [row[:3] for row in REQUESTS], ids=NAMES)
def test_without_a_token_that_is_known_nothing_is_answered(method: str, path: str, body: object) -> None:
    guarded = Guarded()
    where = path.replace("{id}", guarded.id).replace("{other}", OTHER)
    before = guarded.daemon.store.last_version
    missing, wrong = (guarded.ask(method, where, body, token) for token in (None, "wrong"))
    if path.startswith("/v1/"):
        assert (missing[0], missing[3]) == (403, "Permission denied")
        assert (wrong[0], wrong[3]) == (403, "ACL not found")
        assert not any("x-consul" in header for header in missing[2]), "no number that rises with every change"
    else:
        assert missing[:2] == (401, "authentication required")
        assert wrong[:2] == (401, "unknown token")
        assert missing[2]["www-authenticate"] == 'Basic realm="rqdisco", charset="UTF-8"'
    assert guarded.daemon.store.last_version == before


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", {"addr": "b:1"}), ("DELETE", {"addr": A})])
@pytest.mark.parametrize("token", [None, "wrong", "mint", "elsewhere"])
def test_ids_that_are_there_and_ids_that_are_not_are_refused_alike(
    method: str, body: object, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = Guarded()
    looked_up: list[str] = []
    for name in ("newest", "settled"):
        monkeypatch.setattr(guarded.daemon.store, name, looked_up.append)
    known = guarded.ask(method, f"/{guarded.id}", body, token)
    unknown = guarded.ask(method, f"/{OTHER[::-1]}", body, token)
    assert known == (*unknown[:3], unknown[3].replace(OTHER[::-1], guarded.id))
    assert known[0] in (401, 403)
    assert looked_up == [], "and so in the same time"


def test_what_is_refused_says_which_right_is_missing_and_never_repeats_a_token() -> None:
    guarded = Guarded()
    status, reason, _, content = guarded.ask("POST", f"/{guarded.id}", {"addr": A}, "read")
    assert (status, reason) == (403, "token may not do this")
    assert json.loads(content) == {"error": f"token may not write {guarded.id}"}
    assert json.loads(guarded.ask("POST", "/", None, "read")[3]) == {"error": "token may not mint"}
    assert json.loads(guarded.ask("GET", "/operator/export", None, "write")[3]) == {"error": "token may not administer"}


@pytest.mark.parametrize("path", ["/{id}", "/v1/kv/{id}/leader"])
def test_a_token_is_taken_as_bearer_as_the_password_of_basic_and_in_consuls_header(path: str) -> None:
    guarded = Guarded()
    where = path.replace("{id}", guarded.id)
    right, wrong = secret("read"), secret("wrong")
    basic = base64.b64encode(f"anybody:{right}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {right}"},
        {"authorization": f"bearer  {right}"},
        {"Authorization": f"Basic {basic}"},
        {"X_Consul_Token": right},
        {"X_Consul_Token": right, "Authorization": f"Basic {base64.b64encode(b'for:a proxy').decode()}"},
        {"X_Consul_Token": "", "Authorization": f"Basic {basic}"},
    ):
        assert guarded.ask("GET", where, **headers)[0] in (200, 404), headers
    for headers in (
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": right},
        {"Authorization": f"Digest {right}"},
        {"Authorization": "Basic ***"},
        {"Authorization": f"Basic {base64.b64encode(right.encode()).decode()}"},
        {"Authorization": f"Basic {base64.b64encode(f'{right}:'.encode()).decode()}"},
        {"X_Consul_Token": wrong},
        {"Cookie": right},
    ):
        assert guarded.ask("GET", where, **headers)[0] in (401, 403), headers
    assert guarded.ask("GET", f"{where}?token={right}")[0] in (401, 403), "a query string is in logs"


def test_a_probe_needs_no_token_and_hears_nothing_of_ids() -> None:
    guarded = Guarded()
    assert json.loads(guarded.ask("GET", "/")[3]) == {"name": "rqdisco", "version": "0", "uptime": 0}
    assert json.loads(guarded.ask("GET", "/", None, "read-here")[3])["ids"] == 1
    assert guarded.ask("GET", "/", None, "wrong")[0] == 401
    assert guarded.ask("HEAD", "/")[0] == 200


def test_only_an_admin_is_told_why() -> None:
    guarded = Guarded()
    assert "told" in json.loads(guarded.ask("GET", f"/{guarded.id}?explain=1", None, "admin")[3])
    assert "told" not in json.loads(guarded.ask("GET", f"/{guarded.id}?explain=1", None, "read")[3])


def test_the_operators_socket_asks_for_no_token() -> None:
    guarded = Guarded()
    for method, path in (("POST", "/"), ("GET", f"/{guarded.id}?explain=1"), ("GET", "/operator/export")):
        assert guarded.ask(method, path, operators=True)[0] == 200
    assert guarded.ask("PUT", "/v1/kv/new/leader", VALUE, operators=True)[0] == 200


def test_an_admin_imports_more_than_the_body_of_a_request_may_have_and_nobody_else_does() -> None:
    guarded = Guarded()
    records = [{"id": f"n{number}", "created_at": 1, "nodes": [{"addr": "x" * 200}]} for number in range(20)]
    status, _, _, content = guarded.ask("POST", "/operator/import", {"records": records}, "admin")
    assert (status, json.loads(content)["imported"]) == (200, 20)
    assert guarded.ask("POST", "/operator/import", {"records": records}, "write")[0] == 403
    assert guarded.ask("POST", f"/{guarded.id}", {"addr": "x", "more": "x" * MAX_BODY}, "admin")[0] == 413
    assert guarded.ask("POST", f"/{guarded.id}", {"addr": "x", "more": "x" * MAX_BODY}, "write")[0] == 413


def test_the_name_of_the_token_is_in_the_line_of_each_change(log: list[dict[str, Any]]) -> None:
    guarded = Guarded()
    guarded.ask("POST", "/", None, "mint")
    guarded.ask("POST", f"/{guarded.id}", {"addr": "b:1"}, "write-here")
    guarded.ask("DELETE", f"/{guarded.id}", {"addr": "b:1"}, "write")
    guarded.ask("PUT", "/v1/kv/new/leader?cas=0", VALUE, "write")
    guarded.ask("PUT", f"/v1/kv/{guarded.id}/leader", VALUE, "write-here")
    guarded.ask("DELETE", f"/v1/kv/{guarded.id}/leader", None, "admin")
    guarded.ask("GET", "/operator/export", None, "admin")
    guarded.ask("POST", "/operator/import", {"records": []}, "admin")
    changes = [(event["log_format"], event["token"]) for event in log if "token" in event]
    assert changes == [
        ("mint", "mint"),
        ("registration", "write-here"),
        ("removal", "write"),
        ("claim", "write"),
        ("leader report", "write-here"),
        ("leader removal", "admin"),
        ("export", "admin"),
        ("import", "admin"),
    ]
    assert not any(secret("") in str(event) for event in log)


def test_who_is_refused_is_in_the_log_once_a_minute(log: list[dict[str, Any]]) -> None:
    guarded = Guarded()
    for _ in range(5):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
        guarded.ask("GET", f"/{guarded.id}", None, "mint")
    refused = [(event["peer"], event["token"], event["why"]) for event in log if event["log_format"] == "refused"]
    assert refused == [
        ("192.0.2.7", None, "unknown token"),
        ("192.0.2.7", "mint", f"token may not read {guarded.id}"),
    ]
    guarded.daemon.clock.advance(60)
    guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    assert len([event for event in log if event["log_format"] == "refused"]) == 3


class Refusals:
    """The refusals that are told of a guarded daemon."""

    def __init__(self, guarded: Guarded) -> None:
        self.events: list[Event] = []
        guarded.daemon.books.events.observers.append(self.events.append)

    def told(self) -> list[tuple[str, str, str | None]]:
        """Those since the last time: what was tried, at which door, with which token."""
        assert {event.outcome for event in self.events} <= {"refused"}
        told = [(event.kind, event.door, event.asker) for event in self.events]
        self.events.clear()
        return told


@pytest.mark.parametrize(
    ("method", "path", "kind", "door"),
    [
        ("POST", "/", "mint", "discovery"),
        ("PUT", "/", "request", "discovery"),
        ("GET", "/{id}", "request", "discovery"),
        ("POST", "/{id}", "registration", "discovery"),
        ("POST", "/%7Bid", "registration", "discovery"),
        ("DELETE", "/{id}", "removal", "discovery"),
        ("GET", "/{id}/events", "request", "discovery"),
        ("PUT", "/v1/kv/{id}/leader?cas=0", "claim", "consul"),
        ("PUT", "/v1/kv/{id}/leader", "leader report", "consul"),
        ("DELETE", "/v1/kv/{id}/leader", "leader removal", "consul"),
        ("GET", "/v1/kv/{id}/leader", "request", "consul"),
        ("PUT", "/v1/agent/self", "request", "consul"),
        ("POST", "/operator/import", "import", "operator"),
        ("POST", "/operator/peers/forget", "forget", "operator"),
        ("POST", "/operator/drain", "drain", "operator"),
        ("GET", "/operator/export", "request", "operator"),
        ("GET", "/operator/peers", "request", "operator"),
    ],
)
def test_an_audit_says_what_was_tried_by_whom_it_was_not_allowed_to(
    method: str, path: str, kind: str, door: str
) -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    guarded.ask(method, path.replace("{id}", guarded.id), None, "wrong")
    # There is no unknown right to be without.
    is_open_to_all = (method, path) in (("PUT", "/"), ("PUT", "/v1/agent/self"))
    if not is_open_to_all:
        guarded.ask(method, path.replace("{id}", guarded.id), None, "elsewhere")
    assert refusals.told() == [(kind, door, None), (kind, door, "elsewhere")][: 1 if is_open_to_all else 2]


def test_a_refusal_says_whose_id_and_why_and_its_answer_has_the_name_of_the_request() -> None:
    guarded = Guarded()
    guarded.daemon.books.name = RequestIDs(guarded.daemon.random.randbytes)
    refusals = Refusals(guarded)
    _, _, headers, _ = guarded.ask("DELETE", f"/{guarded.id}", {"addr": A}, "read", X_Request_ID="r-1")
    assert headers["x-request-id"] == "r-1"
    (event,) = refusals.events
    assert (event.id, event.client, event.asker, event.request, event.why) == (
        guarded.id,
        "192.0.2.7",
        "read",
        "r-1",
        f"token may not write {guarded.id}",
    )


def test_a_refused_browser_is_in_the_audit_log_too() -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    guarded.ask("GET", f"/{guarded.id}", None, "wrong", Accept="text/html")
    assert refusals.told() == [("request", "pages", None)]


def test_who_is_let_in_is_not_told_of_as_a_refusal() -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    guarded.ask("GET", f"/{guarded.id}", None, "read")
    guarded.ask("GET", "/readyz")
    guarded.ask("GET", "/readyz", None, "wrong")
    assert refusals.told() == []


def test_a_flood_of_refusals_is_a_few_lines_and_the_next_one_says_how_many_there_were() -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    for _ in range(50):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    assert len(refusals.told()) == 10
    guarded.daemon.clock.advance(1)
    for _ in range(50):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    (event,) = refusals.events
    assert event.more == {"left_out": 40}
    guarded.daemon.clock.advance(100)
    refusals.events.clear()
    for _ in range(2):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    assert [event.more for event in refusals.events] == [{"left_out": 49}, {}]


def test_refusals_crowd_no_change_out_of_the_operators_page_and_are_no_changes() -> None:
    guarded = Guarded()
    guarded.ask("POST", "/", None, "mint")
    outcomes = dict(guarded.daemon.watch.outcomes.by_kind)
    for _ in range(100):
        guarded.ask("POST", f"/{guarded.id}", {"addr": A}, "wrong")
        guarded.daemon.clock.advance(1)
    assert [each.event.kind for each in guarded.daemon.recent.changes] == ["mint"]
    assert guarded.daemon.watch.outcomes.by_kind == outcomes


def test_a_ring_that_was_read_again_is_what_counts() -> None:
    guarded = Guarded()
    assert guarded.ask("GET", f"/{guarded.id}", None, "read")[0] == 200
    guarded.access.ring = TokenRing([describe("new", ["read"], secret("new"))])
    assert guarded.ask("GET", f"/{guarded.id}", None, "read")[0] == 401
    assert guarded.ask("GET", f"/{guarded.id}", None, "new")[0] == 200


def test_what_is_wrong_with_a_daemon_is_told_to_admins_alone() -> None:
    guarded = Guarded()
    guarded.daemon.disk.room = 0
    guarded.ask("POST", "/", None, "mint")
    full = "nothing can be written: no space left on device"
    for path, status in (("/readyz", 200), ("/readyz?grant=1", 503)):
        for token in (None, "wrong", "mint", "read", "write", "read-here"):
            assert _probe(guarded, path, token) == (status, {"ready": status == 200}), "and a probe is never refused"
        status_told, told = _probe(guarded, path, "admin")
        assert (status_told, told["wrong"] + told["notes"]) == (status, [full])
        # Whoever may open the operator's socket is the operator.
        assert _probe(guarded, path, None, operators=True) == (status, told)


def _probe(guarded: Guarded, path: str, token: str | None, **where: bool) -> tuple[int, Any]:
    status, _, _, body = guarded.ask("GET", path, None, token, **where)
    return status, json.loads(body)
