"""Refusals in the log, the counters and the audit log."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.python.failure import Failure

from rqdisco.core.errors import Undecided
from rqdisco.http.requests.request_ids import RequestIDs
from rqdisco.http.requests.responses import refusal_of
from rqdisco.telemetry.events import Event
from tests.support.guarded import HOST, A, Guarded


def test_repeated_refusals_of_a_client_are_logged_once_a_minute(log: list[dict[str, Any]]) -> None:
    guarded = Guarded()
    for _ in range(5):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
        guarded.ask("GET", f"/{guarded.id}", None, "mint")
    refused = [(event["peer"], event["token"], event["why"]) for event in log if event["log_format"] == "refused"]
    assert refused == [
        ("192.0.2.7", None, "unknown token"),
        ("192.0.2.7", "mint", f"token may not read {guarded.id}"),
    ]
    guarded.daemon.clock.advance(60)
    guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    assert len([event for event in log if event["log_format"] == "refused"]) == 3


class Refusals:
    """The refusal events of a guarded daemon."""

    def __init__(self, guarded: Guarded) -> None:
        self.events: list[Event] = []
        guarded.daemon.telemetry.events.observers.append(self.events.append)

    def reported(self) -> list[tuple[str, str, str | None]]:
        """Return those since the last call: what was attempted, at which API, with which token."""
        assert {event.outcome for event in self.events} <= {"refused"}
        reported = [(event.kind, event.api, event.token) for event in self.events]
        self.events.clear()
        return reported


@pytest.mark.parametrize(
    ("method", "path", "kind", "api"),
    [
        ("POST", "/", "create", "discovery"),
        ("PUT", "/", "request", "discovery"),
        ("GET", "/{id}", "request", "discovery"),
        ("POST", "/{id}", "registration", "discovery"),
        ("POST", "/%7Bid", "registration", "discovery"),
        ("POST", "//{id}/", "registration", "discovery"),
        ("DELETE", "/%2F{id}", "removal", "discovery"),
        ("POST", "/x/{id}", "request", "discovery"),
        ("POST", "/x%2F{id}", "request", "discovery"),
        ("DELETE", "/{id}", "removal", "discovery"),
        ("GET", "/{id}/events", "request", "discovery"),
        ("PUT", "/v1/kv/{id}/leader?cas=0", "claim", "consul"),
        ("PUT", "/v1/kv/{id}/leader", "leader report", "consul"),
        ("DELETE", "/v1/kv/{id}/leader", "leader removal", "consul"),
        ("GET", "/v1/kv/{id}/leader", "request", "consul"),
        ("PUT", "/v1/kv/{id}/leader?cas=5", "leader report", "consul"),
        ("PUT", "/v1/kv/{id}/leader?cas=0&cas=5", "claim", "consul"),
        ("PUT", "/v1/kv/{id}/leader?cas=x", "leader report", "consul"),
        ("PUT", "/v1/kv/{id}%2Fleader?%63as=0", "claim", "consul"),
        ("PUT", "//v1//%6bv%2f{id}/%6ceader", "leader report", "consul"),
        ("DELETE", "/v1//kv/{id}%2Fleader", "leader removal", "consul"),
        ("PUT", "/v1/kv/{id}/follower?cas=0", "request", "consul"),
        ("PUT", "/v1/agent/self", "request", "consul"),
        ("POST", "/operator/import", "import", "operator"),
        ("POST", "/operator/peers/forget", "forget", "operator"),
        ("POST", "/operator/drain", "drain", "operator"),
        ("POST", "/operator/freeze", "freeze", "operator"),
        ("POST", "/operator/thaw", "thaw", "operator"),
        ("POST", "//operator/%69mport", "import", "operator"),
        ("POST", "/operator/peers%2Fforget", "forget", "operator"),
        ("GET", "/operator/export", "request", "operator"),
        ("GET", "/operator/backup", "request", "operator"),
        ("GET", "/operator/peers", "request", "operator"),
        ("GET", "/operator/peers/forget?name=c", "request", "operator"),
    ],
)
def test_the_audit_log_records_attempts_that_were_not_allowed(method: str, path: str, kind: str, api: str) -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    guarded.ask(method, path.replace("{id}", guarded.id), None, "wrong")
    # These requests need no scope that a token could lack.
    is_open_to_all = (method, path) in (("PUT", "/"), ("PUT", "/v1/agent/self"))
    if not is_open_to_all:
        guarded.ask(method, path.replace("{id}", guarded.id), None, "elsewhere")
    assert refusals.reported() == [(kind, api, None), (kind, api, "elsewhere")][: 1 if is_open_to_all else 2]


def test_a_refusal_records_the_id_and_reason_and_its_answer_has_the_request_id() -> None:
    guarded = Guarded()
    guarded.daemon.telemetry.request_id = RequestIDs(guarded.daemon.random.randbytes)
    refusals = Refusals(guarded)
    _, _, headers, _ = guarded.ask("DELETE", f"/{guarded.id}", {"addr": A}, "read", X_Request_ID="r-1")
    assert headers["x-request-id"] == "r-1"
    (event,) = refusals.events
    assert (event.id, event.client, event.token, event.request, event.why) == (
        guarded.id,
        HOST,
        "read",
        "r-1",
        f"token may not write {guarded.id}",
    )


def test_a_refused_browser_is_in_the_audit_log_too() -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    guarded.ask("GET", f"/{guarded.id}", None, "wrong", Accept="text/html")
    assert refusals.reported() == [("request", "pages", None)]


def test_an_authorized_request_is_not_recorded_as_a_refusal() -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    guarded.ask("GET", f"/{guarded.id}", None, "read")
    guarded.ask("GET", "/readyz")
    guarded.ask("GET", "/readyz", None, "wrong")
    assert refusals.reported() == []


def test_a_flood_of_refusals_is_a_few_lines_and_the_next_line_has_their_number() -> None:
    guarded = Guarded()
    refusals = Refusals(guarded)
    for _ in range(50):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    assert len(refusals.reported()) == 10
    guarded.daemon.clock.advance(1)
    for _ in range(50):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    (event,) = refusals.events
    assert event.more == {"left_out": 40}
    guarded.daemon.clock.advance(100)
    refusals.events.clear()
    for _ in range(2):
        guarded.ask("GET", f"/{guarded.id}", None, "wrong")
    assert [event.more for event in refusals.events] == [{"left_out": 49}, {}]


def test_refusals_displace_no_change_from_the_operators_page_and_are_no_changes() -> None:
    guarded = Guarded()
    guarded.ask("POST", "/", None, "mint")
    outcomes = dict(guarded.daemon.counts.outcomes.by_kind)
    for _ in range(100):
        guarded.ask("POST", f"/{guarded.id}", {"addr": A}, "wrong")
        guarded.daemon.clock.advance(1)
    assert [each.event.kind for each in guarded.daemon.recent.changes] == ["create"]
    assert guarded.daemon.counts.outcomes.by_kind == outcomes


@pytest.mark.parametrize(
    ("reason", "phrase"),
    [
        ("moving\r\nX: y\r\n\r\n<html>", "moving  X: y    <html>"),
        ("umgezogen für immer", "umgezogen für immer"),
        ("x" * 100_000, "x" * 500),
    ],
)
def test_a_reason_that_others_wrote_stays_on_the_status_line(reason: str, phrase: str) -> None:
    for response in (
        refusal_of(Failure(Undecided(reason))).as_json(),
        refusal_of(Failure(Undecided(reason))).as_text(),
    ):
        assert response.reason.decode() == phrase
