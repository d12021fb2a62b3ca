"""The metrics page: what an operator sees of the clients' requests."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rqdisco.backends.limits import Limits
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.telemetry.events import ON_BEHALF, Event
from tests.support.any_daemon import AnyDaemon, Probe
from tests.support.backends import new_daemon
from tests.support.connections import Connection, request
from tests.support.daemon import STATE, Daemon, create_id, register

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
VALUE = {"id": "1", "api_addr": "http://h:1", "addr": "h:2"}


class Client(Connection):
    """One connection to the public site, or to the operator's, of a daemon in memory."""

    def __init__(self, daemon: Daemon, *, operator: bool = False, metrics: bool = False) -> None:
        public = daemon.page if metrics else daemon.apis.public()
        resource = daemon.apis.operators() if operator else public
        super().__init__(Site(resource, daemon.clock, SiteConfig(), lambda: 0.0, daemon.counts.requests))

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        top, _, content = self.send(request(method, path, document)).partition(b"\r\n\r\n")
        return int(top.split(b" ")[1]), content


def samples(daemon: Daemon) -> dict[str, float]:
    """Return all samples of the page, as `name{label=value}` with the labels sorted."""
    status, page = Client(daemon, metrics=True).ask("GET", "/metrics")
    assert status == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for each in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(each.labels.items()))
            found[f"{each.name}{{{labels}}}" if labels else each.name] = each.value
    return found


@pytest.fixture
def daemon(each_backend: None) -> AnyDaemon:
    """A daemon over either backend."""
    daemon: AnyDaemon = new_daemon(limits=Limits(max_nodes=2))
    return daemon


@pytest.fixture
def stored_daemon() -> Daemon:
    """A daemon that stores its records itself."""
    return Daemon(limits=Limits(max_nodes=2))


def test_requests_are_counted_by_api_route_method_and_status(daemon: Daemon) -> None:
    client = Client(daemon)
    discovery_id = create_id(daemon)
    for method, path, document in (
        ("POST", f"/{discovery_id}", {"addr": A}),
        ("POST", f"/{discovery_id}", {"addr": B}),
        ("POST", f"/{discovery_id}", {"addr": C}),
        ("GET", f"/{discovery_id}", None),
        ("GET", "/unknown", None),
        ("GET", "/", None),
        ("PATCH", f"/{discovery_id}", None),
        ("PUT", "/v1/kv/orders/leader?cas=0", VALUE),
        ("PUT", "/v1/kv/orders/leader", VALUE),
        ("GET", "/v1/kv/orders/leader", None),
        ("GET", "/v1/agent/self", None),
        ("GET", "/a/b/%E4", None),
    ):
        client.ask(method, path, document)
    Client(daemon, operator=True).ask("GET", "/operator/peers")
    Client(daemon, operator=True).ask("GET", "/operator/nothing")
    got = {name: value for name, value in samples(daemon).items() if name.startswith("rqdisco_requests_total")}
    assert got == {
        "rqdisco_requests_total{api=discovery,method=POST,route=/ID,status=200}": 2,
        "rqdisco_requests_total{api=discovery,method=POST,route=/ID,status=409}": 1,
        "rqdisco_requests_total{api=discovery,method=GET,route=/ID,status=200}": 1,
        "rqdisco_requests_total{api=discovery,method=GET,route=/ID,status=404}": 2,
        "rqdisco_requests_total{api=discovery,method=GET,route=/,status=200}": 1,
        "rqdisco_requests_total{api=discovery,method=other,route=/ID,status=405}": 1,
        "rqdisco_requests_total{api=consul,method=PUT,route=/v1/kv/KEY,status=200}": 2,
        "rqdisco_requests_total{api=consul,method=GET,route=/v1/kv/KEY,status=200}": 1,
        "rqdisco_requests_total{api=consul,method=GET,route=other,status=404}": 1,
        "rqdisco_requests_total{api=operator,method=GET,route=/operator/peers,status=404}": 1,
        "rqdisco_requests_total{api=operator,method=GET,route=other,status=404}": 1,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "api", "route"),
    [
        ("PUT", "/v1/kv/orders%2Fleader", 200, "consul", "/v1/kv/KEY"),
        ("PUT", "/v1/kv/%6frders/leader", 200, "consul", "/v1/kv/KEY"),
        ("PUT", "/v1/%6bv/orders/leader", 200, "consul", "/v1/kv/KEY"),
        ("PUT", "/v1/kv%2Forders%2Fleader", 200, "consul", "/v1/kv/KEY"),
        ("PUT", "//v1//kv/orders/leader", 200, "consul", "/v1/kv/KEY"),
        ("PUT", "/v1//kv/orders%2Fleader", 200, "consul", "/v1/kv/KEY"),
        ("PUT", "/v1/kv/%FF/leader", 404, "consul", "other"),
        ("POST", "/{id}%2F", 200, "discovery", "/ID"),
        ("POST", "//{id}//", 200, "discovery", "/ID"),
        ("POST", "//operator/import", 400, "operator", "/operator/import"),
        ("POST", "/operator/%69mport", 400, "operator", "/operator/import"),
        ("POST", "/operator%2Fimport", 404, "discovery", "/ID"),
    ],
)
def test_a_path_is_counted_under_its_route_in_every_spelling(
    daemon: Daemon, method: str, path: str, status: int, api: str, route: str
) -> None:
    document = {"addr": A} if method == "POST" else VALUE
    client = Client(daemon, operator=True)
    assert client.ask(method, path.replace("{id}", create_id(daemon)), document)[0] == status
    counted = f"rqdisco_requests_total{{api={api},method={method},route={route},status={status}}}"
    assert [name for name in samples(daemon) if name.startswith("rqdisco_requests_total")] == [counted]


