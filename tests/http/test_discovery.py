"""The discovery API, answer by answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from rqdisco.backends.single.limits import Limits
from tests.http.conftest import MAX_BODY, Door

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
DOCUMENT = re.compile(
    rb'\{"created_at": "\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", "disco_id": "[0-9a-f-]{36}", "nodes": \[(.*)\]\}'
)


@ensureDeferred
async def test_minting_answers_200_with_an_id_and_no_nodes_as_the_original_did(door: Door) -> None:
    for body in (b"", b"x", b'{"addr": 5}'):
        answer = await door("POST", "/", body)
        assert (answer.status, answer.reason) == (200, "OK")
        assert DOCUMENT.fullmatch(answer.body)
        assert answer.json["nodes"] == []


@ensureDeferred
async def test_a_minted_id_is_a_uuid_of_version_8_that_begins_with_its_homes_tag(door: Door) -> None:
    ids = [await door.mint() for _ in range(8)]
    assert len(set(ids)) == 8
    for discovery_id in ids:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", discovery_id)
        assert discovery_id[:4] == door.daemon.owner[:4]


@ensureDeferred
async def test_every_answer_is_json_with_its_length_and_is_never_stored(door: Door) -> None:
    discovery_id = await door.mint()
    for method, path in (("POST", "/"), ("GET", "/"), ("GET", f"/{discovery_id}"), ("GET", "/x"), ("PUT", "/")):
        answer = await door(method, path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "location" not in answer.headers


@ensureDeferred
async def test_the_service_describes_itself_and_mints_nothing_by_that(door: Door) -> None:
    await door.mint()
    answer = await door("GET", "/")
    assert answer.json == {"name": "rqdisco", "version": "0", "uptime": 0, "ids": 1}
    head = await door("HEAD", "/")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))


@ensureDeferred
async def test_the_first_node_is_alone_and_the_others_get_the_list_in_order(door: Door) -> None:
    discovery_id = await door.mint()
    assert (await door("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A]
    second = await door("POST", f"/{discovery_id}", {"addr": B})
    assert second.json["nodes"] == [A, B]
    assert DOCUMENT.fullmatch(second.body)
    assert second.json["disco_id"] == discovery_id


@ensureDeferred
async def test_a_seed_whose_answer_was_lost_is_told_again_for_30_seconds(door: Door) -> None:
    discovery_id = await door.mint()
    await door("POST", f"/{discovery_id}", {"addr": A})
    await door("POST", f"/{discovery_id}", {"addr": B})
    door.daemon.clock.advance(29.9)
    assert (await door("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A]
    assert (await door("GET", f"/{discovery_id}")).json["nodes"] == [A, B]
    door.daemon.clock.advance(0.1)
    assert (await door("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A, B]


@ensureDeferred
async def test_what_is_known_of_a_node_comes_back_beside_the_plain_list(door: Door) -> None:
    discovery_id = await door.mint()
    await door("POST", f"/{discovery_id}", {"addr": A, "raft_addr": "10.0.0.1:4002", "node_id": "n1"})
    await door("POST", f"/{discovery_id}", {"addr": B, "raft_addr": None, "node_id": None})
    answer = await door("GET", f"/{discovery_id}")
    assert list(answer.json) == ["created_at", "disco_id", "nodes", "registrations"]
    assert answer.json["nodes"] == [A, B]
    assert answer.json["registrations"] == [
        {"addr": A, "raft_addr": "10.0.0.1:4002", "node_id": "n1"},
        {"addr": B},
    ]
    assert "registrations" not in (await door("POST", f"/{discovery_id}", {"addr": B})).json


@ensureDeferred
async def test_a_known_node_id_with_a_new_address_replaces_its_old_entry(door: Door) -> None:
    discovery_id = await door.mint()
    await door("POST", f"/{discovery_id}", {"addr": A, "node_id": "n1"})
    await door("POST", f"/{discovery_id}", {"addr": B})
    door.daemon.clock.advance(31)
    answer = await door("POST", f"/{discovery_id}", {"addr": "10.0.0.9:4001", "node_id": "n1"})
    assert answer.json["nodes"] == ["10.0.0.9:4001", B]


@ensureDeferred
@pytest.mark.parametrize("addr", ["http://10.0.0.1:4001", "h<>&:1", "ünï.example:1", 'q"uote\\:1', "[fdaa::1]:4001"])
async def test_an_address_comes_back_as_it_was_sent(door: Door, addr: str) -> None:
    discovery_id = await door.mint()
    assert (await door("POST", f"/{discovery_id}", {"addr": addr})).json["nodes"] == [addr]
    assert (await door("GET", f"/{discovery_id}")).json["nodes"] == [addr]


@ensureDeferred
async def test_removing_answers_the_rest_of_the_list_and_repeats_change_nothing(door: Door) -> None:
    discovery_id = await door.mint()
    await door("POST", f"/{discovery_id}", {"addr": A})
    await door("POST", f"/{discovery_id}", {"addr": B})
    for _ in range(2):
        assert (await door("DELETE", f"/{discovery_id}", {"addr": f"http://{A}"})).json["nodes"] == [B]
    assert (await door("DELETE", f"/{discovery_id}", {"addr": B})).json["nodes"] == []
    assert (await door("POST", f"/{discovery_id}", {"addr": B})).json["nodes"] == [B]


@ensureDeferred
@pytest.mark.parametrize("path", ["/{}", "//{}", "///{}", "/{}/", "/{}?x=1", "//{}//?", "/%62{}"])
async def test_doubled_and_trailing_slashes_queries_and_escapes_are_the_same_id(door: Door, path: str) -> None:
    discovery_id = await door.mint()
    path = path.replace("%62{}", f"%{ord(discovery_id[0]):x}{discovery_id[1:]}").format(discovery_id)
    answer = await door("POST", path, {"addr": A})
    assert (answer.status, answer.json["nodes"]) == (200, [A])


@ensureDeferred
@pytest.mark.parametrize("content_type", ["application-type/json", "application/x-www-form-urlencoded", "x"])
async def test_the_content_type_does_not_matter(door: Door, content_type: str) -> None:
    discovery_id = await door.mint()
    answer = await door("POST", f"/{discovery_id}", {"addr": A}, Content_Type=content_type)
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
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_an_id_that_does_not_exist_is_404_whatever_is_asked_of_it(
    door: Door, method: str, path: str, text: str | None
) -> None:
    answer = await door(method, path, b"not json")
    assert (answer.status, answer.reason) == (404, "no such discovery ID")
    assert text is None or answer.json == {"error": text}


# Not in memory: since Python 3.12.4 urlunparse, and so Twisted's client, makes four slashes of two.
@ensureDeferred
@pytest.mark.parametrize("door", ["port"], indirect=True)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_two_slashes_are_404(door: Door, method: str) -> None:
    answer = await door(method, "//", b"not json")
    assert (answer.status, answer.reason) == (404, "no such discovery ID")
    assert answer.json == {"error": "/ does not exist"}


@ensureDeferred
@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_405_with_those_there_are(door: Door, method: str) -> None:
    discovery_id = await door.mint()
    for path, allow in (("/", "GET, HEAD, POST"), (f"/{discovery_id}", "GET, HEAD, POST, DELETE")):
        answer = await door(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
        assert answer.json == {"error": f'unsupported method "{method}"'}
    assert (await door("DELETE", "/")).status == 405


@ensureDeferred
async def test_head_is_get_without_the_body(door: Door) -> None:
    discovery_id = await door.mint()
    got, head = await door("GET", f"/{discovery_id}"), await door("HEAD", f"/{discovery_id}")
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
    door: Door, body: bytes, error: str, reason: str
) -> None:
    discovery_id = await door.mint()
    await door("POST", f"/{discovery_id}", {"addr": A})
    methods = ("POST",) if b"raft_addr" in body or b"node_id" in body else ("POST", "DELETE")
    for method in methods:
        answer = await door(method, f"/{discovery_id}", body)
        assert (answer.status, answer.reason, answer.json) == (400, reason, {"error": error})
    assert (await door("GET", f"/{discovery_id}")).json["nodes"] == [A]


@ensureDeferred
@pytest.mark.parametrize("body", [body for body, _, _ in BAD_BODIES[::3]] + [b'{"addr": "a b"}', b"x" * (MAX_BODY + 1)])
async def test_that_an_id_does_not_exist_is_said_before_anything_about_the_body(door: Door, body: bytes) -> None:
    for method in ("POST", "DELETE"):
        assert (await door(method, "/unknown", body)).json == {"error": "unknown does not exist"}


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
async def test_what_we_do_not_know_in_a_body_is_ignored_and_the_last_of_two_keys_counts(
    door: Door, body: bytes
) -> None:
    discovery_id = await door.mint()
    answer = await door("POST", f"/{discovery_id}", body)
    assert (answer.status, answer.json["nodes"]) == (200, ["a:1"])


@ensureDeferred
async def test_a_body_over_the_limit_is_413_and_one_at_the_limit_is_read(door: Door) -> None:
    discovery_id = await door.mint()
    body = b'{"addr": "a:1"}'
    assert (await door("POST", f"/{discovery_id}", body.ljust(MAX_BODY))).status == 200
    for size in (MAX_BODY + 1, 300_000):
        answer = await door("POST", f"/{discovery_id}", body.ljust(size))
        assert (answer.status, answer.json) == (413, {"error": "request body too large"})
        assert answer.reason == "request body too large"


@ensureDeferred
async def test_a_full_disk_is_503_with_a_reason_while_lists_are_still_served(door: Door) -> None:
    discovery_id = await door.mint()
    await door("POST", f"/{discovery_id}", {"addr": A})
    door.daemon.disk.room = 0
    for method, path in (("POST", "/"), ("POST", f"/{discovery_id}"), ("DELETE", f"/{discovery_id}")):
        answer = await door(method, path, {"addr": A if method == "DELETE" else B})
        assert (answer.status, answer.reason) == (503, "store unavailable: no space left on device")
        assert answer.json == {"error": "store unavailable", "reason": "no space left on device"}
        assert int(answer.headers["retry-after"]) > 0
    assert (await door("GET", f"/{discovery_id}")).json["nodes"] == [A]


@ensureDeferred
async def test_a_doubtful_address_is_registered_all_the_same(door: Door) -> None:
    discovery_id = await door.mint()
    for addr in ("0.0.0.0:4001", "no-port", "h:0", "h:1/path"):
        assert (await door("POST", f"/{discovery_id}", {"addr": addr})).json["nodes"][-1] == addr


@ensureDeferred
async def test_a_path_below_an_id_is_not_the_id(door: Door) -> None:
    discovery_id = await door.mint()
    for path in (f"/x/{discovery_id}", f"/{discovery_id}/x", f"/{discovery_id}%2Fx"):
        assert (await door("GET", path)).status == 404


@ensureDeferred
async def test_an_id_whose_home_is_lost_tells_nobody_that_it_is_alone(door: Door) -> None:
    discovery_id = await door.mint()
    door.daemon.directory._records.owner = "another"
    answer = await door("POST", f"/{discovery_id}", {"addr": A})
    assert (answer.status, answer.reason) == (410, "lost its home, mint a new ID")


class TestStrictly:
    """Where addresses are checked strictly."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"strict": True}

    @ensureDeferred
    async def test_an_address_that_cannot_be_reached_is_refused(self, door: Door) -> None:
        discovery_id = await door.mint()
        for addr, reason, error in (
            ("0.0.0.0:4001", "loopback address, set -http-adv-addr", "loopback address, set -http-adv-addr"),
            ("h:70000", "invalid address", "invalid address: port out of range"),
            ("opaque", "invalid address", "invalid address: not host:port"),
        ):
            answer = await door("POST", f"/{discovery_id}", {"addr": addr})
            assert (answer.status, answer.reason, answer.json) == (400, reason, {"error": error})
        assert (await door("POST", f"/{discovery_id}", {"addr": A})).json["nodes"] == [A]


class TestLimits:
    """What an operator allows."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"limits": Limits(max_ids=1, max_nodes=2)}

    @ensureDeferred
    async def test_one_node_or_id_too_many_is_refused(self, door: Door) -> None:
        discovery_id = await door.mint()
        await door("POST", f"/{discovery_id}", {"addr": A})
        await door("POST", f"/{discovery_id}", {"addr": B})
        answer = await door("POST", f"/{discovery_id}", {"addr": "c:1"})
        assert (answer.status, answer.reason) == (409, "too many nodes")
        assert answer.json == {"error": f"too many nodes for {discovery_id}"}
        mint = await door("POST", "/")
        assert (mint.status, mint.json) == (503, {"error": "too many discovery IDs"})
