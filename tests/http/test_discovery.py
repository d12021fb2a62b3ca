"""The discovery API, answer by answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from rqdisco.backends.limits import Limits
from tests.http.conftest import MAX_BODY, ApiClient
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


BAD_BODIES: list[tuple[bytes, str, str]] = [
    *(
        (body, "bad request body", "bad request body")
        for body in (
            b"",
            b"x",
            b"[]",
            b'"s"',
            b"5",
            b"null",
            b'{"addr": "a:1"',
            b'{"addr": "\xff"}',
            b'{"addr": "a:1", "x": "\xff"}',
            b'{"addr": "a:1"} x',
            b'{"addr": "a:1", "x": NaN}',
            b'\xef\xbb\xbf{"addr": "a:1"}',
            '{"addr": "a:1"}'.encode("utf-16"),
            b'{"addr": ' + b"[" * 900 + b"]" * 900 + b"}" + b" " * 10 + b"]",
            b"[" * 1900,
        )
    ),
    *((body, "address not specified", "address not specified") for body in (b"{}", b'{"Addr": "a:1"}', b'{"x": {}}')),
    *(
        (b'{"addr": %b}' % value, f"invalid address: {why}", "invalid address")
        for value, why in (
            (b"null", "not a string"),
            (b"5", "not a string"),
            (b"1e999", "not a string"),
            (b'["a:1"]', "not a string"),
            (b'""', "empty"),
            (b'"%b"' % (b"a" * 261), "longer than 260 bytes"),
            (b'"a b:1"', "contains white space"),
            (b'"a\\n:1"', "contains white space"),
            (b'"a\\u0000:1"', "contains a control character"),
            (b'"a\\ud800:1"', "not valid Unicode"),
        )
    ),
    (b'{"addr": "a:1", "raft_addr": ""}', "invalid raft_addr: empty", "invalid raft_addr"),
    (b'{"addr": "a:1", "raft_addr": 5}', "invalid raft_addr: not a string", "invalid raft_addr"),
    (b'{"addr": "a:1", "node_id": "a b"}', "invalid node_id: contains white space", "invalid node_id"),
]


@ensureDeferred
@pytest.mark.parametrize(("body", "error", "reason"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_a_bad_body_is_400_with_the_reason_and_changes_nothing(
    api: ApiClient, body: bytes, error: str, reason: str
) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A})
    methods = ("POST",) if b"raft_addr" in body or b"node_id" in body else ("POST", "DELETE")
    for method in methods:
        answer = await api(method, f"/{discovery_id}", body)
        assert (answer.status, answer.reason, answer.json) == (400, reason, {"error": error})
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [A]


@ensureDeferred
@pytest.mark.parametrize("body", [body for body, _, _ in BAD_BODIES[::3]] + [b'{"addr": "a b"}', b"x" * (MAX_BODY + 1)])
async def test_an_unknown_id_is_reported_before_any_error_in_the_body(api: ApiClient, body: bytes) -> None:
    for method in ("POST", "DELETE"):
        assert (await api(method, "/unknown", body)).json == {"error": "unknown does not exist"}


@ensureDeferred
@pytest.mark.parametrize(
    "body",
    [
        b'{"addr": "a:1", "x": 1e999}',
        b'{"addr": "a:1", "x": "\\ud800"}',
        b'{"addr": "no:1", "addr": "a:1"}',
        b' \n{"addr":"a:1","nested":{"deep":[1,2,{}]}} ',
        b'{"addr": "a\\u003a1"}',
    ],
)
async def test_unknown_members_of_a_body_are_ignored_and_the_last_of_two_keys_counts(
    api: ApiClient, body: bytes
) -> None:
    discovery_id = await api.create_id()
    answer = await api("POST", f"/{discovery_id}", body)
    assert (answer.status, answer.json["nodes"]) == (200, ["a:1"])


@ensureDeferred
async def test_a_body_over_the_limit_is_413_and_one_at_the_limit_is_read(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    body = b'{"addr": "a:1"}'
    assert (await api("POST", f"/{discovery_id}", body.ljust(MAX_BODY))).status == 200
    for size in (MAX_BODY + 1, 300_000):
        answer = await api("POST", f"/{discovery_id}", body.ljust(size))
        assert (answer.status, answer.json) == (413, {"error": "request body too large"})
        assert answer.reason == "request body too large"


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


@ensureDeferred
async def test_a_name_is_created_once_and_then_behaves_like_any_other_id(api: ApiClient) -> None:
    created = await api("PUT", "/orders", b"ignored")
    assert (created.status, created.reason) == (201, "Created")
    assert re.fullmatch(rb'\{"created_at": "[^"]+", "disco_id": "orders", "nodes": \[\]\}', created.body)
    refused = await api("PUT", "//%6frders/?x=1")
    assert (refused.status, refused.reason) == (409, "exists already")
    assert refused.json == {"error": "orders exists already"}
    assert (await api("POST", "/orders", {"addr": A})).json["nodes"] == [A]
    assert (await api("POST", "/orders", {"addr": B})).json["nodes"] == [A, B]
    assert (await api("PUT", "/orders")).status == 409


@ensureDeferred
async def test_the_first_claim_under_a_created_name_wins_and_a_claimed_key_is_no_free_name(api: ApiClient) -> None:
    claims = [{"id": f"n{number}", "addr": f"10.0.0.{number}:4002"} for number in (1, 2)]
    assert (await api("PUT", "/orders")).status == 201
    assert [(await api("PUT", "/v1/kv/orders/leader?cas=0", each)).body for each in claims] == [b"true", b"false"]
    assert (await api("PUT", "/v1/kv/invoices/leader?cas=0", claims[0])).body == b"true"
    assert (await api("PUT", "/invoices")).status == 409


@ensureDeferred
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/v1", "reserved for the service's own paths"),
        ("/operator", "reserved for the service's own paths"),
        ("/Status", "reserved for the service's own paths"),
        ("/9af5306d-5842-851c-a00f-72fe57b0eb16", "it has the form of the IDs that daemons make up"),
        ("/9AF5306D5842851CA00F72FE57B0EB16", "it has the form of the IDs that daemons make up"),
        (f"/{'x' * 65}", "use up to 64 letters, digits, dots, '-' and '_'"),
        ("/a%20b", "use up to 64 letters, digits, dots, '-' and '_'"),
        ("/caf%c3%a9", "use up to 64 letters, digits, dots, '-' and '_'"),
        ("/a/b", "use up to 64 letters, digits, dots, '-' and '_'"),
    ],
)
async def test_a_name_that_no_id_may_have_is_refused_with_the_reason(api: ApiClient, path: str, why: str) -> None:
    answer = await api("PUT", path)
    assert (answer.status, answer.reason, answer.json) == (400, "invalid name", {"error": f"invalid name: {why}"})


@ensureDeferred
async def test_a_path_of_the_service_cannot_be_a_name_and_the_answer_says_so(api: ApiClient) -> None:
    answer = await api("PUT", "/status")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json == {"error": 'unsupported method "PUT": status is reserved, choose another name'}


@ensureDeferred
async def test_of_concurrent_creations_of_a_name_one_succeeds(api: ApiClient) -> None:
    answers = await gatherResults([api("PUT", "/orders") for _ in range(5)])
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]


@ensureDeferred
async def test_a_name_that_the_store_refused_is_still_free(api: ApiClient) -> None:
    why = api.daemon.fill()
    refused = await api("PUT", "/orders")
    assert (refused.status, refused.json) == (503, {"error": "store unavailable", "reason": why})
    assert (await api("GET", "/orders")).status == 404
    api.daemon.empty()
    assert (await api("PUT", "/orders")).status == 201


@ensureDeferred
@pytest.mark.parametrize("options", [{"limits": Limits(create_named=False)}])
async def test_where_nodes_may_not_create_keys_an_operator_creates_them(api: ApiClient) -> None:
    claim = {"id": "n1", "addr": "10.0.0.1:4002"}
    assert (await api("PUT", "/v1/kv/orders/leader?cas=0", claim)).status == 403
    assert (await api("PUT", "/orders")).status == 201
    assert (await api("PUT", "/v1/kv/orders/leader?cas=0", claim)).body == b"true"