@pytest.mark.parametrize("path", ["//", "/%2F", "/%2f%2F"])
def test_slashes_alone_create_nothing_in_any_encoding(daemon: Daemon, path: str) -> None:
    client = Client(daemon)
    assert [client.ask(method, path)[0] for method in ("GET", "POST")] == [404, 404]
    assert daemon.size == 0


def test_a_request_that_waits_for_the_disk_is_measured_until_its_answer(daemon: Daemon) -> None:
    client, discovery_id = Client(daemon), create_id(daemon)
    daemon.threads.hold = True
    client.send(request("POST", f"/{discovery_id}", {"addr": A}))
    daemon.clock.advance(0.2)
    daemon.threads.release_all()
    of = "api=discovery,method=POST,route=/ID"
    got = samples(daemon)
    assert got[f"rqdisco_request_duration_seconds_sum{{{of}}}"] == pytest.approx(0.2)
    assert got["rqdisco_request_duration_seconds_bucket{api=discovery,le=0.1,method=POST,route=/ID}"] == 0
    assert got["rqdisco_request_duration_seconds_bucket{api=discovery,le=0.25,method=POST,route=/ID}"] == 1
    daemon.deadlines.stop()


def test_a_client_that_left_before_its_answer_is_counted_separately(daemon: Daemon) -> None:
    client, discovery_id = Client(daemon), create_id(daemon)
    daemon.threads.hold = True
    client.send(request("POST", f"/{discovery_id}", {"addr": A}))
    half_sent = Client(daemon)
    half_sent.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    for each in (client, half_sent):
        each.hang_up()
    daemon.threads.release_all()
    got = samples(daemon)
    assert got["rqdisco_requests_abandoned_total{api=discovery}"] == 1
    assert not [name for name in got if name.startswith("rqdisco_requests_total{api=discovery")]
    assert got["rqdisco_changes_total{change=registration,outcome=given_up}"] == 1
    daemon.deadlines.stop()


