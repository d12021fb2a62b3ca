"""The bodies of requests to the discovery API: refused ones, and odd ones that are read."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.http.conftest import MAX_BODY, ApiClient

A = "10.0.0.1:4001"
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
