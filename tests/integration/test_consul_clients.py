"""Consul's own clients against the real daemon, and claims by clients that are many, rude, or
gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import consul
import pytest
from consul.exceptions import BadRequest

from tests.integration.conftest import Start
from tests.support.consul_nodes import RELEASES, leader_value
from tests.support.process import ANY_PORT, PATIENCE, DaemonProcess, Reply
from tests.support.virtual import Peer

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:verify_ssl is deprecated")]

VALUE = '{"id":"1","api_addr":"http://h:1","addr":"h:2"}'
OTHER = '{"id":"2","api_addr":"http://i:1","addr":"i:2"}'


class Waiting:
    """The asyncio client, whose calls are awaited here, so that the same tests are for both
    flavours.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(self._run(connect))
        self.kv = self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            return await getattr(self._client.kv, name)(*arguments, **named)

        return lambda *arguments, **named: self._loop.run_until_complete(call(*arguments, **named))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()

    @staticmethod
    async def _run(connect: Callable[[], Any]) -> Any:
        return connect()


@pytest.fixture(params=["sync", "asyncio"])
def client(request: pytest.FixtureRequest, daemon: DaemonProcess) -> Iterator[Any]:
    """py-consul, in each of its flavours."""
    if request.param == "sync":
        yield consul.Consul("127.0.0.1", daemon.port)
    else:
        aio = pytest.importorskip("consul.aio", exc_type=ImportError)
        with closing(Waiting(partial(aio.Consul, "127.0.0.1", daemon.port, verify=False))) as waiting:
            yield waiting


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    name = "".join(character if character.isalnum() else "-" for character in request.node.name)
    return f"{name[-60:]}/leader"


def test_a_put_value_can_be_read_back(client: Any, key: str) -> None:
    assert client.kv.get(key)[1] is None
    assert client.kv.put(key, VALUE) is True
    index, entry = client.kv.get(key)
    assert entry == {
        "LockIndex": 0,
        "Key": key,
        "Flags": 0,
        "Value": VALUE.encode(),
        "CreateIndex": entry["ModifyIndex"],
        "ModifyIndex": entry["ModifyIndex"],
    }
    assert int(index) >= entry["ModifyIndex"] > 0


def test_a_create_only_put_succeeds_for_one_client_and_shows_it_after_its_unconditional_put(
    client: Any, key: str
) -> None:
    assert client.kv.put(key, VALUE, cas=0) is True
    assert client.kv.put(key, OTHER, cas=0) is False
    assert client.kv.get(key)[1] is None
    assert client.kv.put(key, VALUE, cas=0) is True
    assert client.kv.put(key, VALUE) is True
    assert client.kv.get(key)[1]["Value"] == VALUE.encode()
    assert client.kv.put(key, VALUE, cas=0) is False


def test_a_create_only_put_succeeds_once_where_claims_are_visible(start: Start, tmp_path: Path) -> None:
    client = consul.Consul("127.0.0.1", start(tmp_path / "state", "--kv-visible-claims").port)
    assert client.kv.put("rqlite/leader", VALUE, cas=0) is True
    assert client.kv.put("rqlite/leader", OTHER, cas=0) is False
    assert client.kv.put("rqlite/leader", VALUE, cas=0) is False
    entry = client.kv.get("rqlite/leader")[1]
    assert entry["Value"] == VALUE.encode()
    assert entry["ModifyIndex"] == entry["CreateIndex"]


def test_a_conditional_put_succeeds_at_its_index_only(client: Any, key: str) -> None:
    assert client.kv.put(key, VALUE, cas=5) is False
    client.kv.put(key, VALUE, flags=42)
    entry = client.kv.get(key)[1]
    assert entry["Flags"] == 42
    assert client.kv.put(key, OTHER, cas=entry["ModifyIndex"] + 1) is False
    assert client.kv.put(key, OTHER, cas=entry["ModifyIndex"]) is True
    assert client.kv.put(key, VALUE, cas=entry["ModifyIndex"]) is False
    after = client.kv.get(key)[1]
    assert (after["Value"], after["CreateIndex"]) == (OTHER.encode(), entry["CreateIndex"])
    assert after["ModifyIndex"] > entry["ModifyIndex"]


def test_a_deleted_value_is_gone(client: Any, key: str) -> None:
    assert client.kv.delete(key) is True
    client.kv.put(key, VALUE)
    assert client.kv.delete(key) is True
    assert client.kv.get(key)[1] is None


def test_a_conditional_delete_succeeds_at_its_index_only(client: Any, key: str) -> None:
    client.kv.put(key, VALUE)
    entry = client.kv.get(key)[1]
    assert client.kv.delete(key, cas=0) is False
    assert client.kv.delete(key, cas=entry["ModifyIndex"] - 1) is False
    assert client.kv.get(key)[1] == entry
    assert client.kv.delete(key, cas=entry["ModifyIndex"]) is True
    assert client.kv.get(key)[1] is None


def test_tokens_and_datacenters_make_no_difference(client: Any, key: str) -> None:
    assert client.kv.put(key, VALUE, cas=0, token="secret", dc="dc1") is True
    assert client.kv.put(key, VALUE, token="secret", dc="dc1") is True
    assert client.kv.get(key, token="other", dc="dc2", consistency="stale")[1]["Value"] == VALUE.encode()
    assert client.kv.delete(key, token="secret", dc="dc1") is True


def test_a_blocking_query_answers_at_once(client: Any, key: str) -> None:
    client.kv.put(key, VALUE)
    index, entry = client.kv.get(key)
    assert client.kv.get(key, index=index, wait="5m")[1] == entry


