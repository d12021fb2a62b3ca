"""IDs that are created by name, answer by answer."""

from __future__ import annotations

import re

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import gatherResults

from rqdisco.backends.limits import Limits
from tests.http.conftest import ApiClient

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


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
