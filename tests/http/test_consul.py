"""The consul-kv API: what rqlite 7-10 and Consul's own clients send, and what they get."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import gatherResults

from rqdisco.backends.limits import Limits
from tests.http.conftest import MAX_BODY, Answer, ApiClient
from tests.support.daemon import Daemon
from tests.support.in_memory_http import InMemoryClient

KEY = "/v1/kv/rqlite/leader"
VALUE = b'{"id":"1","api_addr":"http://h:1","addr":"h:2"}'
OTHER = b'{"id":"2","api_addr":"http://i:1","addr":"i:2"}'


def assert_consul(answer: Answer) -> None:
    """Assert what holds for every answer."""
    assert int(answer.headers["x-consul-index"]) > 0
    assert answer.headers["x-consul-knownleader"] == "true"
    assert answer.headers["x-consul-lastcontact"] == "0"
    assert answer.headers["cache-control"] == "no-store"


def assert_refused(answer: Answer, status: int, text: str) -> None:
    """Assert that the body is one line of plain text, which rqlited logs."""
    assert (answer.status, answer.body.decode()) == (status, text)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.reason.isprintable()
    assert answer.reason
    assert_consul(answer)


@ensureDeferred
async def test_nobody_leads_before_the_first_claim(api: ApiClient) -> None:
    answer = await api("GET", KEY)
    assert (answer.status, answer.body) == (404, b"")
    assert_consul(answer)


@ensureDeferred
async def test_a_claim_is_won_once_and_read_back_as_consul_gives_it(api: ApiClient) -> None:
    won, lost = await api("PUT", f"{KEY}?cas=0", VALUE), await api("PUT", f"{KEY}?cas=0", OTHER)
    assert [(won.status, won.body), (lost.status, lost.body)] == [(200, b"true"), (200, b"false")]
    answer = await api("GET", KEY)
    assert (answer.status, answer.body) == (404, b""), "its leader has not reported itself"
    assert_consul(answer)
    assert (await api("PUT", KEY, VALUE)).body == b"true"
    answer = await api("GET", KEY)
    (entry,) = answer.json
    assert list(entry) == ["LockIndex", "Key", "Flags", "Value", "CreateIndex", "ModifyIndex"]
    assert (entry["LockIndex"], entry["Key"], entry["Flags"]) == (0, "rqlite/leader", 0)
    assert b64decode(entry["Value"]) == VALUE
    assert entry["ModifyIndex"] > entry["CreateIndex"] > 0
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["x-consul-index"]) >= entry["ModifyIndex"]
    assert_consul(answer)


@ensureDeferred
async def test_one_of_many_concurrent_claims_is_won(api: ApiClient) -> None:
    values = [{"id": f"{number}", "addr": f"h{number}:2"} for number in range(20)]
    answers = await gatherResults([api("PUT", f"{KEY}?cas=0", value) for value in values])
    assert sorted(answer.body for answer in answers) == [b"false"] * 19 + [b"true"]


@ensureDeferred
async def test_a_node_that_claims_again_wins_again_until_it_reports_itself(api: ApiClient) -> None:
    answers = await gatherResults([api("PUT", f"{KEY}?cas=0", VALUE) for _ in range(5)])
    assert [answer.body for answer in answers] == [b"true"] * 5
    assert (await api("GET", "/rqlite")).json["claim"]["answered"] == 5
    assert (await api("PUT", KEY, VALUE)).body == b"true"
    assert (await api("PUT", f"{KEY}?cas=0", VALUE)).body == b"false"
    assert "claim" not in (await api("GET", "/rqlite")).json


@ensureDeferred
async def test_a_claim_through_a_proxy_that_hides_the_client_host_wins_again_after_30_seconds(api: ApiClient) -> None:
    for header in ("Via", "Forwarded", "X_Forwarded_For", "X_Real_IP"):
        key = f"/v1/kv/{header}/leader?cas=0"
        assert (await api("PUT", key, VALUE)).body == b"true"
        api.daemon.clock.advance(29.5)
        assert (await api("PUT", key, VALUE, **{header: "10.0.0.9"})).body == b"false"
        api.daemon.clock.advance(api.daemon.claim_window - 29.5)
        assert (await api("PUT", key, VALUE, **{header: "10.0.0.9"})).body == b"true"
        assert (await api("PUT", key, VALUE)).body == b"false", "the window runs from the last answer"


@ensureDeferred
async def test_old_nodes_are_told_to_retry_while_a_claim_awaits_its_leader(api: ApiClient) -> None:
    await api("PUT", f"{KEY}?cas=0", VALUE)
    answer = await api("POST", "/rqlite", {"addr": "j:1"})
    assert (answer.status, answer.reason) == (503, "a claim awaits its owner's first report")
    assert answer.json == {"error": "a claim awaits its owner's first report"}
    assert answer.headers["retry-after"] == "5"
    await api("PUT", KEY, VALUE)
    assert (await api("POST", "/rqlite", {"addr": "j:1"})).json["nodes"] == ["h:1", "j:1"]


@ensureDeferred
async def test_a_document_shows_a_claim_and_not_who_made_it(api: ApiClient) -> None:
    await api("PUT", f"{KEY}?cas=0", VALUE)
    document = (await api("GET", "/rqlite")).json
    assert (document["nodes"], document["registrations"]) == ([], [])
    assert document["claim"] == {"since": "2026-11-18T11:06:40Z", "answered": 1}
    assert "leader" not in document


@ensureDeferred
async def test_deleting_the_key_ends_a_claim_and_the_next_one_wins(api: ApiClient, log: Any) -> None:
    await api("PUT", f"{KEY}?cas=0", VALUE)
    assert (await api("DELETE", f"{KEY}?cas=1")).body == b"false"
    assert (await api("DELETE", KEY)).body == b"true"
    (warning,) = [event["log_format"] for event in log if event["log_level"].name == "warn"]
    assert warning == "claim ended: the next to claim or to register is told to bootstrap"
    assert (await api("PUT", f"{KEY}?cas=0", OTHER)).body == b"true"
    assert (await api("PUT", f"{KEY}?cas=0", VALUE)).body == b"false"


@ensureDeferred
async def test_a_key_created_by_a_daemon_that_lost_it_cannot_be_claimed(api: ApiClient) -> None:
    created = "0a5306d9-5842-851c-a00f-72fe57b0eb16"
    why = f"discovery ID {created} was created by a daemon that no longer knows it, create a new one"
    assert_refused(await api("PUT", f"/v1/kv/{created}/leader?cas=0", VALUE), 404, why)
    assert (await api("PUT", f"/v1/kv/{created}/leader", VALUE)).body == b"true", "a leader's cluster exists"
    assert (await api("GET", f"/{created}")).json["orphaned"]


@ensureDeferred
async def test_raw_gives_the_value_as_it_was_put(api: ApiClient) -> None:
    await api("PUT", KEY, VALUE)
    answer = await api("GET", f"{KEY}?raw")
    assert (answer.status, answer.body) == (200, VALUE)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await api("HEAD", KEY)).status == 200


@ensureDeferred
async def test_a_leader_that_reports_itself_is_registered_and_marked(api: ApiClient) -> None:
    await api("PUT", KEY, VALUE)
    document = (await api("GET", "/rqlite")).json
    assert document["nodes"] == ["h:1"]
    assert document["registrations"] == [{"addr": "h:1", "raft_addr": "h:2", "node_id": "1", "leader": True}]
    assert document["leader"]["reported"]
    assert document["leader"]["addr"] == "h:2"


@ensureDeferred
async def test_a_swap_needs_the_index_and_raises_it(api: ApiClient) -> None:
    await api("PUT", f"{KEY}?cas=0&flags=41", VALUE)
    await api("PUT", f"{KEY}?flags=42", VALUE)
    (first,) = (await api("GET", KEY)).json
    assert first["Flags"] == 42
    assert (await api("PUT", f"{KEY}?cas={first['ModifyIndex'] + 1}", OTHER)).body == b"false"
    assert (await api("PUT", f"{KEY}?cas={first['ModifyIndex']}", OTHER)).body == b"true"
    (second,) = (await api("GET", KEY)).json
    assert second["ModifyIndex"] > first["ModifyIndex"] > second["CreateIndex"] == first["CreateIndex"]


@ensureDeferred
async def test_every_put_raises_the_index_where_that_costs_little(stored_api: ApiClient) -> None:
    indexes = []
    for _ in range(2):
        assert (await stored_api("PUT", KEY, VALUE)).body == b"true"
        indexes.append((await stored_api("GET", KEY)).json[0]["ModifyIndex"])
    assert indexes[0] < indexes[1]


@ensureDeferred
async def test_the_key_can_be_deleted_and_the_nodes_stay(api: ApiClient) -> None:
    await api("PUT", KEY, VALUE)
    (entry,) = (await api("GET", KEY)).json
    assert (await api("DELETE", f"{KEY}?cas={entry['ModifyIndex'] - 1}")).body == b"false"
    assert (await api("DELETE", f"{KEY}?cas={entry['ModifyIndex']}")).body == b"true"
    assert (await api("GET", KEY)).status == 404
    assert (await api("DELETE", KEY)).body == b"true"
    assert (await api("GET", "/rqlite")).json["nodes"] == ["h:1"]
    assert (await api("PUT", f"{KEY}?cas=0", OTHER)).body == b"false", "there may be a running cluster behind the nodes"


@ensureDeferred
async def test_nodes_of_both_protocols_are_in_one_cluster(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    key = f"/v1/kv/{discovery_id}/leader"
    assert (await api("PUT", f"{key}?cas=0", VALUE)).body == b"true"
    assert (await api("PUT", key, VALUE)).body == b"true"
    assert (await api("POST", f"/{discovery_id}", {"addr": "j:1"})).json["nodes"] == ["h:1", "j:1"]


@ensureDeferred
async def test_a_claim_where_old_nodes_are_registered_loses_and_the_log_says_why(api: ApiClient, log: Any) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": "j:1"})
    assert (await api("PUT", f"/v1/kv/{discovery_id}/leader?cas=0", VALUE)).body == b"false"
    assert (await api("GET", f"/v1/kv/{discovery_id}/leader")).status == 404
    (warning,) = [event for event in log if "no leader has reported itself" in event["log_format"]]
    assert warning["discovery_id"] == discovery_id


@ensureDeferred
async def test_a_leader_that_repeats_itself_does_not_fill_the_log(api: ApiClient, log: Any) -> None:
    for value in (VALUE, VALUE, VALUE, OTHER, OTHER):
        await api("PUT", KEY, value)
    assert len([event for event in log if event["log_format"] == "leader report"]) == 2


@ensureDeferred
async def test_parameters_that_only_a_larger_consul_has_are_ignored_and_logged_once(api: ApiClient, log: Any) -> None:
    for _ in range(2):
        query = "cas=0&dc=a&ns=b&partition=c&stale&consistent&index=9&wait=10s"
        assert (await api("PUT", f"{KEY}?{query}", VALUE)).status == 200
        assert (await api("PUT", f"{KEY}?dc=a", VALUE)).status == 200
        assert (await api("GET", f"{KEY}?index=99&wait=5m&dc=a")).status == 200
    metadata_change = [event["parameter"] for event in log if "parameter ignored" in event["log_format"]]
    assert sorted(metadata_change) == ["dc", "ns", "partition"]


@ensureDeferred
async def test_escapes_in_a_key_are_decoded(api: ApiClient) -> None:
    assert (await api("PUT", "/v1/kv/rql%69te/leader?cas=0", VALUE)).body == b"true"
    assert (await api("PUT", "/v1/kv/%72qlite/leader?cas=0", OTHER)).body == b"false"
    assert (await api("PUT", "/v1/kv/rqlite%2fleader", VALUE)).body == b"true"
    assert (await api("GET", "/v1/kv/rqlite%2Fleader")).status == 200
    assert (await api("GET", "/v1/kv/RQLITE/leader")).status == 404, "case counts"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", KEY, VALUE, 405, "method POST not allowed"),
        ("PATCH", KEY, b"", 405, "method PATCH not allowed"),
        ("GET", "/v1/kv/", b"", 400, "Missing key name"),
        ("PUT", "/v1/kv", VALUE, 400, "Missing key name"),
        ("GET", "/v1/kv/rqlite", b"", 404, ""),
        ("GET", "/v1/kv/a/b/leader", b"", 404, ""),
        ("GET", "/v1/kv/v1/leader", b"", 404, ""),
        ("PUT", "/v1/kv/rqlite", VALUE, 400, "unsupported key, only <ID>/leader"),
        ("DELETE", "/v1/kv/rqlite/other", b"", 400, "unsupported key, only <ID>/leader"),
        ("PUT", "/v1/kv/a b/leader".replace(" ", "%20"), VALUE, 400, "unsupported key, only <ID>/leader"),
        ("PUT", f"/v1/kv/{'x' * 65}/leader", VALUE, 400, "unsupported key, only <ID>/leader"),
        ("PUT", "/v1/kv/%FF/leader", VALUE, 404, "not supported by rqdisco"),
        ("PUT", "/v1/kv/metrics/leader?cas=0", VALUE, 400, "unsupported key, only <ID>/leader"),
        ("PUT", f"{KEY}?cas=0", b"", 400, "leader value must be JSON with addr"),
        ("PUT", f"{KEY}?cas=0", b'{"addr":1}', 400, "leader value must be JSON with addr"),
        ("PUT", KEY, b'{"addr":"h:2","id":{}}', 400, "invalid id: not a string"),
        ("PUT", KEY, b'{"addr":"h:2","api_addr":false}', 400, "invalid api_addr: not a string"),
        ("PUT", f"{KEY}?cas=0", b'{"addr":"a b"}', 400, "invalid addr: contains white space"),
        ("PUT", f"{KEY}?cas=", VALUE, 400, "Invalid cas index"),
        ("PUT", f"{KEY}?cas=-1", VALUE, 400, "Invalid cas index"),
        ("PUT", f"{KEY}?cas=18446744073709551616", VALUE, 400, "Invalid cas index"),
        ("PUT", f"{KEY}?flags=x", VALUE, 400, "Invalid flags"),
        ("PUT", f"{KEY}?acquire=s", VALUE, 400, "sessions are not supported by rqdisco"),
        ("PUT", f"{KEY}?release=s", VALUE, 400, "sessions are not supported by rqdisco"),
        ("PUT", f"{KEY}?release=s&cas=0", VALUE, 400, "Conflicting flags"),
        ("GET", f"{KEY}?recurse", b"", 400, "recurse and keys are not supported by rqdisco"),
        ("GET", "/v1/kv/rqlite?keys", b"", 400, "recurse and keys are not supported by rqdisco"),
        ("DELETE", f"{KEY}?recurse=true", b"", 400, "recurse and keys are not supported by rqdisco"),
        ("PUT", KEY, b"x" * (MAX_BODY + 1), 413, f"Request body too large, max size: {MAX_BODY} bytes"),
        ("GET", "/v1/agent/self", b"", 404, "not supported by rqdisco"),
        ("PUT", "/v1/session/create", b"{}", 404, "not supported by rqdisco"),
        ("GET", "/v1/", b"", 404, "not supported by rqdisco"),
    ],
)
@ensureDeferred
async def test_a_request_that_is_not_supported_is_refused_in_one_line(
    api: ApiClient, method: str, path: str, body: bytes, status: int, text: str
) -> None:
    answer = await api(method, path, body)
    assert_refused(answer, status, text)
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD, PUT, DELETE"
    assert (await api("GET", KEY)).status == 404, "and nothing has changed"


@ensureDeferred
async def test_a_store_that_cannot_be_written_refuses_puts_and_answers_gets(api: ApiClient) -> None:
    await api("PUT", KEY, VALUE)
    api.daemon.fill()
    answer = await api("PUT", KEY, OTHER)
    assert_refused(answer, 503, "store unavailable")
    assert answer.headers["retry-after"] == "5"
    assert (await api("GET", f"{KEY}?raw")).body == VALUE


class TestVisibleClaims:
    """With `--kv-visible-claims`: exactly as Consul."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"limits": Limits(visible_claims=True)}

    @ensureDeferred
    async def test_a_claim_is_won_once_and_read_back_at_once(self, api: ApiClient) -> None:
        for value, answer in ((VALUE, b"true"), (OTHER, b"false"), (VALUE, b"false")):
            assert (await api("PUT", f"{KEY}?cas=0&flags=42", value)).body == answer
            (entry,) = (await api("GET", KEY)).json
            assert b64decode(entry["Value"]) == VALUE
            assert entry["Flags"] == 42
            assert entry["ModifyIndex"] == entry["CreateIndex"] > 0

    @ensureDeferred
    async def test_a_swap_at_the_index_of_the_claim_succeeds(self, api: ApiClient) -> None:
        await api("PUT", f"{KEY}?cas=0", VALUE)
        (first,) = (await api("GET", KEY)).json
        assert (await api("PUT", f"{KEY}?cas={first['ModifyIndex']}", OTHER)).body == b"true"
        (second,) = (await api("GET", KEY)).json
        assert second["ModifyIndex"] > first["ModifyIndex"] == second["CreateIndex"]

    @ensureDeferred
    async def test_one_of_many_concurrent_claims_is_won(self, api: ApiClient) -> None:
        answers = await gatherResults([api("PUT", f"{KEY}?cas=0", VALUE) for _ in range(20)])
        assert sorted(answer.body for answer in answers) == [b"false"] * 19 + [b"true"]

    @ensureDeferred
    async def test_others_join_the_winner_before_it_reports_itself(self, api: ApiClient) -> None:
        await api("PUT", f"{KEY}?cas=0", VALUE)
        assert (await api("POST", "/rqlite", {"addr": "j:1"})).json["nodes"] == ["h:1", "j:1"]
        document = (await api("GET", "/rqlite")).json
        assert document["leader"]["reported"] is False
        assert "claim" not in document

    @ensureDeferred
    async def test_deleting_the_key_leaves_the_node_that_won_it(self, api: ApiClient) -> None:
        await api("PUT", f"{KEY}?cas=0", VALUE)
        assert (await api("DELETE", KEY)).body == b"true"
        assert (await api("GET", "/rqlite")).json["nodes"] == ["h:1"]
        assert (await api("PUT", f"{KEY}?cas=0", VALUE)).body == b"false"