def test_sessions_are_refused_with_a_reason(client: Any, key: str) -> None:
    for lock in ({"acquire": "a-session"}, {"release": "a-session"}):
        with pytest.raises(BadRequest, match="400 sessions are not supported by rqdisco"):
            client.kv.put(key, VALUE, **lock)
    assert client.kv.get(key)[1] is None


def test_requests_for_several_keys_are_refused_with_a_reason(client: Any, key: str) -> None:
    for asked in ({"recurse": True}, {"keys": True}):
        with pytest.raises(BadRequest, match="recurse and keys are not supported by rqdisco"):
            client.kv.get(key, **asked)
    with pytest.raises(BadRequest, match="unsupported key, only <ID>/leader"):
        client.kv.put("some/other/key", VALUE)
    with pytest.raises(BadRequest, match="leader value must be JSON with addr"):
        client.kv.put(key, "10.0.0.1:4001")


def claims_of(key: str, count: int) -> list[bytes]:
    """Return the claims of this many nodes of all releases."""
    peers = [Peer(f"n{number}", f"10.0.0.{number}:1", f"10.0.0.{number}:2", frozenset()) for number in range(count)]
    return [RELEASES[number % 5].put(key, leader_value(peer), "cas=0") for number, peer in enumerate(peers)]


@contextmanager
def connected(daemon: DaemonProcess, count: int) -> Iterator[list[socket.socket]]:
    """Return connections on each of which the daemon has answered already."""
    with ExitStack() as stack:
        connections = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) for _ in range(count)]
        for connection in connections:
            stack.callback(connection.close)
            connection.sendall(RELEASES[0].read("nobody"))
            assert answer(connection).status == 404
        yield connections


def answer(connection: socket.socket) -> Reply:
    """Return the next answer."""
    response = HTTPResponse(connection)
    response.begin()
    return Reply(response.status, response.reason, {}, response.read())


def claim_at_once(daemon: DaemonProcess, claims: Sequence[bytes]) -> list[bytes]:
    """Return the answers to claims that all arrive together, each on a separate connection."""
    with connected(daemon, len(claims)) as connections:
        for part in (slice(None, -1), slice(-1, None)):
            for connection, claim in zip(connections, claims, strict=True):
                connection.sendall(claim[part])
        return [answer(connection).body for connection in connections]


def test_one_of_many_concurrent_claims_is_won(daemon: DaemonProcess) -> None:
    for number in range(5):
        answers = claim_at_once(daemon, claims_of(f"many-{number}", 50))
        assert sorted(answers) == [b"false"] * 49 + [b"true"]


def test_a_won_claim_survives_kill_9_right_after_its_answer(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state")
    claims = claims_of("rqlite", 50)
    with connected(daemon, len(claims)) as connections:
        for connection, claim in zip(connections, claims, strict=True):
            connection.sendall(claim)
        select.select(connections, [], [], PATIENCE)
        winner = next(number for number, connection in enumerate(connections) if answer(connection).body == b"true")
        daemon.kill()
        for connection in connections[winner + 1 :]:
            assert not connection.recv(65536).endswith(b"true")
    after = start(tmp_path / "state")
    assert [number for number, body in enumerate(claim_at_once(after, claims)) if body == b"true"] == [winner]
    value = json.loads(claims[winner].partition(b"\r\n\r\n")[2])
    assert after.request("PUT", "/v1/kv/rqlite/leader", value).body == b"true"
    assert claim_at_once(after, claims) == [b"false"] * 50


@contextmanager
def held_up(daemon: DaemonProcess) -> Iterator[None]:
    """Stop the daemon inside the context, so that everything sent meanwhile arrives at once."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED)
    yield
    os.kill(daemon.process.pid, signal.SIGCONT)


def hang_up(connection: socket.socket, how: str) -> None:
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_claim_whose_client_is_gone_is_open_to_others(daemon: DaemonProcess, how: str) -> None:
    for number in range(20):
        key = f"gone-{how}-{number}"
        gone, *others = claims_of(key, 4)
        with connected(daemon, 4) as (dying, *connections):
            with held_up(daemon):
                dying.sendall(gone)
                hang_up(dying, how)
                for connection, claim in zip(connections, others, strict=True):
                    connection.sendall(claim)
            answers = [answer(connection).body for connection in connections]
        assert sorted(answers) == [b"false", b"false", b"true"]
        assert claim_at_once(daemon, [gone, *others]) == [b"false", *answers]
        winner = json.loads(others[answers.index(b"true")].partition(b"\r\n\r\n")[2])
        assert daemon.request("PUT", f"/v1/kv/{key}/leader", winner).body == b"true"
        assert daemon.nodes(key) == [winner["api_addr"].removeprefix("http://")]


def test_a_second_listener_serves_the_same_ids(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", f"--listen={ANY_PORT}")
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in daemon.wait_for("listening")["endpoints"]]
    assert len(set(ports)) == 2
    first, second = (consul.Consul("127.0.0.1", port) for port in ports)
    assert second.kv.put("rqlite/leader", VALUE, cas=0) is True
    assert first.kv.put("rqlite/leader", OTHER, cas=0) is False
    assert second.kv.put("rqlite/leader", VALUE) is True
    entry = first.kv.get("rqlite/leader")[1]
    assert entry["Value"] == VALUE.encode()
    assert second.kv.get("rqlite/leader")[1] == entry
    assert first.kv.delete("rqlite/leader") is True
    assert second.kv.get("rqlite/leader")[1] is None
