"""The discovery API, answer by answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from rqdisco.backends.limits import Limits
from tests.http.conftest import ApiClient
from tests.support.daemon import transferred

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
DOCUMENT = re.compile(
    rb'\{"created_at": "\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", "disco_id": "[0-9a-f-]{36}", "nodes": \[(.*)\]\}'
)


@ensureDeferred
async def test_creation_answers_200_with_an_id_and_no_nodes_as_the_original_did(api: ApiClient) -> None:
    for body in (b"", b"x", b'{"addr": 5}'):
        answer = await api("POST", "/", body)
        assert (answer.status, answer.reason) == (200, "OK")
        assert DOCUMENT.fullmatch(answer.body)
        assert answer.json["nodes"] == []


@ensureDeferred
async def test_a_created_id_is_a_uuid_of_version_8_that_begins_with_its_owners_tag(api: ApiClient) -> None:
    ids = [await api.create_id() for _ in range(8)]
    assert len(set(ids)) == 8
    for discovery_id in ids:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", discovery_id)
        assert discovery_id[:4] == api.daemon.owner[:4]


@ensureDeferred
async def test_every_answer_is_json_with_its_length_and_is_never_cached(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    for method, path in (("POST", "/"), ("GET", "/"), ("GET", f"/{discovery_id}"), ("GET", "/x"), ("PUT", "/")):
        answer = await api(method, path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "location" not in answer.headers


@ensureDeferred
async def test_the_service_describes_itself_and_creates_nothing_by_that(api: ApiClient) -> None:
    await api.create_id()
    api.daemon.recount()
    answer = await api("GET", "/")
    assert answer.json == {"name": "rqdisco", "version": "0", "uptime": 0, "ids": 1}
    head = await api("HEAD", "/")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))


@ensureDeferred
async def test_the_first_node_is_alone_and_the_others_get_the_list_in_order(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    assert (await api("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A]
    second = await api("POST", f"/{discovery_id}", {"addr": B})
    assert second.json["nodes"] == [A, B]
    assert DOCUMENT.fullmatch(second.body)
    assert second.json["disco_id"] == discovery_id


@ensureDeferred
async def test_a_seed_whose_answer_was_lost_is_granted_again_for_30_seconds(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A})
    await api("POST", f"/{discovery_id}", {"addr": B})
    api.daemon.clock.advance(29.9)
    assert (await api("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A]
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [A, B]
    api.daemon.clock.advance(0.1)
    assert (await api("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A, B]


@ensureDeferred
async def test_node_details_come_back_beside_the_plain_list(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A, "raft_addr": "10.0.0.1:4002", "node_id": "n1"})
    await api("POST", f"/{discovery_id}", {"addr": B, "raft_addr": None, "node_id": None})
    answer = await api("GET", f"/{discovery_id}")
    assert list(answer.json) == ["created_at", "disco_id", "nodes", "registrations", "health", "warnings"]
    assert answer.json["nodes"] == [A, B]
    assert answer.json["registrations"] == [
        {"addr": A, "raft_addr": "10.0.0.1:4002", "node_id": "n1"},
        {"addr": B},
    ]
    assert "registrations" not in (await api("POST", f"/{discovery_id}", {"addr": B})).json


@ensureDeferred
async def test_a_known_node_id_with_a_new_address_replaces_its_old_entry(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A, "node_id": "n1"})
    await api("POST", f"/{discovery_id}", {"addr": B})
    api.daemon.clock.advance(31)
    answer = await api("POST", f"/{discovery_id}", {"addr": "10.0.0.9:4001", "node_id": "n1"})
    assert answer.json["nodes"] == ["10.0.0.9:4001", B]


@ensureDeferred
@pytest.mark.parametrize("addr", ["http://10.0.0.1:4001", "h<>&:1", "ünï.example:1", 'q"uote\\:1', "[fdaa::1]:4001"])
async def test_an_address_comes_back_as_it_was_sent(api: ApiClient, addr: str) -> None:
    discovery_id = await api.create_id()
    assert (await api("POST", f"/{discovery_id}", {"addr": addr})).json["nodes"] == [addr]
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [addr]


@ensureDeferred
async def test_removing_answers_the_remaining_list_and_repeats_change_nothing(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A})
    await api("POST", f"/{discovery_id}", {"addr": B})
    for _ in range(2):
        assert (await api("DELETE", f"/{discovery_id}", {"addr": f"http://{A}"})).json["nodes"] == [B]
    assert (await api("DELETE", f"/{discovery_id}", {"addr": B})).json["nodes"] == []
    assert (await api("POST", f"/{discovery_id}", {"addr": B})).json["nodes"] == [B]


@ensureDeferred
@pytest.mark.parametrize("path", ["/{}", "//{}", "///{}", "/{}/", "/{}?x=1", "//{}//?", "/%62{}"])
async def test_doubled_and_trailing_slashes_queries_and_escapes_are_the_same_id(api: ApiClient, path: str) -> None:
    discovery_id = await api.create_id()
    path = path.replace("%62{}", f"%{ord(discovery_id[0]):x}{discovery_id[1:]}").format(discovery_id)
    answer = await api("POST", path, {"addr": A})
    assert (answer.status, answer.json["nodes"]) == (200, [A])


@ensureDeferred
@pytest.mark.parametrize("content_type", ["application-type/json", "application/x-www-form-urlencoded", "x"])
async def test_the_content_type_does_not_matter(api: ApiClient, content_type: str) -> None:
    discovery_id = await api.create_id()
    answer = await api("POST", f"/{discovery_id}", {"addr": A}, Content_Type=content_type)
    assert (answer.status, answer.json["nodes"]) == (200, [A])


@ensureDeferred
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/unknown", "unknown does not exist"),
        ("/" + "x" * 65, "x" * 64 + " does not exist"),
        ("/a~b", "a~b does not exist"),
        ("/a/b", "a/b does not exist"),
        ("/./..", None),
        ("/%2e%2e", ".. does not exist"),
        ("/%2e", ". does not exist"),
        ("/%00", "\x00 does not exist"),
        ("/%ff", None),
        ("/caf%c3%a9", "café does not exist"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_id_is_404_for_every_request(api: ApiClient, method: str, path: str, text: str | None) -> None:
    answer = await api(method, path, b"not json")
    assert (answer.status, answer.reason) == (404, "no such discovery ID")
    assert text is None or answer.json == {"error": text}


# Not in memory: since Python 3.12.4 urlunparse, and so Twisted's client, makes four slashes of two.
@ensureDeferred
@pytest.mark.parametrize("api", ["port"], indirect=True)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_two_slashes_are_404(api: ApiClient, method: str) -> None:
    answer = await api(method, "//", b"not json")
    assert (answer.status, answer.reason) == (404, "no such discovery ID")
    assert answer.json == {"error": "/ does not exist"}


@ensureDeferred
@pytest.mark.parametrize("method", ["PATCH", "TRACE"])
async def test_other_methods_are_405_with_the_allowed_methods(api: ApiClient, method: str) -> None:
    discovery_id = await api.create_id()
    for path, allow in (("/", "GET, HEAD, POST"), (f"/{discovery_id}", "GET, HEAD, POST, PUT, DELETE")):
        answer = await api(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
        assert answer.json == {"error": f'unsupported method "{method}"'}
    assert (await api("DELETE", "/")).status == (await api("PUT", "/")).status == 405


@ensureDeferred
async def test_head_is_get_without_the_body(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    got, head = await api("GET", f"/{discovery_id}"), await api("HEAD", f"/{discovery_id}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(got.body))


@ensureDeferred
async def test_a_full_store_is_503_with_a_reason_while_lists_are_still_served(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A})
    why = api.daemon.fill()
    for method, path in (("POST", "/"), ("POST", f"/{discovery_id}"), ("DELETE", f"/{discovery_id}")):
        answer = await api(method, path, {"addr": A if method == "DELETE" else B})
        assert (answer.status, answer.reason) == (503, f"store unavailable: {why}")
        assert answer.json == {"error": "store unavailable", "reason": why}
        assert int(answer.headers["retry-after"]) > 0
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [A]


@ensureDeferred
async def test_a_doubtful_address_is_registered_all_the_same(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    for addr in ("0.0.0.0:4001", "no-port", "h:0", "h:1/path"):
        assert (await api("POST", f"/{discovery_id}", {"addr": addr})).json["nodes"][-1] == addr


@ensureDeferred
async def test_a_path_below_an_id_is_not_the_id(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    for path in (f"/x/{discovery_id}", f"/{discovery_id}/x", f"/{discovery_id}%2Fx"):
        assert (await api("GET", path)).status == 404


@ensureDeferred
async def test_an_ownerless_id_bootstraps_nobody(api: ApiClient) -> None:
    discovery_id = "0a5306d9-5842-851c-a00f-72fe57b0eb16"
    await Deferred.fromCoroutine(
        api.daemon.directory.adopt(transferred(discovery_id, owner="0a5306d958428511"), as_own=False)
    )
    answer = await api("POST", f"/{discovery_id}", {"addr": A})
    assert (answer.status, answer.reason) == (410, "no owner, create a new ID")


class TestStrictly:
    """With strict address checks."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"strict": True}

    @ensureDeferred
    async def test_an_address_that_cannot_be_reached_is_refused(self, api: ApiClient) -> None:
        discovery_id = await api.create_id()
        for addr, reason, error in (
            ("0.0.0.0:4001", "loopback address, set -http-adv-addr", "loopback address, set -http-adv-addr"),
            ("h:70000", "invalid address", "invalid address: port out of range"),
            ("opaque", "invalid address", "invalid address: not host:port"),
        ):
            answer = await api("POST", f"/{discovery_id}", {"addr": addr})
            assert (answer.status, answer.reason, answer.json) == (400, reason, {"error": error})
        assert (await api("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A]


class TestLimits:
    """With an operator's limits."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"limits": Limits(max_ids=1, max_nodes=2)}

    @ensureDeferred
    async def test_one_node_or_id_too_many_is_refused(self, api: ApiClient) -> None:
        discovery_id = await api.create_id()
        await api("POST", f"/{discovery_id}", {"addr": A})
        await api("POST", f"/{discovery_id}", {"addr": B})
        answer = await api("POST", f"/{discovery_id}", {"addr": "c:1"})
        assert (answer.status, answer.reason) == (409, "too many nodes")
        assert answer.json == {"error": f"too many nodes for {discovery_id}"}
        api.daemon.recount()
        create_id = await api("POST", "/")
        assert (create_id.status, create_id.json) == (503, {"error": "too many discovery IDs"})