def test_grants_registrations_and_removals_are_counted_by_outcome(daemon: Daemon) -> None:
    client = Client(daemon)
    discovery_id = msgspec.json.decode(client.ask("POST", "/")[1])["disco_id"]
    for addr in (A, A, B, C, "no address"):
        client.ask("POST", f"/{discovery_id}", {"addr": addr})
    for _ in range(2):
        client.ask("DELETE", f"/{discovery_id}", {"addr": A})
    for value in (VALUE, VALUE, VALUE, {"id": "2", "addr": "i:2"}):
        client.ask("PUT", "/v1/kv/orders/leader?cas=0", value)
    for _ in range(2):
        client.ask("PUT", "/v1/kv/orders/leader", VALUE)
    got = samples(daemon)
    assert {name: value for name, value in got.items() if name.startswith("rqdisco_grants_total")} == {
        "rqdisco_grants_total{kind=granted}": 1,
        "rqdisco_grants_total{kind=again}": 1,
        "rqdisco_grants_total{kind=claim}": 1,
        "rqdisco_grants_total{kind=claim_again}": 2,
    }
    expected = {
        ("create", "created"): 1,
        ("registration", "granted"): 1,
        ("registration", "again"): 1,
        ("registration", "listed"): 1,
        ("registration", "refused"): 2,
        ("registration", "unavailable"): 0,
        ("removal", "removed"): 1,
        ("removal", "absent"): 1,
        ("claim", "granted"): 1,
        ("claim", "again"): 2,
        ("claim", "lost"): 1,
        ("leader_report", "reported"): 2,
        ("expiry", "expired"): 0,
    }
    assert {name: value for name, value in got.items() if name.startswith("rqdisco_changes_total")} == {
        f"rqdisco_changes_total{{change={change},outcome={outcome}}}": count
        for (change, outcome), count in expected.items()
    }


def test_ids_nodes_and_ownerless_ids_are_counted_by_a_daemon_that_stores_them(stored_daemon: Daemon) -> None:
    client = Client(stored_daemon)
    for addr in (A, B):
        client.ask("POST", f"/{create_id(stored_daemon)}", {"addr": addr})
    got = samples(stored_daemon)
    assert (got["rqdisco_ids"], got["rqdisco_nodes"], got["rqdisco_ownerless_ids"]) == (2, 2, 0)


def test_a_registration_on_the_owners_behalf_has_a_label_of_its_own(daemon: Daemon) -> None:
    daemon.telemetry.events.publish(Event(kind="registration", outcome=ON_BEHALF))
    assert samples(daemon)["rqdisco_changes_total{change=registration,outcome=on_behalf}"] == 1


def test_refusals_are_counted_by_reason(stored_daemon: Daemon) -> None:
    daemon = stored_daemon
    client, discovery_id = Client(daemon), create_id(daemon)
    for path, document in (
        ("/unknown", {"addr": A}),
        (f"/{discovery_id}", {"addr": ""}),
        (f"/{discovery_id}", {}),
        (f"/{discovery_id}", {"addr": "a" * 17_000}),
    ):
        client.ask("POST", path, document)
    daemon.disk.room = 0
    client.ask("POST", "/")
    daemon.threads.hold = True
    client.send(request("POST", "/"))
    daemon.clock.advance(7)
    daemon.threads.release_all()
    got = samples(daemon)
    assert {name: value for name, value in got.items() if name.startswith("rqdisco_refusals_total") and value} == {
        f"rqdisco_refusals_total{{api=discovery,reason={reason}}}": 1
        for reason in ("no_such_id", "invalid_value", "bad_request", "body_too_large", "disk", "too_late")
    }
    assert got["rqdisco_journal_refusing"] == 1
    daemon.deadlines.stop()


