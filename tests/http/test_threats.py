"""Clients cannot do these, whatever they send: discover IDs, reach files, write into headers and
logs.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogPublisher, globalLogPublisher

from rqdisco.http.openapi.document import build
from rqdisco.http.operations import Audience
from rqdisco.service.logging import LineObserver
from tests.support.daemon import STATE, create_id
from tests.support.prepared_daemons import PreparedDaemon, daemon_for
from tests.support.written_log import Paper

TRAVERSALS = [
    "/../../../../etc/passwd",
    "/..%2f..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/..\\..\\etc\\passwd",
    "//etc/passwd",
    "/./../identity.json",
    "/static/../../identity.json",
    "/%00/etc/passwd",
    "/state/identity.json",
    "/v1/kv/../../identity.json",
    "/v1/kv/..%2f..%2fidentity.json/leader",
    "/operator/../../identity.json",
]
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND")
INJECTED = "injected"


@pytest.mark.parametrize(
    ("audience", "token"), [("open", None), ("guarded", None), ("guarded", "mint"), ("guarded", "read")]
)
def test_no_api_lists_ids_to_a_client_that_knows_none(audience: Audience, token: str | None) -> None:
    prepared = daemon_for(audience)
    # The first ones are in the examples of the document.
    ids = [*[create_id(prepared.daemon) for _ in range(5)][2:], "our-orders"]
    assert prepared.ask("PUT", "/v1/kv/our-orders/leader", {"addr": "h:1"}).status == 200
    paths = {path.replace("{id}", "nobodys") for path in build("operator")["paths"]}
    paths |= {"/ids", "/*", "/v1/kv/", "/v1/kv/?keys", "/v1/kv/?recurse", "/v1/catalog/nodes", "/%", f"/{ids[0][:-1]}"}
    for path in paths:
        for method in METHODS:
            if (method, path) == ("POST", "/"):
                continue
            reply = prepared.ask(method, path, {}, token)
            shown = reply.body.decode() + str(reply.headers)
            assert not [each for each in ids if each in shown], (method, path)


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("audience", ["open", "operator"])
def test_no_path_leads_to_a_file(path: str, audience: Audience) -> None:
    prepared = daemon_for(audience)
    disk = prepared.daemon.disk
    identity, names = disk.read(STATE / "identity.json"), disk.names(STATE)
    for method in METHODS:
        reply = prepared.ask(method, path, {"addr": "h:1"})
        is_list_of_methods = (method, reply.status, reply.body) == ("OPTIONS", 204, b"")
        assert is_list_of_methods or reply.status in (400, 404, 405), (method, reply)
        assert b"incarnation" not in reply.body
        assert b"root:" not in reply.body
    assert (disk.read(STATE / "identity.json"), disk.names(STATE)) == (identity, names)


@pytest.mark.parametrize("audience", ["open", "guarded", "operator"])
def test_request_content_never_reaches_the_head_of_an_answer(audience: Audience) -> None:
    prepared = daemon_for(audience)
    text = f"x\r\n{INJECTED}: 1\r\n\r\n{INJECTED}"
    quoted = "%0d%0a".join(("x", f"{INJECTED}:%201"))
    requests: list[tuple[str, str, object]] = [
        ("GET", f"/{quoted}", None),
        ("GET", f"/{INJECTED}?{INJECTED}={INJECTED}", None),
        ("POST", "/{id}", {"addr": text}),
        ("POST", "/{id}", {"addr": INJECTED * 50}),
        ("POST", "/{id}", {"addr": "h:1", "node_id": text}),
        ("DELETE", "/{id}", {"addr": text}),
        ("GET", f"/v1/kv/{quoted}/leader", None),
        ("PUT", f"/v1/kv/{quoted}/leader", {"addr": "h:1"}),
        ("PUT", "/v1/kv/{id}/leader", {"addr": text}),
        ("PUT", f"/v1/kv/{{id}}/leader?cas={quoted}", {"addr": "h:1"}),
        ("POST", "/operator/import", {"records": [{"id": text, "created_at": 1}]}),
        ("POST", "/operator/import", {"records": text}),
        ("POST", "/operator/peers/forget", {"name": text}),
        (INJECTED.upper(), "/{id}", None),
        (INJECTED.upper(), "/readyz", None),
    ]
    for method, path, body in requests:
        reply = prepared.ask(method, path, body, X_Request_Id=f"{INJECTED} ", Referer=INJECTED)
        assert reply.status < 500
        assert INJECTED not in str(reply.headers).lower(), (method, path)


def test_a_path_begins_no_line_of_the_log() -> None:
    paper = Paper()
    observer = LineObserver(paper, Clock().callLater, as_json=False)
    publisher: LogPublisher = globalLogPublisher
    publisher.addObserver(observer)
    try:
        prepared = daemon_for("guarded")
        for path in ("/%0aINJECTED", "/%0d%0aINJECTED%1b[2J", "/v1/kv/%0aINJECTED/leader", "/%C2%9b2J"):
            prepared.clock.advance(100)
            assert prepared.ask("GET", path, token="mint").status in (403, 404)
        observer.flush()
    finally:
        publisher.removeObserver(observer)
    lines = paper.written.decode().splitlines()
    assert sum("refused" in line for line in lines) == 4, lines
    assert not [line for line in lines if line.startswith("INJECTED") or not line.isprintable()]


def test_the_client_is_the_peer_of_the_connection_whatever_it_sends(log: list[dict[str, Any]]) -> None:
    prepared = daemon_for("open")
    forwarded = {"X_Forwarded_For": "192.0.2.99", "Forwarded": "for=192.0.2.99", "X_Real_IP": "192.0.2.99"}
    assert prepared.ask("POST", "/{id}", {"addr": "h:1"}, **forwarded).status == 200
    assert "registration" in {event["log_format"] for event in log}
    assert "192.0.2.99" not in str(log)


def test_a_token_in_the_query_or_in_the_body_is_ignored() -> None:
    prepared = daemon_for("guarded")
    for path in ("/{id}?token=admin", "/{id}?access_token=admin", "/v1/kv/{id}/leader?token=admin"):
        assert prepared.ask("GET", path, token=None).status in (401, 403)
    assert prepared.ask("POST", "/{id}", {"addr": "h:1", "token": "admin"}, token=None).status == 401


@pytest.mark.parametrize("audience", ["open", "guarded"])
def test_a_page_of_another_site_may_read_nothing(audience: Audience) -> None:
    """No answer lets a browser show it to others, and no preflight is granted (Fetch, section
    3.2).
    """
    prepared = daemon_for(audience)
    asked = {"Origin": "http://evil.example", "Access_Control_Request_Method": "PUT"}
    for path in build(audience)["paths"]:
        for method in ("GET", "OPTIONS"):
            reply = prepared.ask(method, path, **asked)
            assert not [name for name in reply.headers if name.startswith("access-control-")]
            assert method == "GET" or reply.status in (403, 404, 405)


def test_imported_content_reaches_no_other_record_and_no_file() -> None:
    prepared: PreparedDaemon = daemon_for("operator")
    names = ["../x", "a/b", "v1", "healthz", "!member/x", "", ".", "x" * 65, "a\nb", "\x00"]
    records = [{"id": name, "created_at": 1} for name in names]
    reply = prepared.ask("POST", "/operator/import", {"records": records})
    answer = json.loads(reply.body)
    assert (answer["imported"], len(answer["refused"])) == (0, len(names))
