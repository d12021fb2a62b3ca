"""The event of each attempted change, for all observers: the log, the counters, the audit log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rqdisco.backends.limits import Limits
from rqdisco.http.requests.request_ids import RequestIDs
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.telemetry.events import Event
from tests.support.backends import new_daemon
from tests.support.connections import Connection, request
from tests.support.daemon import create_id

pytestmark = pytest.mark.usefixtures("each_backend")

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
VALUE = {"id": "1", "api_addr": "http://h:1", "addr": "h:2"}


class Audited:
    """A daemon whose events are recorded, and a connection to it for its operator."""

    def __init__(self) -> None:
        self.daemon = new_daemon(limits=Limits(max_nodes=2))
        self.events: list[Event] = []
        self.daemon.telemetry.events.observers.append(self.events.append)
        self.daemon.telemetry.request_id = RequestIDs(self.daemon.random.randbytes)
        site = Site(self.daemon.apis.operators(), self.daemon.clock, SiteConfig(), lambda: 0.0)
        self.connection = Connection(site)

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> tuple[dict[str, str], Any]:
        top, _, content = self.connection.send(request(method, path, document, **headers)).partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in top.decode().split("\r\n")[1:])
        return fields, msgspec.json.decode(content) if content[:1] in (b"{", b"[") else content

    def reported(self) -> list[tuple[str, str, str | None, str | None]]:
        """Return the events since the last call: kind, outcome, address, reason."""
        reported = [(event.kind, event.outcome, event.addr, event.why) for event in self.events if event.audited]
        self.events.clear()
        return reported


@pytest.fixture
def audited() -> Audited:
    return Audited()


def test_each_change_of_the_discovery_api_is_an_event_with_its_outcome(audited: Audited) -> None:
    discovery_id = audited.ask("POST", "/")[1]["disco_id"]
    for addr in (A, A, B, C):
        audited.ask("POST", f"/{discovery_id}", {"addr": addr})
    audited.ask("POST", f"/{discovery_id}", {})
    audited.ask("DELETE", f"/{discovery_id}", {"addr": A})
    audited.ask("DELETE", f"/{discovery_id}", {"addr": A})
    assert {(event.id, event.api) for event in audited.events} == {(discovery_id, "discovery")}
    assert audited.reported() == [
        ("create", "created", None, None),
        ("registration", "granted", A, None),
        ("registration", "again", A, None),
        ("registration", "listed", B, None),
        ("registration", "refused", C, f"too many nodes for {discovery_id}"),
        ("registration", "refused", None, "address not specified"),
        ("removal", "removed", A, None),
        ("removal", "absent", A, None),
    ]


def test_a_name_that_is_created_is_an_event_and_so_is_one_that_exists(audited: Audited) -> None:
    for _ in range(2):
        audited.ask("PUT", "/orders")
    assert {event.id for event in audited.events} == {"orders"}
    assert audited.reported() == [
        ("create", "created", None, None),
        ("create", "refused", None, "orders exists already"),
    ]


def test_a_grant_that_a_full_store_refuses_is_an_event_with_the_reason(audited: Audited) -> None:
    discovery_id = create_id(audited.daemon)
    why = audited.daemon.fill()
    audited.ask("POST", f"/{discovery_id}", {"addr": A})
    assert audited.reported() == [("registration", "unavailable", A, why)]


def test_claims_are_events_and_a_leader_that_repeats_itself_is_not(audited: Audited) -> None:
    for _ in range(2):
        audited.ask("PUT", "/v1/kv/orders/leader?cas=0", VALUE)
    audited.ask("PUT", "/v1/kv/orders/leader?cas=0", {"id": "3", "addr": "h:3"})
    for _ in range(2):
        audited.ask("PUT", "/v1/kv/orders/leader", VALUE)
    audited.ask("PUT", "/v1/kv/orders/leader", {**VALUE, "addr": "h:9"})
    audited.ask("DELETE", "/v1/kv/orders/leader")
    assert audited.reported() == [
        ("claim", "granted", "h:1", None),
        ("claim", "again", "h:1", None),
        ("claim", "lost", "h:3", None),
        ("leader report", "reported", "h:1", None),
        ("leader report", "reported", "h:1", None),
        ("leader removal", "removed", None, None),
    ]


def test_each_record_of_an_import_is_an_event_and_only_their_sum_is_logged(
    audited: Audited, log: list[dict[str, Any]]
) -> None:
    records: list[dict[str, object]] = [
        {"id": name, "created_at": 1, "nodes": [{"addr": A}]} for name in ("orders", "metrics")
    ]
    audited.ask("POST", "/operator/import", {"adopt": False, "records": records})
    assert [(event.id, event.more) for event in audited.events] == [
        ("orders", {"adopt": False}),
        ("metrics", {"adopt": False}),
    ]
    assert [(kind, outcome) for kind, outcome, _, _ in audited.reported()] == [
        ("import", "imported"),
        ("import", "refused"),
    ]
    imports = [event for event in log if event["log_format"] == "import"]
    assert [(event["imported"], event["refused"]) for event in imports] == [(1, 1)]


def test_what_an_operator_requests_of_peers_is_an_event_even_without_peers(audited: Audited) -> None:
    audited.ask("POST", "/operator/peers/forget", {"name": "b"})
    audited.ask("POST", "/operator/drain", {"to": "c"})
    assert [event.more for event in audited.events] == [{"name": "b"}, {"to": "c"}]
    assert audited.reported() == [
        ("forget", "refused", None, "this daemon has no peers"),
        ("drain", "refused", None, "this daemon has no peers"),
    ]


def test_a_request_keeps_the_request_id_that_its_client_sent(audited: Audited) -> None:
    fields, _ = audited.ask("POST", "/", X_Request_ID="deploy-7/a")
    assert fields["x-request-id"] == audited.events[0].request == "deploy-7/a"


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, '"', "\xe9"])
def test_a_request_id_that_cannot_be_logged_is_replaced(audited: Audited, name: str) -> None:
    fields, _ = audited.ask("POST", "/", X_Request_ID=name)
    made = audited.events[0].request
    assert made is not None
    assert fields["x-request-id"] == made != name


def test_requests_without_a_request_id_get_different_ones(audited: Audited) -> None:
    for _ in range(3):
        audited.ask("POST", "/")
    assert len({event.request for event in audited.events}) == 3


def test_all_records_of_one_import_have_the_request_id(audited: Audited) -> None:
    records: list[dict[str, object]] = [{"id": name, "created_at": 1, "nodes": []} for name in ("orders", "billing")]
    fields, _ = audited.ask("POST", "/operator/import", {"adopt": False, "records": records})
    assert {event.request for event in audited.events} == {fields["x-request-id"]}


def test_requests_have_no_request_id_where_nothing_is_audited(audited: Audited) -> None:
    audited.daemon.telemetry.request_id = lambda _: None
    fields, _ = audited.ask("POST", "/", X_Request_ID="a")
    assert "x-request-id" not in fields
    assert audited.events[0].request is None
