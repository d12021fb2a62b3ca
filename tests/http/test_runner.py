"""Requests that are slow, cancelled, or hit an internal error."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.client import ResponseFailed

from tests.support.any_daemon import AnyDaemon
from tests.support.backends import new_daemon
from tests.support.daemon import Daemon, result
from tests.support.in_memory_http import InMemoryClient


@pytest.fixture
def daemon(each_backend: None) -> Any:
    """A daemon over either backend."""
    return new_daemon()


@pytest.fixture
def stored_daemon() -> Daemon:
    """A daemon that stores its records itself."""
    return Daemon()


@pytest.fixture
def client(daemon: AnyDaemon) -> InMemoryClient:
    return InMemoryClient(daemon.apis.public())


def post(client: InMemoryClient, path: str, **body: str) -> Deferred[Any]:
    return client.post(f"http://rqdisco{path}", json=body)


def fired(deferred: Deferred[Any]) -> bool:
    outcome: list[Any] = []

    def keep(result: Any) -> Any:
        outcome.append(result)
        return result

    deferred.addBoth(keep)
    return bool(outcome)


def create_id(client: InMemoryClient) -> str:
    return str(result(client.json_content(result(post(client, "/"))))["disco_id"])


@pytest.mark.parametrize("path", ["/", "/{}", "/%{:x}{}"])
def test_a_request_that_cannot_be_decided_is_answered_503_in_time(stored_daemon: Daemon, path: str) -> None:
    daemon, client = stored_daemon, InMemoryClient(stored_daemon.apis.public())
    discovery_id = create_id(client)
    path = path.format(ord(discovery_id[0]), discovery_id[1:]) if ":x" in path else path.format(discovery_id)
    daemon.threads.hold = True
    waiting = post(client, path, addr="a:1")
    daemon.clock.advance(6.9)
    client.flush()
    assert not fired(waiting)
    daemon.clock.advance(0.1)
    client.flush()
    response = result(waiting)
    assert (response.code, response.phrase) == (503, b"store unavailable: not decided in time")
    daemon.threads.release_all()
    daemon.threads.hold = False
    assert result(client.json_content(result(post(client, f"/{discovery_id}", addr="b:1"))))["nodes"] == ["b:1"]
    daemon.deadlines.stop()


def test_each_request_has_its_own_deadline(daemon: Daemon, client: InMemoryClient) -> None:
    discovery_id = create_id(client)
    daemon.threads.hold = True
    first = post(client, f"/{discovery_id}", addr="a:1")
    daemon.clock.advance(4)
    second = post(client, "/")
    daemon.clock.advance(3)
    client.flush()
    assert result(first).code == 503
    assert not fired(second)
    daemon.clock.advance(4)
    client.flush()
    assert result(second).code == 503
    assert not daemon.clock.getDelayedCalls()
    daemon.threads.release_all()


def test_a_client_that_hangs_up_is_dropped_without_an_error_in_the_log(daemon: Daemon, client: InMemoryClient) -> None:
    discovery_id = create_id(client)
    daemon.threads.hold = True
    for path in (f"/{discovery_id}", "/"):
        gone = post(client, path, addr="a:1")
        gone.cancel()
        client.flush()
        gone.addErrback(lambda failure: failure.trap(ResponseFailed, Exception) and None)
    daemon.threads.release_all()
    client.flush()
    daemon.threads.hold = False
    assert result(client.json_content(result(post(client, f"/{discovery_id}", addr="b:1"))))["nodes"] == ["b:1"]
    daemon.deadlines.stop()


@pytest.mark.parametrize("path", ["/x", "/", "/%78"])
def test_an_internal_error_is_500_and_is_logged(
    stored_daemon: Daemon, logged_errors: list[dict[str, Any]], path: str
) -> None:
    daemon, client = stored_daemon, InMemoryClient(stored_daemon.apis.public())
    daemon.store.settled = daemon.store.newest = daemon.store.put = None  # type: ignore[assignment,method-assign]
    response = result(post(client, path, addr="a:1"))
    assert (response.code, result(client.content(response))) == (500, b'{"error": "internal error"}')
    (event,) = logged_errors
    assert isinstance(event["log_failure"].value, TypeError)
    logged_errors.clear()
