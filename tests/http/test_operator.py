"""The operator API: export everything, import everything, and none of it for other clients."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.backends.limits import Limits
from rqdisco.http.api.admin import EXPORT_PATIENCE_SECONDS, EXPORTS_AT_ONCE
from rqdisco.http.server.site import Site, SiteConfig
from tests.support.backends import new_daemon
from tests.support.connections import Connection, request, unchunked
from tests.support.daemon import Daemon, answer_of, create_id, register, shown

pytestmark = pytest.mark.usefixtures("each_backend")

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
VALUE = '{"id":"1","api_addr":"http://h:1","addr":"h:2"}'


class Operator(Connection):
    """A client of the operator socket."""

    def __init__(self, daemon: Daemon, *, public: bool = False) -> None:
        resource = daemon.apis.public() if public else daemon.apis.operators()
        super().__init__(Site(resource, Clock(), SiteConfig(), lambda: 0.0))
        self.clock = daemon.clock

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        self.protocol.dataReceived(request(method, path, document))
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
        top, _, content = self.take().partition(b"\r\n\r\n")
        if b"Transfer-Encoding: chunked" in top:
            content = unchunked(content)
        return int(top.split(b" ")[1]), content

    def export(self) -> bytes:
        status, content = self.ask("GET", "/operator/export")
        assert status == 200
        return content

    def bring(self, *records: dict[str, Any], adopt: bool = False) -> dict[str, Any]:
        status, content = self.ask("POST", "/operator/import", {"adopt": adopt, "records": records})
        assert status == 200, content
        outcome: dict[str, Any] = json.loads(content)
        return outcome


def legacy(discovery_id: str, *addrs: str) -> dict[str, Any]:
    return {"id": discovery_id, "created_at": 1, "nodes": [{"addr": addr} for addr in addrs]}


def test_an_export_is_one_json_document_with_a_record_per_line_a_count_and_a_checksum() -> None:
    daemon = new_daemon()
    ids = {create_id(daemon) for _ in range(250)}
    register(daemon, min(ids), A)
    content = Operator(daemon).export()
    document = json.loads(content)
    assert {record["id"] for record in document["records"]} == ids
    assert (document["format"], document["version"], document["count"]) == ("rqdisco export", 2, 250)
    assert content.count(b"\n") == 252
    before, _, last = content[:-1].rpartition(b"\n")
    assert last == b'],"count":250,"crc":"%08x"}' % zlib.crc32(before + b"\n")


def test_an_empty_export_is_complete_too() -> None:
    content = Operator(new_daemon()).export()
    assert json.loads(content)["records"] == []


def test_one_daemon_imports_what_another_exports() -> None:
    daemon = new_daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    register(daemon, discovery_id, B)
    Operator(daemon).ask("PUT", "/v1/kv/rqlite/leader?flags=3", json.loads(VALUE))
    other = new_daemon(seed=1)
    records = json.loads(Operator(daemon).export())["records"]
    assert Operator(other).bring(*records) == {"imported": 2, "unchanged": 0, "refused": []}
    assert Operator(other).bring(*records) == {"imported": 0, "unchanged": 2, "refused": []}
    again = json.loads(Operator(other).export())["records"]
    # Nothing is granted there, since the records kept their owner.
    assert all(record["decisions"].pop("ownerless") for record in again)
    assert sorted(again, key=str) == sorted(records, key=str)
    assert shown(other.restart(), discovery_id) == [A, B], "and it is on the disk"
    status, value = Operator(other).ask("GET", "/v1/kv/rqlite/leader?raw")
    assert (status, json.loads(value)) == (200, json.loads(VALUE))


def test_a_leader_is_imported_at_its_current_address_and_a_claim_stays_a_claim() -> None:
    daemon, other = new_daemon(), new_daemon(seed=1)
    asked = Operator(daemon)
    asked.ask("PUT", "/v1/kv/moved/leader", json.loads(VALUE))
    asked.ask("POST", "/moved", {"addr": "new:1", "raft_addr": "new:2", "node_id": "1"})
    asked.ask("PUT", "/v1/kv/claimed/leader?cas=0", json.loads(VALUE))
    records = json.loads(asked.export())["records"]
    assert asked.bring(*records) == {"imported": 0, "unchanged": 2, "refused": []}
    assert Operator(other).bring(*records)["imported"] == 2
    moved, claimed = (json.loads(Operator(other).ask("GET", f"/{name}")[1]) for name in ("moved", "claimed"))
    assert moved["registrations"] == [{"addr": "new:1", "raft_addr": "new:2", "node_id": "1", "leader": True}]
    assert moved["leader"]["reported"]
    assert (claimed["nodes"], claimed["claim"]["answered"], "leader" in claimed) == ([], 1, False)


def test_an_adopted_claim_is_granted_again_to_its_claimant_and_to_nobody_else() -> None:
    adopting = new_daemon(seed=1)
    asked, adopter, server = Operator(new_daemon()), Operator(adopting), Operator(new_daemon(seed=2))
    asked.ask("PUT", "/v1/kv/claimed/leader?cas=0", json.loads(VALUE))
    records = json.loads(asked.export())["records"]
    assert records[0]["leader"]["claims"] == 1
    assert adopter.bring(*records, adopt=True)["imported"] == server.bring(*records)["imported"] == 1
    other = json.loads(VALUE) | {"id": "2", "addr": "other:2"}
    for each in (adopter, server):
        assert each.ask("PUT", "/v1/kv/claimed/leader?cas=0", other) == (200, b"false")
    assert adopter.ask("PUT", "/v1/kv/claimed/leader?cas=0", json.loads(VALUE)) == (200, b"true")
    server.clock.advance(30)
    assert server.ask("PUT", "/v1/kv/claimed/leader?cas=0", json.loads(VALUE))[0] == 410
    again = json.loads(adopter.export())["records"]
    assert again[0]["leader"] == records[0]["leader"] | {"claims": 2}


def test_a_visible_claim_stays_visible_when_it_is_imported() -> None:
    daemon = new_daemon(limits=Limits(visible_claims=True))
    Operator(daemon).ask("PUT", "/v1/kv/claimed/leader?cas=0", json.loads(VALUE))
    other = Operator(new_daemon(seed=1))
    other.bring(*json.loads(Operator(daemon).export())["records"])
    claimed = json.loads(other.ask("GET", "/claimed")[1])
    assert (claimed["leader"]["reported"], "claim" in claimed) == (False, False)


def test_more_than_500_records_at_once_are_refused_because_others_would_wait() -> None:
    status, content = Operator(new_daemon()).ask("POST", "/operator/import", {"records": [legacy("a")] * 501})
    assert (status, json.loads(content)["error"]) == (400, "bad request body: more than 500 records")


def test_ids_of_another_daemon_are_served_but_bootstrap_no_cluster() -> None:
    daemon, other = new_daemon(), new_daemon(seed=1)
    empty, grown = create_id(daemon), create_id(daemon)
    register(daemon, grown, A)
    register(daemon, grown, B)
    Operator(other).bring(*json.loads(Operator(daemon).export())["records"])
    assert answer_of(register(other, grown, C)) == [A, B, C]
    status, content = Operator(other).ask("POST", f"/{empty}", {"addr": A})
    assert status == 410, content
    assert json.loads(Operator(other).ask("GET", f"/{empty}")[1])["orphaned"]
    assert "orphaned" not in json.loads(Operator(daemon).ask("GET", f"/{empty}")[1])


def test_ids_imported_for_another_owner_can_be_adopted_later() -> None:
    daemon, other = new_daemon(), new_daemon(seed=1)
    empty = create_id(daemon)
    records = json.loads(Operator(daemon).export())["records"]
    assert Operator(other).bring(*records)["imported"] == 1
    assert Operator(other).bring(*records, adopt=True)["imported"] == 1
    assert Operator(other).bring(*records, adopt=True)["unchanged"] == 1
    after = other.restart()
    assert answer_of(register(after, empty, A)) == [A]


def test_adopted_ids_bootstrap_clusters_like_ids_created_here() -> None:
    daemon, other = new_daemon(), new_daemon(seed=1)
    empty = create_id(daemon)
    Operator(other).bring(*json.loads(Operator(daemon).export())["records"], adopt=True)
    assert answer_of(register(other, empty, A)) == [A]


def test_ids_of_the_original_service_belong_to_the_importing_daemon() -> None:
    daemon = new_daemon()
    assert Operator(daemon).bring(legacy("809d9ba6-f70b-11e6-9a5a-92819c00729a"))["imported"] == 1
    assert answer_of(register(daemon, "809d9ba6-f70b-11e6-9a5a-92819c00729a", A)) == [A]


def test_an_existing_id_with_other_nodes_is_never_overwritten() -> None:
    daemon = new_daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    outcome = Operator(daemon).bring(legacy(discovery_id, B), legacy("new", C))
    assert outcome["imported"] == 1
    assert outcome["refused"] == [{"id": discovery_id, "why": f"{discovery_id} already exists with other content"}]
    assert shown(daemon, discovery_id) == [A]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (legacy("a/b"), "invalid id"),
        (legacy("x" * 65), "invalid id"),
        (legacy("metrics"), "invalid id"),
        (legacy("x", "a b"), "invalid address: contains white space"),
        (legacy("x", A, A), "invalid nodes"),
        (legacy("x", A, f"http://{A}"), "invalid nodes"),
        (legacy("x", *map(str, range(4))), "too many nodes"),
        (legacy("x") | {"created_at": -1}, "invalid created_at"),
        (legacy("x") | {"created_at": 10**18}, "invalid created_at"),
        (legacy("x") | {"home": "nobody"}, "invalid home"),
        (legacy("x") | {"leader": {"value": "5"}}, "invalid leader"),
        (legacy("x") | {"leader": {"value": VALUE, "flags": -1}}, "invalid flags"),
        (legacy("x") | {"leader": {"value": VALUE, "flags": 2**64 - 1, "addr": "other:1"}}, "invalid leader"),
        (legacy("x") | {"nodes": [{"addr": A, "node_id": "n"}, {"addr": B, "node_id": "n"}]}, "invalid nodes"),
        (legacy("x") | {"nodes": [{"addr": A, "raft_addr": ""}]}, "invalid raft_addr: empty"),
        (legacy("x") | {"nodes": [{"addr": A, "node_id": "a b"}]}, "invalid node_id"),
    ],
)
def test_a_record_that_could_not_have_been_registered_is_refused_by_name(record: dict[str, Any], why: str) -> None:
    daemon = new_daemon(limits=Limits(max_nodes=3))
    (refusal,) = Operator(daemon).bring(record)["refused"]
    assert refusal["why"].startswith(why)
    assert daemon.size == 0


def test_an_import_counts_against_the_number_of_ids_that_may_be_held() -> None:
    daemon = new_daemon(limits=Limits(max_ids=1))
    assert Operator(daemon).bring(legacy("a"))["imported"] == 1
    daemon.recount()
    assert len(Operator(daemon).bring(legacy("b"))["refused"]) == 1


def test_an_import_that_does_not_fit_is_refused_whole() -> None:
    daemon = new_daemon()
    daemon.fill()
    status, content = Operator(daemon).ask("POST", "/operator/import", {"records": [legacy("a"), legacy("b")]})
    assert (status, json.loads(content)["error"]) == (503, "store unavailable")


@pytest.mark.parametrize("body", [[], {}, {"records": 5}, {"records": [{"id": "x"}]}, {"records": [{"created_at": 1}]}])
def test_a_malformed_batch_is_a_bad_request(body: object) -> None:
    status, content = Operator(new_daemon()).ask("POST", "/operator/import", body)
    assert status == 400
    assert json.loads(content)["error"].startswith("bad request body: ")


def test_request_content_is_never_in_the_status_line() -> None:
    operator = Operator(new_daemon())
    body = {"records": [{"id": "x", "created_at": 1, "nodes": [{"addr": "a", "x\r\nSet-Cookie: a": 1}]}]}
    assert operator.send(request("POST", "/operator/import", body)).startswith(b"HTTP/1.1 400 bad request body\r\n")


def test_other_methods_and_paths_are_refused_with_a_reason() -> None:
    operator = Operator(new_daemon())
    assert operator.ask("POST", "/operator/export")[0] == 405
    assert operator.ask("GET", "/operator/import")[0] == 405
    assert operator.ask("GET", "/operator/other") == (404, b'{"error": "no such operator\'s resource"}')
    assert operator.ask("GET", "/")[0] == 200, "everything public is there too"


def test_the_public_api_neither_exports_nor_imports() -> None:
    daemon = new_daemon()
    create_id(daemon)
    public = Operator(daemon, public=True)
    assert public.ask("GET", "/operator/export")[0] == 404
    assert public.ask("POST", "/operator/import", {"records": [legacy("a")]})[0] == 404
    assert daemon.size == 1


def test_an_export_waits_for_a_slow_reader_and_ends_with_its_connection() -> None:
    daemon = new_daemon()
    for _ in range(300):
        create_id(daemon)
    operator = Operator(daemon)
    others = set(operator.clock.getDelayedCalls())
    operator.protocol.dataReceived(request("GET", "/operator/export"))
    operator.protocol.pauseProducing()
    assert operator.take().endswith(b"\r\n\r\n")
    operator.clock.advance(0)
    assert operator.take() == b""
    operator.protocol.resumeProducing()
    assert len(set(operator.clock.getDelayedCalls()) - others) == 1
    operator.hang_up()
    assert set(operator.clock.getDelayedCalls()) <= others


def test_exports_beyond_the_most_at_once_wait_in_order_and_those_that_wait_too_long_are_refused() -> None:
    daemon = new_daemon()
    create_id(daemon)
    operators = [Operator(daemon) for _ in range(EXPORTS_AT_ONCE + 3)]
    for operator in operators:
        operator.protocol.dataReceived(request("GET", "/operator/export"))
        operator.protocol.pauseProducing()
    *exporting, waiting, gone, late = operators
    exporting[0].protocol.resumeProducing()
    gone.hang_up()
    daemon.clock.pump([0] * 5)
    assert exporting[0].take().endswith(b"0\r\n\r\n")
    waiting.protocol.resumeProducing()
    daemon.clock.pump([0] * 5)
    assert waiting.take().endswith(b"0\r\n\r\n")
    late.protocol.resumeProducing()
    daemon.clock.pump([0] * 5)
    assert late.take().endswith(b"0\r\n\r\n")
    blocked, refused = Operator(daemon), Operator(daemon)
    for operator in (blocked, refused):
        operator.protocol.dataReceived(request("GET", "/operator/export"))
        operator.protocol.pauseProducing()
    daemon.clock.advance(EXPORT_PATIENCE_SECONDS)
    answer = refused.take()
    assert answer.startswith(b"HTTP/1.1 503 too busy\r\n")
    assert b"\r\nRetry-After: 5\r\n" in answer
    for operator in (*exporting[1:], blocked):
        operator.hang_up()
    assert not daemon.clock.getDelayedCalls()
