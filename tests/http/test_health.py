"""What balancers and supervisors are told of one daemon."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from treq.testing import StubTreq
from twisted.internet.defer import Deferred

from rqdisco.core.ids import RESERVED_IDS
from rqdisco.core.records import Node, Put
from tests.http.conftest import Door
from tests.support.daemon import Daemon, mint, register, result

LEADER = {"id": "1", "api_addr": "http://n1:4001", "addr": "n1:4002"}
WELL = {"ready": True, "wrong": [], "notes": []}


@pytest.mark.parametrize("path", ["/healthz", "//healthz", "/healthz/", "/healthz?x=1"])
@ensureDeferred
async def test_a_process_that_runs_is_alive(door: Door, path: str) -> None:
    answer = await door("GET", path)
    assert (answer.status, answer.json) == (200, {"alive": True, "wrong": []})
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/readyz", "/readyz?grant=1", "/readyz?grant", "//readyz//"])
@ensureDeferred
async def test_a_daemon_alone_is_ready_as_soon_as_it_listens(door: Door, path: str) -> None:
    answer = await door("GET", path)
    assert (answer.status, answer.json) == (200, WELL)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?grant=1"])
@ensureDeferred
async def test_a_probe_may_ask_for_the_head_alone(door: Door, path: str) -> None:
    head, whole = await door("HEAD", path), await door("GET", path)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(whole.body)
    door.daemon.health.stop()
    assert (await door("HEAD", path)).status == (200 if path == "/healthz" else 503)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@ensureDeferred
async def test_nothing_but_asking_can_be_done_to_a_probe(door: Door, path: str, method: str) -> None:
    answer = await door(method, path, {"addr": "n1:4001"})
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json == {"error": f'unsupported method "{method}"'}


@ensureDeferred
async def test_a_daemon_that_stops_is_alive_and_not_ready(door: Door) -> None:
    door.daemon.health.stop()
    assert (await door("GET", "/healthz")).status == 200
    for path in ("/readyz", "/readyz?grant=1"):
        answer = await door("GET", path)
        assert (answer.status, answer.reason) == (503, "not ready")
        assert answer.json == {"ready": False, "wrong": ["the daemon is stopping"], "notes": []}


@ensureDeferred
async def test_a_full_disk_stops_grants_and_no_lists_until_something_can_be_written(door: Door) -> None:
    door.daemon.disk.room = 0
    assert (await door("POST", "/")).status == 503
    full = "nothing can be written: no space left on device"
    answer = await door("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True, "wrong": [], "notes": [full]})
    answer = await door("GET", "/readyz?grant=1")
    assert (answer.status, answer.json) == (503, {"ready": False, "wrong": [full], "notes": []})
    door.daemon.disk.room = None
    assert (await door("POST", "/")).status == 200
    assert (await door("GET", "/readyz?grant=1")).json == WELL


def test_the_operators_socket_answers_probes_too() -> None:
    client = StubTreq(Daemon().doors.operators())
    for path, status in (("healthz", 200), ("readyz", 200), ("readyz?grant=1", 200)):
        assert result(client.get(f"http://rqdisco/{path}")).code == status


@pytest.mark.parametrize("name", sorted(RESERVED_IDS))
@ensureDeferred
async def test_no_id_can_have_the_name_of_something_of_the_service(door: Door, name: str) -> None:
    for path in (f"/{name}", f"/%{ord(name[0]):x}{name[1:]}"):
        answer = await door("POST", path, {"addr": "n1:4001"})
        assert answer.status in (404, 405), path
    assert (await door("PUT", f"/v1/kv/{name}/leader", LEADER)).status == 400
    assert (await door("PUT", f"/v1/kv/{name}/leader?cas=0", LEADER)).status == 400
    assert door.daemon.directory.size == 0


@ensureDeferred
async def test_an_id_that_had_such_a_name_before_can_still_be_read_by_consul_kv(door: Door) -> None:
    put = Put(value="{}", flags=0, node=Node(addr="n1:4001"))
    await Deferred.fromCoroutine(door.daemon.directory.report("healthz", put, None))
    assert (await door("GET", "/v1/kv/healthz/leader?raw")).body == b"{}"
    assert (await door("DELETE", "/v1/kv/healthz/leader")).status == 400
    assert (await door("GET", "/healthz")).json == {"alive": True, "wrong": []}
    assert (await door("GET", "/%68ealthz")).status == 404


@pytest.mark.parametrize("discovery_id", ["readyz-1", "health", "abc123"])
@ensureDeferred
async def test_ids_that_only_look_like_probes_are_ids(door: Door, discovery_id: str) -> None:
    assert (await door("PUT", f"/v1/kv/{discovery_id}/leader", LEADER)).body == b"true"
    answer = await door("GET", f"/{discovery_id}")
    assert (answer.status, answer.json["nodes"]) == (200, ["n1:4001"])


def test_probes_need_nothing_that_registering_nodes_wait_for() -> None:
    daemon = Daemon()
    discovery_id = mint(daemon)
    daemon.threads.hold = True
    waiting = register(daemon, discovery_id, "n1:4001")
    answer = result(StubTreq(daemon.doors.public()).get("http://rqdisco/readyz?grant=1"))
    assert answer.code == 200
    assert not waiting.called
    daemon.threads.release_all()
