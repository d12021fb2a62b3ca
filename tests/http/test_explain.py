"""`GET /ID?explain=1` on the operator socket: the reasons for the state of an ID."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.backends import new_daemon
from tests.support.daemon import Daemon, create_id, result
from tests.support.in_memory_http import InMemoryClient

pytestmark = pytest.mark.usefixtures("each_backend")


def ask(daemon: Daemon, method: str, path: str, body: bytes = b"", *, public: bool = False) -> Any:
    client = InMemoryClient(daemon.apis.public() if public else daemon.apis.operators())
    asking = client.request(method, f"http://rqdisco{path}", data=body)
    client.flush()
    reading = client.content(result(asking))
    client.flush()
    return msgspec.json.decode(result(reading))


def test_an_operator_sees_who_was_granted_and_who_was_sent_there() -> None:
    daemon = new_daemon()
    discovery_id = create_id(daemon)
    for addr in (b"n1:1", b"n2:1"):
        ask(daemon, "POST", f"/{discovery_id}", b'{"addr": "%s"}' % addr, public=True)
        daemon.clock.advance(1)
    shown = ask(daemon, "GET", f"/{discovery_id}?explain=1")
    assert [(each["addr"], each["what"], each["listed"]) for each in shown["told"]] == [
        ("n1:1", "granted", 1),
        ("n2:1", "listed", 2),
    ]
    assert shown["told"][0]["at"] < shown["told"][1]["at"]
    assert shown["grant"]["addr"] == "n1:1"
    assert shown["home"] == daemon.owner
    assert shown["may_grant"]


def test_the_last_twenty_answers_are_stored() -> None:
    daemon = new_daemon()
    discovery_id = create_id(daemon)
    for number in range(30):
        ask(daemon, "POST", f"/{discovery_id}", b'{"addr": "n%d:1"}' % number)
    shown = ask(daemon, "GET", f"/{discovery_id}?explain=1")
    assert [each["addr"] for each in shown["told"]] == [f"n{number}:1" for number in range(10, 30)]


def test_claims_are_answers_too() -> None:
    daemon = new_daemon()
    value = b'{"id":"1","api_addr":"http://n1:1","addr":"n1:2"}'
    for each in (value, value, b'{"id":"2","api_addr":"http://n2:1","addr":"n2:2"}'):
        ask(daemon, "PUT", "/v1/kv/my/leader?cas=0", each)
    shown = ask(daemon, "GET", "/my?explain=1")
    assert [each["what"] for each in shown["told"]] == ["claim granted", "claim again", "claim lost"]
    assert shown["leader"] == "n1:1"
    assert shown["claim"] == {"times": 2}, "an operator sees the claimant that nobody else is shown"
    assert shown["grant"]["host"] is not None


def test_only_an_operator_gets_the_explanation() -> None:
    daemon = new_daemon()
    discovery_id = create_id(daemon)
    assert "told" not in ask(daemon, "GET", f"/{discovery_id}?explain=1", public=True)
    assert "told" not in ask(daemon, "GET", f"/{discovery_id}")