class TestWithoutNamedIDs:
    """With `--kv-create no`."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"limits": Limits(create_named=False)}

    @ensureDeferred
    async def test_only_created_ids_can_be_claimed(self, api: ApiClient) -> None:
        for query in ("", "?cas=0"):
            answer = await api("PUT", f"{KEY}{query}", VALUE)
            assert_refused(answer, 403, "discovery ID rqlite does not exist")
        assert (await api("PUT", f"{KEY}?cas=5", VALUE)).body == b"false"
        assert (await api("PUT", f"/v1/kv/{await api.create_id()}/leader?cas=0", VALUE)).body == b"true"


class TestStrictAddresses:
    """With `--strict-addresses`."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"strict": True}

    @ensureDeferred
    async def test_a_leader_that_nobody_can_reach_is_refused(self, api: ApiClient) -> None:
        answer = await api("PUT", f"{KEY}?cas=0", b'{"api_addr":"http://0.0.0.0:1","addr":"0.0.0.0:2"}')
        assert_refused(answer, 400, "loopback address, set -http-adv-addr")


SEGMENTS = st.text("abz019._-%/ \\\0é", max_size=20)
QUERIES = st.sampled_from(["", "?cas=0", "?cas=7", "?raw", "?%ff=%00", "?cas=0&cas=1", "?;&=&&", "?flags=9"])
BODIES = st.binary(max_size=40) | st.sampled_from([VALUE, OTHER])


@given(st.lists(st.tuples(st.sampled_from(["GET", "PUT", "DELETE", "HEAD"]), SEGMENTS, QUERIES, BODIES), max_size=6))
def test_any_request_is_answered_without_an_internal_error(requests: list[tuple[str, str, str, bytes]]) -> None:
    daemon = Daemon(max_body=30)
    client = InMemoryClient(daemon.apis.public())
    for method, segment, query, body in requests:
        for path in (f"/v1/kv/{segment}{query}", f"/v1/kv/{segment}/leader{query}", f"/v1/{segment}{query}"):
            answers: list[Any] = []
            asking = client.request(method, f"http://rqdisco:4000{path}", data=body)
            asking.addBoth(answers.append)
            client.flush()
            assert answers, path
            assert answers[0].code in (200, 400, 404, 413), (path, answers[0].code)
    daemon.deadlines.stop()
