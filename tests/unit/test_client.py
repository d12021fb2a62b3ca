"""The client library, with a real daemon in memory and with foreign servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived

from rqdisco.backends.limits import Limits
from rqdisco.client import (
    ClaimInfo,
    ClusterSummary,
    LeaderInfo,
    LeaderRecord,
    LeaderValue,
    NodeRegistration,
    Unavailable,
    Unreachable,
)
from tests.support.command import Service
from tests.support.daemon import create_id
from tests.support.foreign_services import CannedAnswer, SlowAnswer, refused, start, unreachable

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
LEADER = LeaderValue(id="n1", api_addr=f"http://{A}", addr="10.0.0.1:4002")
OTHER = LeaderValue(id="n2", api_addr=f"http://{B}", addr="10.0.0.2:4002")


@pytest.mark.usefixtures("each_backend")
def test_a_client_creates_an_id_registers_and_removes_nodes_and_lists_them() -> None:
    service = Service()
    client = service.client()
    created = service.get(client.create())
    assert created.nodes == ()
    assert service.get(client.register(created.disco_id, A, "10.0.0.1:4002", "n1")).nodes == (A,)
    assert service.get(client.register(created.disco_id, B)).nodes == (A, B)
    seen = service.get(client.get(created.disco_id))
    assert seen.registrations == (
        NodeRegistration(addr=A, raft_addr="10.0.0.1:4002", node_id="n1"),
        NodeRegistration(addr=B),
    )
    assert (seen.created_at, seen.leader) == (created.created_at, None)
    assert service.get(client.remove(created.disco_id, B)).nodes == (A,)


@pytest.mark.usefixtures("each_backend")
def test_a_client_creates_an_id_of_a_name_and_is_told_that_it_exists() -> None:
    service = Service()
    client = service.client()
    created = service.get(client.create_named("orders"))
    assert (created.disco_id, created.nodes) == ("orders", ())
    refusal = refused(service, client.create_named("orders"))
    assert (refusal.status, refusal.reason, str(refusal)) == (409, "exists already", "orders exists already")


@pytest.mark.usefixtures("each_backend")
def test_the_service_describes_itself() -> None:
    service = Service()
    create_id(service.daemon)
    service.daemon.recount()
    info = service.get(service.client().service())
    assert (info.name, info.version, info.ids) == ("rqdisco", "0", 1)


@pytest.mark.usefixtures("each_backend")
def test_the_leader_record_can_be_claimed_reported_compared_and_cleared() -> None:
    service = Service()
    client = service.client()
    assert service.get(client.leader("x")) is None
    assert service.get(client.set_leader("x", LEADER, cas=0)) is True
    assert service.get(client.set_leader("x", OTHER, cas=0)) is False
    assert service.get(client.leader("x")) is None
    claimed = service.get(client.get("x"))
    assert (claimed.leader, claimed.nodes) == (None, ())
    assert claimed.claim == ClaimInfo(since="2026-11-18T11:06:40Z", answered=1)
    assert service.get(client.set_leader("x", LEADER)) is True
    record = service.get(client.leader("x"))
    assert record == LeaderRecord(value=LEADER, index=record.index)
    led = service.get(client.get("x"))
    assert led.leader == LeaderInfo(
        id="n1", api_addr=f"http://{A}", addr="10.0.0.1:4002", index=record.index, reported=True
    )
    assert led.registrations[0].leader
    assert led.claim is None
    assert service.get(client.clear_leader("x", cas=record.index + 1)) is False
    assert service.get(client.clear_leader("x")) is True
    assert service.get(client.get("x")).leader is None


@pytest.mark.usefixtures("each_backend")
def test_a_refusal_has_status_reason_and_text() -> None:
    service = Service()
    refusal = refused(service, service.client().get("nobody"))
    assert (refusal.status, refusal.reason, str(refusal)) == (404, "no such discovery ID", "nobody does not exist")
    refusal = refused(service, service.client().register(create_id(service.daemon), "a b"))
    assert (refusal.status, str(refusal)) == (400, "invalid address: contains white space")
    refusal = refused(service, service.client().set_leader("x", LeaderValue(addr="")))
    assert (refusal.status, str(refusal)) == (400, "leader value must be JSON with addr")


@pytest.mark.usefixtures("each_backend")
def test_an_unavailable_service_gives_the_reason_and_a_retry_time() -> None:
    service = Service()
    why = service.daemon.fill()
    refusal = refused(service, service.client().create())
    assert isinstance(refusal, Unavailable)
    assert (refusal.status, refusal.retry_after) == (503, 5.0)
    assert why in str(refusal)
    assert isinstance(refused(service, service.client().set_leader("x", LEADER)), Unavailable)


def test_an_overloaded_service_is_unavailable_too_with_or_without_a_retry_time() -> None:
    for headers, expected in (({"retry_after": "7"}, 7.0), ({"retry_after": "soon"}, None), ({}, None)):
        service = Service(CannedAnswer(429, b'{"error": "too many requests"}', b"", **headers))
        refusal = refused(service, service.client().create())
        assert isinstance(refusal, Unavailable)
        assert (refusal.status, refusal.retry_after) == (429, expected)
    service = Service(CannedAnswer(503, b"<html>", b"Service Unavailable"))
    assert str(refused(service, service.client().create())) == "Service Unavailable"


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a b", "ü", "x" * 65, "a?b", "a#", "%41"])
def test_an_invalid_id_is_never_sent(text: str) -> None:
    service = Service()
    client = service.client()
    for asking in (client.get(text), client.register(text, A), client.remove(text, A), client.leader(text)):
        with pytest.raises(ValueError, match="not a discovery ID"):
            service.get(asking)
    assert service.asked == 0


@pytest.mark.parametrize(
    "answer",
    [
        CannedAnswer(200, b"<html>"),
        CannedAnswer(200, b"[]"),
        CannedAnswer(200, b'{"name": "other", "version": "1", "uptime": 0, "ids": 0}'),
        CannedAnswer(200, b"\xff"),
        CannedAnswer(200, b"[" * 100_000),
        CannedAnswer(404, b"not found"),
        CannedAnswer(301, b"", location="http://elsewhere/"),
        CannedAnswer(502, b'{"error": "x"}'),
        CannedAnswer(504, b""),
        CannedAnswer(500, b'{"error": 5}'),
    ],
    ids=lambda answer: f"{answer._status} {(answer._body or b'')[:8]!r}",
)
def test_an_answer_of_another_service_counts_as_unreachable(answer: CannedAnswer) -> None:
    service = Service(answer)
    assert unreachable(service, service.client().service()).startswith("not a response from rqdisco")
    assert len(answer.requests) == 1


@pytest.mark.parametrize(
    "body", [b"[{}]", b'[{"Value": "!", "ModifyIndex": 1}]', b'[{"Value": "NQ==", "ModifyIndex": 1}]']
)
def test_a_malformed_leader_record_counts_as_unreachable(body: bytes) -> None:
    service = Service(CannedAnswer(200, body))
    assert "not a response from rqdisco" in unreachable(service, service.client().leader("x"))


def test_no_leader_record_is_none_in_both_of_consuls_ways() -> None:
    service = Service(CannedAnswer(200, b"[]"))
    assert service.get(service.client().leader("x")) is None


def test_the_original_services_documents_are_understood() -> None:
    service = Service(CannedAnswer(200, b'{"created_at": "2017-02-20 01:25:45", "disco_id": "x", "nodes": ["a:1"]}'))
    assert service.get(service.client().get("x")).registrations == (NodeRegistration(addr="a:1"),)


@pytest.mark.usefixtures("each_backend")
def test_a_refused_connection_is_unreachable_in_words() -> None:
    service = Service()
    service.away = True
    assert "refused" in unreachable(service, service.client().create())


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DNSLookupError(), "unknown host name"),
        (ConnectError(osError=2), "No such file or directory"),
        (ResponseNeverReceived([]), "ResponseNeverReceived"),
        (ResponseNeverReceived([Failure(ConnectionLost())]), "closed before the response was complete"),
        (
            ResponseNeverReceived([Failure(SSL.Error([("", "", "certificate verify failed")]))]),
            "TLS: certificate verify",
        ),
    ],
)
def test_the_reason_why_a_connection_failed_is_reported(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()

    def fails(*_: object, **__: object) -> Deferred[Any]:
        failed: Deferred[Any] = Deferred()
        failed.errback(error)
        return failed

    monkeypatch.setattr(service, "request", fails)
    assert words in unreachable(service, service.client().create())


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("https://h:1", SSL.Error([("", "", "wrong version number")]), "TLS: wrong version number; if the port speaks"),
        ("https://h:1", ConnectionLost(), "complete; if the port speaks HTTP without TLS, use http://"),
        ("http://h:1", ConnectionLost(), "complete; if the port speaks TLS, use https://"),
        ("unix:/h", ConnectionLost(), "before the response was complete"),
        ("https://h:1", SSL.Error([("", "", "certificate verify failed")]), "TLS: certificate verify failed"),
    ],
)
def test_a_url_of_the_other_scheme_is_said_in_words(
    url: str, error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()

    def fails(*_: object, **__: object) -> Deferred[Any]:
        failed: Deferred[Any] = Deferred()
        failed.errback(ResponseNeverReceived([Failure(error)]))
        return failed

    monkeypatch.setattr(service, "request", fails)
    text = unreachable(service, service.client(url).create())
    assert words in text
    assert ("; if" in text) == ("; if" in words or "use" in words)


def test_a_service_that_never_answers_times_out() -> None:
    service = Service(CannedAnswer(body=None))
    outcome = start(service, service.client(timeout=3).create())
    service.advance(2.9)
    assert not outcome
    service.advance(0.2)
    assert isinstance(outcome[0].value, Unreachable)
    assert str(outcome[0].value) == "no response within 3 s"


def test_a_service_that_sends_its_answer_slowly_times_out_too() -> None:
    server = SlowAnswer()
    service = Service(server)
    outcome = start(service, service.client(timeout=3).create())
    for _ in range(3):
        server.request.write(b" ")
        service.advance(0.9)
    assert not outcome
    service.advance(0.4)
    assert isinstance(outcome[0].value, Unreachable)


def test_an_endless_answer_is_cut_off() -> None:
    server = SlowAnswer()
    service = Service(server)
    outcome = start(service, service.client().create())
    for _ in range(65):
        server.request.write(b" " * (1 << 20))
        service.settle()
    assert "too long" in str(outcome[0].value)


def test_cancelling_a_request_is_not_the_services_fault() -> None:
    service = Service(CannedAnswer(body=None))
    asking = Deferred.fromCoroutine(service.client().create())
    service.settle()
    asking.cancel()
    failures: list[Any] = []
    asking.addErrback(failures.append)
    service.settle()
    assert isinstance(failures[0].value, CancelledError)


def test_a_request_is_json_without_unknown_members() -> None:
    says = CannedAnswer(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
    service = Service(says)
    service.get(service.client().register("x", "ü:1"))
    assert list(map(json.loads, says.bodies)) == [{"addr": "ü:1"}]


@pytest.mark.usefixtures("each_backend")
def test_a_service_with_too_many_ids_creates_none() -> None:
    service = Service(limits=Limits(max_ids=0))
    service.daemon.recount()
    assert str(refused(service, service.client().create())) == "too many discovery IDs"


@pytest.mark.usefixtures("each_backend")
def test_an_operator_lists_ids_of_any_number_and_searches_them() -> None:
    service = Service(operator=True)
    client = service.client()
    created = sorted(create_id(service.daemon) for _ in range(1100))
    service.get(client.register(created[3], A))

    async def listed(search: str = "") -> list[ClusterSummary]:
        return [each async for each in client.clusters(search)]

    assert [each.disco_id for each in service.get(listed())] == created
    (found,) = service.get(listed("10.0.0.1:"))
    assert (found.disco_id, found.nodes, found.leader, found.reported) == (created[3], 1, None, None)
    page = service.get(client.cluster_page(limit=2))
    assert ([each.disco_id for each in page.clusters], page.next) == (created[:2], created[1])
    assert service.get(client.cluster_page(after=created[-2])).next is None