def test_bytes_batches_and_changes_of_the_journal_add_up(stored_daemon: Daemon) -> None:
    daemon = stored_daemon
    daemon.threads.hold = True
    for _ in range(3):
        Client(daemon).send(request("POST", "/"))
    daemon.threads.release_all()
    got = samples(daemon)
    assert got["rqdisco_journal_changes_total"] == 3
    assert got["rqdisco_journal_batches_total"] == 2
    assert got["rqdisco_journal_written_bytes_total"] == daemon.journal.bytes_written > 0
    assert got["rqdisco_journal_refusing"] == 0
    daemon.deadlines.stop()


def test_ids_of_an_unknown_owner_are_ownerless() -> None:
    daemon = Daemon()
    for _ in range(3):
        create_id(daemon)
    daemon.disk.remove(STATE / "identity.json")
    daemon = daemon.restart()
    assert "rqdisco_nodes" not in samples(daemon), "not before all were looked at"
    daemon.background.startService()
    daemon.clock.advance(1)
    assert samples(daemon)["rqdisco_ownerless_ids"] == 3
    daemon.background.stopService()


def test_the_metrics_page_is_for_operators_only(daemon: Daemon) -> None:
    status, page = Client(daemon, operator=True).ask("GET", "/metrics")
    assert status == 200
    assert b"# TYPE rqdisco_build_info gauge" in page
    assert Client(daemon).ask("GET", "/metrics")[0] == 404


def test_no_id_can_be_called_metrics(daemon: Daemon) -> None:
    assert Client(daemon).ask("PUT", "/v1/kv/metrics/leader?cas=0", VALUE)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "is_empty"),
    [
        ("HEAD", "/metrics", 200, True),
        ("GET", "/metrics?name=x", 200, False),
        ("POST", "/metrics", 405, False),
        ("GET", "/", 404, False),
        ("GET", "/operator/export", 404, False),
    ],
)
def test_a_metrics_listener_serves_nothing_else(
    daemon: Daemon, method: str, path: str, status: int, is_empty: bool
) -> None:
    answer = Client(daemon, metrics=True).ask(method, path)
    assert (answer[0], not answer[1]) == (status, is_empty)


def test_nodes_are_counted_by_state_and_one_without_an_address_is_not_down() -> None:
    probe = Probe()
    probe.network.listens("10.0.0.2")
    daemon = new_daemon(probe=probe)
    discovery_id = create_id(daemon)
    for addr in (A, B, "n3.example.org:4001"):
        register(daemon, discovery_id, addr)
    assert daemon.rounds is not None
    daemon.rounds.startService()
    daemon.clock.pump([0.25] * 120)
    daemon.rounds.stopService()
    got = samples(daemon)
    states = ("up", "not_ready", "down", "unresolved", "unknown", "not_allowed")
    assert [got[f"rqdisco_probed_nodes{{state={state}}}"] for state in states] == [1, 0, 1, 1, 0, 0]


def test_lookups_are_counted_by_outcome_and_by_how_often_cached_addresses_were_used() -> None:
    probe = Probe()
    probe.network.listens("10.0.0.1")
    probe.resolver.known["n1.example.org"] = ["10.0.0.1"]
    daemon = new_daemon(probe=probe)
    discovery_id = create_id(daemon)
    for host in ("n1", "n2"):
        register(daemon, discovery_id, f"{host}.example.org:4001")
    assert daemon.rounds is not None
    daemon.rounds.startService()
    daemon.clock.pump([0.25] * 4 * 5)
    probe.resolver.goes_away(silently=False)
    daemon.clock.pump([0.25] * 4 * 30)
    daemon.rounds.stopService()
    got = samples(daemon)
    outcomes = ("found", "absent", "failed", "dropped")
    assert [got[f"rqdisco_lookups_total{{outcome={outcome},use=probes}}"] for outcome in outcomes] == [1, 1, 4, 0]
    assert got["rqdisco_kept_addresses_total{use=probes}"] == 3
    assert got["rqdisco_kept_addresses_total{use=dns}"] == 0
