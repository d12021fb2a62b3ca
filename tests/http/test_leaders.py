"""Two clusters under one ID, as shown in the document, to watchers and on the page."""

from __future__ import annotations

from typing import Any

import pytest

from rqdisco.client.documents import Document, LeaderValue
from tests.http.conftest import Answer
from tests.http.html_pages import BROWSER, Page
from tests.http.test_client_hosts import reply
from tests.http.test_openapi import check
from tests.support.command import Service
from tests.support.daemon import create_id
from tests.support.process import Reply
from tests.support.watched_server import WatchedServer

RAFT_A, RAFT_B = "10.0.0.1:4002", "10.0.0.2:4002"
TWO = [RAFT_A, RAFT_B]
HOSTILE = '"><b>\u202e.example:4002'


@pytest.fixture
def server() -> WatchedServer:
    return WatchedServer()


def asked(server: WatchedServer, path: str, **headers: str) -> Reply:
    return reply(server.connect(), "GET", path, **headers)


def report(server: WatchedServer, discovery_id: str, *leaders: str, every: float = 5.0) -> None:
    """Have leaders report themselves, one after the other."""
    for raft_addr in leaders:
        server.clock.advance(every)
        value = {"id": raft_addr, "api_addr": f"http://{raft_addr.replace('4002', '4001')}", "addr": raft_addr}
        assert reply(server.connect(), "PUT", f"/v1/kv/{discovery_id}/leader", value).body == b"true"


def headline(server: WatchedServer, discovery_id: str) -> tuple[str | None, str]:
    """Return the verdict that the page shows, and its HTML."""
    answered = asked(server, f"/{discovery_id}", Accept=BROWSER)
    page = Page(Answer(answered.status, answered.reason, dict(answered.headers), answered.body))
    return page.health, answered.body.decode()


def verdict(server: WatchedServer, discovery_id: str) -> str:
    """Return the verdict on the cluster."""
    return str(asked(server, f"/{discovery_id}").document["health"]["verdict"])


def test_two_leaders_are_shown_while_there_are_two(server: WatchedServer, logged_errors: list[Any]) -> None:
    discovery_id = create_id(server.daemon)
    report(server, discovery_id, RAFT_A, RAFT_B, RAFT_A)
    watcher = server.watch(discovery_id)
    assert "two_leaders" not in asked(server, f"/{discovery_id}").document
    assert headline(server, discovery_id)[0] == verdict(server, discovery_id) == "healthy"
    report(server, discovery_id, RAFT_B)
    assert asked(server, f"/{discovery_id}").document["two_leaders"] == TWO
    shown, page = headline(server, discovery_id)
    assert shown == verdict(server, discovery_id) == "two leaders"
    assert all(leader in page for leader in TWO)
    server.clock.advance(1)
    assert [event.get("two_leaders") for event in watcher.events][-1] == TWO
    events = len(watcher.events)
    server.clock.advance(59)
    server.clock.advance(1)
    assert "two_leaders" not in asked(server, f"/{discovery_id}").document
    assert headline(server, discovery_id)[0] == verdict(server, discovery_id) == "unknown"
    assert [event.get("two_leaders") for event in watcher.events[events:]] == [None], "without a change of the record"
    logged_errors.clear()


def test_a_leader_that_continues_alone_ends_the_alarm_after_a_minute(
    server: WatchedServer, logged_errors: list[Any]
) -> None:
    discovery_id = create_id(server.daemon)
    report(server, discovery_id, *[RAFT_A, RAFT_B] * 3)
    watcher = server.watch(discovery_id)
    report(server, discovery_id, *[RAFT_B] * 11)
    assert watcher.events[-1]["two_leaders"] == TWO
    report(server, discovery_id, RAFT_B, RAFT_B)
    server.clock.advance(1)
    assert "two_leaders" not in watcher.events[-1]
    logged_errors.clear()


def test_addresses_in_the_reason_are_escaped_on_the_page(server: WatchedServer, logged_errors: list[Any]) -> None:
    discovery_id = create_id(server.daemon)
    report(server, discovery_id, *[RAFT_A, HOSTILE] * 2)
    shown, page = headline(server, discovery_id)
    assert shown == "two leaders"
    assert "<b>\u202e.example" not in page
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace("\u202e", "\\u{202e}") in page
    logged_errors.clear()


def test_the_client_returns_both_leaders(logged_errors: list[Any]) -> None:
    service = Service()
    client, discovery_id = service.client(), create_id(service.daemon)
    assert service.get(client.get(discovery_id)).two_leaders == ()
    for raft_addr in TWO * 2:
        service.get(client.set_leader(discovery_id, LeaderValue(addr=raft_addr)))
    document = service.get(client.get(discovery_id))
    assert isinstance(document, Document)
    assert document.two_leaders == tuple(TWO)
    service.daemon.leaders.stopService()
    logged_errors.clear()


def test_a_document_with_two_leaders_matches_the_openapi_document(
    server: WatchedServer, logged_errors: list[Any]
) -> None:
    discovery_id = create_id(server.daemon)
    report(server, discovery_id, RAFT_A, RAFT_B, RAFT_A, RAFT_B)
    document = asked(server, f"/{discovery_id}").document
    assert document["two_leaders"] == TWO
    check("open", {"$ref": "#/components/schemas/FullDocument"}, document)
    logged_errors.clear()
