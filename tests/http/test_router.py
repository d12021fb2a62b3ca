"""Answers of the router itself: the methods of a path, HEAD of pages, and how large a body may
be.
"""

from __future__ import annotations

import gc
import weakref

import pytest

from rqdisco.http.apis import IMPORT_BYTES
from rqdisco.http.openapi.document import build
from rqdisco.http.operations import Audience
from rqdisco.http.requests.request import Request, parse_query
from tests.support.connections import Server, request
from tests.support.daemon import create_id
from tests.support.prepared_daemons import MAX_BODY as PREPARED_MAX_BODY
from tests.support.prepared_daemons import Reply, daemon_for, unknown

AUDIENCES: tuple[Audience, ...] = ("open", "guarded", "operator")
PAGE = {"Accept": "text/html"}


@pytest.mark.parametrize("audience", AUDIENCES)
def test_options_of_every_path_lists_its_methods_and_needs_no_token(audience: Audience) -> None:
    prepared = daemon_for(audience)
    for path, methods in build(audience)["paths"].items():
        reply = prepared.ask("OPTIONS", path, token=None)
        assert (reply.status, reply.body) == (204, b""), path
        assert set(reply.headers["allow"].split(", ")) == {*map(str.upper, methods), "OPTIONS"}, path
        assert not {"content-length", "content-type", "x-consul-index"} & set(reply.headers)


def test_options_of_the_whole_server_lists_all_methods() -> None:
    answer = Server().connect().send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"\r\nAllow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n" in answer


@pytest.mark.parametrize("path", ["/a/b", "/metrics", "/%ff", "/" + "x" * 65, "/v1/agent/self", "//"])
def test_options_of_a_path_that_does_not_exist_is_404(path: str) -> None:
    assert daemon_for("open").ask("OPTIONS", path).status == 404


@pytest.mark.parametrize("target", ["/", "*", "/healthz"])
def test_a_load_balancer_that_checks_by_options_sees_that_the_daemon_stops(target: str) -> None:
    server = Server()
    check = f"OPTIONS {target} HTTP/1.0\r\n\r\n".encode()
    assert server.connect().send(check).startswith(b"HTTP/1.1 204 ")
    server.daemon.health.stop()
    assert server.connect().send(check).startswith(b"HTTP/1.1 503 the daemon is stopping\r\n")


def head(reply: Reply) -> tuple[int, dict[str, str]]:
    return reply.status, {name: value for name, value in reply.headers.items() if name != "content-length"}


@pytest.mark.parametrize("path", ["/", "/{id}", "/status", "/?id=orders"])
def test_head_of_a_page_has_the_headers_of_the_page_and_no_length_since_nothing_is_rendered(path: str) -> None:
    prepared = daemon_for("open")
    shown, asked = prepared.ask("GET", path, **PAGE), prepared.ask("HEAD", path, **PAGE)
    assert head(asked) == head(shown)
    assert asked.headers.get("content-length") in (None, "0")


def test_head_of_the_page_of_an_unknown_id_is_404() -> None:
    assert unknown("open").ask("HEAD", "/{id}", **PAGE).status == 404
    assert daemon_for("guarded").ask("HEAD", "/{id}", token=None, **PAGE).status == 401


@pytest.mark.parametrize("prefix", ["/", "//", "///"])
@pytest.mark.parametrize("suffix", ["", "/", "//"])
@pytest.mark.parametrize("name", ["healthz", "readyz", "openapi.json", "{id}"])
def test_doubled_and_trailing_slashes_lead_to_the_same_place(name: str, prefix: str, suffix: str) -> None:
    assert daemon_for("open").ask("GET", f"{prefix}{name}{suffix}").status == 200


@pytest.mark.parametrize("path", ["//operator//peers//forget/", "/operator/peers%2Fforget", "/operator/peers/forget/"])
def test_operations_of_operators_have_their_path_in_any_spelling(path: str) -> None:
    assert daemon_for("operator").ask("POST", path, {"name": "c"}).body == b'{"error": "this daemon has no peers"}'


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v1/events", "not supported by rqdisco"),
        ("/operator/events", "no such operator's resource"),
        ("/status/events", "status/events does not exist"),
        ("/%68ealthz", "healthz does not exist"),
    ],
)
def test_reserved_names_are_never_ids(path: str, text: str) -> None:
    reply = daemon_for("operator").ask("GET", path)
    assert (reply.status, text in reply.body.decode()) == (404, True)


@pytest.mark.parametrize(
    ("method", "path", "token", "largest"),
    [
        ("GET", "/{id}", "admin", 0),
        ("POST", "/", "admin", 0),
        ("POST", "/{id}", "admin", PREPARED_MAX_BODY),
        ("PUT", "/v1/kv/{id}/leader", None, PREPARED_MAX_BODY),
        ("PUT", "/v1/kv/{id}/other", "admin", 0),
        ("PATCH", "/{id}", "admin", 0),
        ("POST", "/operator/import", "admin", IMPORT_BYTES),
        ("POST", "/operator/import", "write", 0),
        ("POST", "/operator/import", None, 0),
        ("POST", "/operator/else", "admin", 0),
    ],
)
def test_a_body_is_kept_as_far_as_its_operation_and_its_client_need_it(
    method: str, path: str, token: str | None, largest: int
) -> None:
    prepared = daemon_for("guarded")
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    asked = Request(Server().connect().protocol, method.encode(), path.replace("{id}", prepared.id).encode(), headers)
    assert prepared.router.max_body(asked) == largest


def test_a_page_or_an_export_costs_as_much_as_many_lookups_before_it_is_begun() -> None:
    prepared = daemon_for("operator")
    connection = Server().connect().protocol

    def cost(method: bytes, path: bytes, accept: bytes = b"*/*") -> float:
        asked = Request(connection, method, path, [(b"accept", accept)])
        prepared.router.max_body(asked)
        return prepared.router.cost(asked)

    assert cost(b"GET", b"/some-id") == cost(b"GET", b"/v1/kv/some-id/leader") == cost(b"PATCH", b"/") == 1
    assert cost(b"HEAD", b"/some-id", b"text/html") == 1
    assert cost(b"GET", b"/some-id", b"text/html") >= 50
    assert cost(b"GET", b"/operator/export") >= 50


def test_a_daemon_that_is_dropped_frees_its_routers() -> None:
    dropped = [weakref.ref(daemon_for(audience).router) for audience in AUDIENCES]
    gc.collect()
    assert [each() for each in dropped] == [None] * 3


def test_the_host_of_a_request_stays_as_it_was_sent() -> None:
    server = Server()
    discovery_id = create_id(server.daemon)
    seen: list[bytes | None] = []
    router = server.site.application
    handle = router.handle

    class Watching:
        max_body = staticmethod(router.max_body)

        @staticmethod
        def handle(asked: Request) -> None:
            handle(asked)
            seen.append(asked.header(b"host"))

    server.site.application = Watching()
    for path in (f"/{discovery_id}", f"/{discovery_id}/events", "/openapi.json"):
        server.connect().send(request("GET", path))
    assert seen == [b"x"] * 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", {}),
        (b"a", {b"a": [b""]}),
        (b"a=1&a=&&b=x+y%20z", {b"a": [b"1", b""], b"b": [b"x y z"]}),
        (b"%C3%99=%ff%&=", {b"\xc3\x99": [b"\xff%"], b"": [b""]}),
    ],
)
def test_a_query_string_may_have_any_bytes(query: bytes, expected: dict[bytes, list[bytes]]) -> None:
    assert parse_query(query) == expected
