"""The health of one daemon, for load balancers and supervisors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from rqdisco.core.ids import RESERVED_IDS
from rqdisco.core.records import Node, Put
from tests.http.conftest import ApiClient
from tests.support.daemon import Daemon, create_id, register, result
from tests.support.guarded import Guarded
from tests.support.in_memory_http import InMemoryClient

LEADER = {"id": "1", "api_addr": "http://n1:4001", "addr": "n1:4002"}
WELL = {"ready": True, "wrong": [], "notes": []}


@pytest.mark.parametrize("path", ["/healthz", "//healthz", "/healthz/", "/healthz?x=1"])
@ensureDeferred
async def test_a_running_process_is_alive(api: ApiClient, path: str) -> None:
    answer = await api("GET", path)
    assert (answer.status, answer.json) == (200, {"alive": True, "wrong": []})
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/readyz", "/readyz?grant=1", "/readyz?grant", "//readyz//"])
@ensureDeferred
async def test_a_single_daemon_is_ready_as_soon_as_it_listens(api: ApiClient, path: str) -> None:
    answer = await api("GET", path)
    assert (answer.status, answer.json) == (200, WELL)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?grant=1"])
@ensureDeferred
async def test_a_probe_may_use_head(api: ApiClient, path: str) -> None:
    head, whole = await api("HEAD", path), await api("GET", path)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(whole.body)
    api.daemon.health.stop()
    assert (await api("HEAD", path)).status == (200 if path == "/healthz" else 503)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@ensureDeferred
async def test_a_probe_can_only_be_read(api: ApiClient, path: str, method: str) -> None:
    answer = await api(method, path, {"addr": "n1:4001"})
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    why = f": {path[1:]} is reserved, choose another name" if method == "PUT" else ""
    assert answer.json == {"error": f'unsupported method "{method}"{why}'}


@ensureDeferred
async def test_a_daemon_that_stops_is_alive_and_not_ready(api: ApiClient) -> None:
    api.daemon.health.stop()
    assert (await api("GET", "/healthz")).status == 200
    for path in ("/readyz", "/readyz?grant=1"):
        answer = await api("GET", path)
        assert (answer.status, answer.reason) == (503, "not ready")
        assert answer.json == {"ready": False, "wrong": ["the daemon is stopping"], "notes": []}


@ensureDeferred
async def test_a_full_disk_stops_grants_but_not_lists_until_there_is_room(stored_api: ApiClient) -> None:
    api = stored_api
    api.daemon.disk.room = 0
    assert (await api("POST", "/")).status == 503
    full = "nothing can be written: no space left on device"
    answer = await api("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True, "wrong": [], "notes": [full]})
    answer = await api("GET", "/readyz?grant=1")
    assert (answer.status, answer.json) == (503, {"ready": False, "wrong": [full], "notes": []})
    api.daemon.disk.room = None
    assert (await api("POST", "/")).status == 200
    assert (await api("GET", "/readyz?grant=1")).json == WELL


def test_the_operator_socket_answers_probes_too() -> None:
    client = InMemoryClient(Daemon().apis.operators())
    for path, status in (("healthz", 200), ("readyz", 200), ("readyz?grant=1", 200)):
        assert result(client.get(f"http://rqdisco/{path}")).code == status


@pytest.mark.parametrize("name", sorted(RESERVED_IDS))
@ensureDeferred
async def test_no_id_can_have_a_reserved_name(api: ApiClient, name: str) -> None:
    for path in (f"/{name}", f"/%{ord(name[0]):x}{name[1:]}"):
        answer = await api("POST", path, {"addr": "n1:4001"})
        assert answer.status in (404, 405), path
    assert (await api("PUT", f"/v1/kv/{name}/leader", LEADER)).status == 400
    assert (await api("PUT", f"/v1/kv/{name}/leader?cas=0", LEADER)).status == 400
    assert api.daemon.size == 0


@ensureDeferred
async def test_an_older_id_with_a_reserved_name_can_still_be_read_by_consul_kv(api: ApiClient) -> None:
    put = Put(value="{}", flags=0, node=Node(addr="n1:4001"))
    await Deferred.fromCoroutine(api.daemon.directory.report("healthz", put, None))
    assert (await api("GET", "/v1/kv/healthz/leader?raw")).body == b"{}"
    assert (await api("DELETE", "/v1/kv/healthz/leader")).status == 400
    assert (await api("GET", "/healthz")).json == {"alive": True, "wrong": []}
    assert (await api("GET", "/%68ealthz")).status == 404


@pytest.mark.parametrize("discovery_id", ["readyz-1", "health", "abc123"])
@ensureDeferred
async def test_ids_that_only_look_like_probes_are_ids(api: ApiClient, discovery_id: str) -> None:
    assert (await api("PUT", f"/v1/kv/{discovery_id}/leader", LEADER)).body == b"true"
    answer = await api("GET", f"/{discovery_id}")
    assert (answer.status, answer.json["nodes"]) == (200, ["n1:4001"])


def test_probes_need_nothing_that_registering_nodes_wait_for() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    waiting = register(daemon, discovery_id, "n1:4001")
    answer = result(InMemoryClient(daemon.apis.public()).get("http://rqdisco/readyz?grant=1"))
    assert answer.code == 200
    assert not waiting.called
    daemon.threads.release_all()


def test_the_problems_of_a_daemon_are_shown_to_admins_only() -> None:
    guarded = Guarded()
    guarded.daemon.disk.room = 0
    guarded.ask("POST", "/", None, "mint")
    full = "nothing can be written: no space left on device"
    for path, status in (("/readyz", 200), ("/readyz?grant=1", 503)):
        for token in (None, "wrong", "mint", "read", "write", "read-here"):
            assert _probe(guarded, path, token) == (status, {"ready": status == 200}), "and a probe is never refused"
        admin_status, body = _probe(guarded, path, "admin")
        assert (admin_status, body["wrong"] + body["notes"]) == (status, [full])
        # The operator is whoever may open the operator socket.
        assert _probe(guarded, path, None, operators=True) == (status, body)


def _probe(guarded: Guarded, path: str, token: str | None, *, operators: bool = False) -> tuple[int, Any]:
    status, _, _, body = guarded.ask("GET", path, None, token, operators=operators)
    return status, json.loads(body)
