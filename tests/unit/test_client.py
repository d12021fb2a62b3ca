"""The client library, on a real daemon in memory and on servers that are none."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from rqdisco.client import (
    DamagedExport,
    ExportedLeader,
    ExportedNode,
    ExportedRecord,
    ExportReader,
    Leader,
    LeaderRecord,
    LeaderValue,
    Refused,
    RefusedRecord,
    Registration,
    Unavailable,
    Unreachable,
    connect,
)
from rqdisco.client.urls import parse_url
from rqdisco.home.local import Limits
from tests.support.command import Service
from tests.support.daemon import mint, register

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
LEADER = LeaderValue(id="n1", api_addr=f"http://{A}", addr="10.0.0.1:4002")


class Says(Resource):
    """Answers everything alike, and keeps what it was asked; without a body it never answers."""

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(self, status: int = 200, body: bytes | None = b"", reason: bytes = b"", **headers: str) -> None:
        super().__init__()
        self._status, self._body, self._reason, self._headers = status, body, reason, headers
        self.requests: list[Any] = []
        self.bodies: list[bytes] = []

    def render(self, request: Any) -> Any:
        self.requests.append(request)
        self.bodies.append(request.content.read())
        request.setResponseCode(self._status, self._reason or None)
        for name, value in self._headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return NOT_DONE_YET if self._body is None else self._body


def refused(service: Service, coroutine: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        service.get(coroutine)
    return refusal.value


def unreachable(service: Service, coroutine: Any) -> str:
    with pytest.raises(Unreachable) as reason:
        service.get(coroutine)
    return str(reason.value)


async def listed(records: AsyncIterator[ExportedRecord]) -> list[ExportedRecord]:
    return [record async for record in records]


def test_one_can_mint_an_id_register_and_remove_nodes_and_see_who_is_there() -> None:
    service = Service()
    client = service.client()
    minted = service.get(client.create())
    assert minted.nodes == ()
    assert service.get(client.register(minted.disco_id, A, "10.0.0.1:4002", "n1")).nodes == (A,)
    assert service.get(client.register(minted.disco_id, B)).nodes == (A, B)
    seen = service.get(client.get(minted.disco_id))
    assert seen.registrations == (
        Registration(addr=A, raft_addr="10.0.0.1:4002", node_id="n1"),
        Registration(addr=B),
    )
    assert (seen.created_at, seen.leader) == (minted.created_at, None)
    assert service.get(client.remove(minted.disco_id, B)).nodes == (A,)


def test_the_service_says_what_it_is() -> None:
    service = Service()
    mint(service.daemon)
    info = service.get(service.client().service())
    assert (info.name, info.version, info.ids) == ("rqdisco", "0", 1)


def test_the_leader_record_can_be_claimed_reported_compared_and_cleared() -> None:
    service = Service()
    client = service.client()
    assert service.get(client.leader("x")) is None
    assert service.get(client.set_leader("x", LEADER, cas=0)) is True
    assert service.get(client.set_leader("x", LEADER, cas=0)) is False
    record = service.get(client.leader("x"))
    assert record == LeaderRecord(value=LEADER, index=record.index)
    claimed = service.get(client.get("x"))
    assert claimed.leader == Leader(
        id="n1", api_addr=f"http://{A}", addr="10.0.0.1:4002", index=record.index, reported=False
    )
    assert claimed.registrations[0].leader
    assert service.get(client.set_leader("x", LEADER)) is True
    assert service.get(client.get("x")).leader.reported
    assert service.get(client.clear_leader("x", cas=record.index)) is False
    assert service.get(client.clear_leader("x")) is True
    assert service.get(client.get("x")).leader is None


def test_all_records_come_out_and_go_into_another_daemon() -> None:
    service, other = Service(operator=True), Service(operator=True, seed=1)
    ids = {mint(service.daemon) for _ in range(250)}
    seeded = min(ids)
    register(service.daemon, seeded, A)
    service.get(service.client().set_leader("led", LEADER))
    records = service.get(listed(service.client().export()))
    by_id = {record.id: record for record in records}
    assert set(by_id) == ids | {"led"}
    assert by_id[seeded].nodes == (ExportedNode(addr=A),)
    assert by_id["led"].leader is not None
    result = other.get(other.client().import_records(records[:251], adopt=False))
    assert (result.imported, result.unchanged, result.refused) == (251, 0, ())
    again = other.get(listed(other.client().export()))
    assert {record.id: record for record in again} == by_id
    assert other.get(other.client().import_records(records, adopt=False)).unchanged == 251


def test_records_that_are_not_taken_are_named() -> None:
    service = Service(operator=True)
    bad = ExportedRecord(id="metrics", created_at=1, leader=ExportedLeader(value="{}"))
    result = service.get(service.client().import_records([bad], adopt=True))
    assert result.imported == 0
    assert [record.id for record in result.refused] == ["metrics"]
    assert isinstance(result.refused[0], RefusedRecord)


@pytest.mark.parametrize("verb", ["export", "import"])
def test_the_public_door_exports_and_imports_nothing_and_the_error_says_where_to_go(verb: str) -> None:
    service = Service()
    client = service.client()
    asking = listed(client.export()) if verb == "export" else client.import_records([], adopt=False)
    assert "operator socket" in str(refused(service, asking))


def test_a_refusal_has_status_reason_and_text() -> None:
    service = Service()
    refusal = refused(service, service.client().get("nobody"))
    assert (refusal.status, refusal.reason, str(refusal)) == (404, "no such discovery ID", "nobody does not exist")
    refusal = refused(service, service.client().register(mint(service.daemon), "a b"))
    assert (refusal.status, str(refusal)) == (400, "invalid address: contains white space")
    refusal = refused(service, service.client().set_leader("x", LeaderValue(addr="")))
    assert (refusal.status, str(refusal)) == (400, "leader value must be JSON with addr")


def test_an_unavailable_service_says_why_and_when_to_come_back() -> None:
    service = Service()
    service.daemon.disk.room = 0
    refusal = refused(service, service.client().create())
    assert isinstance(refusal, Unavailable)
    assert (refusal.status, refusal.retry_after) == (503, 5.0)
    assert "no space left" in str(refusal)
    assert isinstance(refused(service, service.client().set_leader("x", LEADER)), Unavailable)


def test_an_overloaded_one_is_unavailable_too_with_or_without_a_time() -> None:
    for headers, expected in (({"retry_after": "7"}, 7.0), ({"retry_after": "soon"}, None), ({}, None)):
        service = Service(Says(429, b'{"error": "too many requests"}', **headers))
        refusal = refused(service, service.client().create())
        assert isinstance(refusal, Unavailable)
        assert (refusal.status, refusal.retry_after) == (429, expected)
    service = Service(Says(503, b"<html>", b"Service Unavailable"))
    assert str(refused(service, service.client().create())) == "Service Unavailable"


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a b", "ü", "x" * 65, "a?b", "a#", "%41"])
def test_what_is_no_id_is_never_sent(text: str) -> None:
    service = Service()
    client = service.client()
    for asking in (client.get(text), client.register(text, A), client.remove(text, A), client.leader(text)):
        with pytest.raises(ValueError, match="not a discovery ID"):
            service.get(asking)
    assert service.asked == 0


@pytest.mark.parametrize(
    "answer",
    [
        Says(200, b"<html>"),
        Says(200, b"[]"),
        Says(200, b'{"name": "other", "version": "1", "uptime": 0, "ids": 0}'),
        Says(200, b"\xff"),
        Says(200, b"[" * 100_000),
        Says(404, b"not found"),
        Says(301, b"", location="http://elsewhere/"),
        Says(502, b'{"error": "x"}'),
        Says(504, b""),
        Says(500, b'{"error": 5}'),
    ],
    ids=lambda answer: f"{answer._status} {(answer._body or b'')[:8]!r}",
)
def test_an_answer_of_somebody_else_counts_as_unreachable(answer: Says) -> None:
    service = Service(answer)
    assert unreachable(service, service.client().service()).startswith("not an")
    assert len(answer.requests) == 1


@pytest.mark.parametrize(
    "body", [b"[{}]", b'[{"Value": "!", "ModifyIndex": 1}]', b'[{"Value": "NQ==", "ModifyIndex": 1}]']
)
def test_a_leader_record_that_is_none_counts_as_unreachable(body: bytes) -> None:
    service = Service(Says(200, body))
    assert "not an answer of rqdisco" in unreachable(service, service.client().leader("x"))


def test_no_leader_record_is_none_in_both_of_consuls_ways() -> None:
    service = Service(Says(200, b"[]"))
    assert service.get(service.client().leader("x")) is None


def test_the_original_services_documents_are_understood() -> None:
    service = Service(Says(200, b'{"created_at": "2017-02-20 01:25:45", "disco_id": "x", "nodes": ["a:1"]}'))
    assert service.get(service.client().get("x")).registrations == (Registration(addr="a:1"),)


def test_a_refused_connection_is_unreachable_in_words() -> None:
    service = Service()
    service.away = True
    assert "refused" in unreachable(service, service.client().create())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DNSLookupError(), "its host name is not known"),
        (ConnectError(osError=2), "No such file or directory"),
        (ResponseNeverReceived([]), "ResponseNeverReceived"),
        (ResponseNeverReceived([Failure(ConnectionLost())]), "closed before all of the answer came"),
        (
            ResponseNeverReceived([Failure(SSL.Error([("", "", "certificate verify failed")]))]),
            "TLS: certificate verify",
        ),
    ],
)
def test_what_keeps_a_connection_from_being_made_is_said(error: Exception, words: str) -> None:
    service = Service()

    def fails(*_: object, **__: object) -> Deferred[Any]:
        failed: Deferred[Any] = Deferred()
        failed.errback(error)
        return failed

    service.request = fails  # type: ignore[method-assign]
    assert words in unreachable(service, service.client().create())


def start(service: Service, coroutine: Any) -> list[Any]:
    """Run a coroutine; what it ends with is put into the list."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
    service.settle()
    return outcome


def test_a_service_that_says_nothing_is_given_up_in_time() -> None:
    service = Service(Says(body=None))
    outcome = start(service, service.client(timeout=3).create())
    service.advance(2.9)
    assert not outcome
    service.advance(0.2)
    assert isinstance(outcome[0].value, Unreachable)
    assert str(outcome[0].value) == "no answer within 3 s"


class Dribbles(Resource):
    """Sends a part of its answer, and then another one whenever it is told to."""

    isLeaf = True  # noqa: N815, it is Twisted's

    def render(self, request: Any) -> Any:
        self.request = request
        request.write(b"{")
        return NOT_DONE_YET


def test_a_service_that_dribbles_its_answer_is_given_up_in_the_same_time() -> None:
    server = Dribbles()
    service = Service(server)
    outcome = start(service, service.client(timeout=3).create())
    for _ in range(3):
        server.request.write(b" ")
        service.advance(0.9)
    assert not outcome
    service.advance(0.4)
    assert isinstance(outcome[0].value, Unreachable)


def test_an_answer_without_end_is_cut_off() -> None:
    server = Dribbles()
    service = Service(server)
    outcome = start(service, service.client().create())
    for _ in range(65):
        server.request.write(b" " * (1 << 20))
        service.settle()
    assert "too long" in str(outcome[0].value)


def test_giving_up_oneself_is_not_the_services_fault() -> None:
    service = Service(Says(body=None))
    asking = Deferred.fromCoroutine(service.client().create())
    service.settle()
    asking.cancel()
    failures: list[Any] = []
    asking.addErrback(failures.append)
    service.settle()
    assert isinstance(failures[0].value, CancelledError)


def exported(*records: bytes, count: int | None = None, crc: str | None = None, tail: bytes = b"") -> bytes:
    head = b'{"format":"rqdisco export","version":1,"count":%d,"records":[\n' % len(records)
    body = head + b",\n".join(records) + (b"\n" if records else b"")
    last = b'],"count":%d,"crc":"%s"}\n' % (
        len(records) if count is None else count,
        (crc or f"{zlib.crc32(body):08x}").encode(),
    )
    return body + last + tail


RECORD = b'{"id":"a","created_at":1}'


def test_an_export_is_read_line_by_line() -> None:
    service = Service(Says(200, exported(RECORD, RECORD)))
    assert service.get(listed(service.client().export())) == [ExportedRecord(id="a", created_at=1)] * 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut off"),
        (b"<html>", "not the beginning"),
        (b'{"format":"other","version":1,"count":0,"records":[\n', "not an export"),
        (b'{"format":"rqdisco export","version":2,"count":0,"records":[\n', "use a newer one"),
        (exported(RECORD)[:-30], "cut off after line 2"),
        (exported(RECORD).rpartition(b"]")[0], "cut off after line 2"),
        (exported(RECORD)[:-5], "not the end"),
        (exported(RECORD, count=2), "1 records, not 2"),
        (exported(RECORD, crc="00000000"), "CRC"),
        (exported(RECORD).replace(b'"a"', b'"b"'), "CRC"),
        (exported(RECORD, tail=b"more"), "something follows"),
        (exported(b'{"id":5}'), "not an answer of rqdisco"),
    ],
)
def test_an_export_that_is_not_whole_is_never_taken_for_one(content: bytes, words: str) -> None:
    service = Service(Says(200, content))
    assert words in unreachable(service, listed(service.client().export()))


def test_a_line_without_end_is_cut_off() -> None:
    server = Dribbles()
    service = Service(server)
    outcome = start(service, listed(service.client().export()))
    for _ in range(17):
        server.request.write(b" " * (1 << 20))
        service.settle()
    assert "too long" in str(outcome[0].value)


def test_an_export_may_take_its_time_but_not_fall_silent() -> None:
    server = Dribbles()
    service = Service(server)
    outcome = start(service, listed(service.client(timeout=3).export()))
    for _ in range(5):
        server.request.write(b" ")
        service.advance(2)
    assert not outcome
    service.advance(3)
    assert isinstance(outcome[0].value, Unreachable)


def test_a_reader_that_leaves_an_export_lets_its_connection_go() -> None:
    server = Dribbles()
    service = Service(server)

    async def first_line() -> bytes:
        async with aclosing(service.client().export_lines()) as lines:
            async for line in lines:
                return line
        raise AssertionError

    outcome = start(service, first_line())
    gone: list[Any] = []
    server.request.notifyFinish().addErrback(gone.append)
    server.request.write(b"\n")
    service.settle()
    assert outcome == [b"{\n"]
    assert gone


def test_an_export_reader_counts_what_it_was_given() -> None:
    reader = ExportReader()
    for line in exported(RECORD, RECORD).splitlines(keepends=True):
        reader.feed(line)
    reader.finish()
    assert (reader.announced, reader.count) == (2, 2)
    with pytest.raises(DamagedExport):
        ExportReader().finish()


def test_credentials_in_the_url_are_sent_as_basic_authentication_and_nowhere_else() -> None:
    says = Says(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
    service = Service(says)
    service.get(service.client("http://me:p%40%C3%BC@rqdisco:4000/prefix/").get("x"))
    (request,) = says.requests
    assert request.uri == b"/prefix/x"
    assert request.getHeader("host") == "rqdisco:4000"
    given = base64.b64decode(request.getHeader("authorization").removeprefix("Basic ")).decode()
    assert given == "me:p@ü"
    service.get(service.client().get("x"))
    assert says.requests[1].getHeader("authorization") is None


def test_an_ipv6_address_and_a_name_of_other_scripts_can_be_asked() -> None:
    for url, host in (("http://[::1]:4000", "[::1]:4000"), ("http://bücher.example", "xn--bcher-kva.example")):
        says = Says(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
        service = Service(says)
        service.get(service.client(url).get("x"))
        assert says.requests[0].getHeader("host") == host


def test_what_is_sent_is_json_and_says_nothing_that_is_not_known() -> None:
    says = Says(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
    service = Service(says)
    service.get(service.client().register("x", "ü:1"))
    assert list(map(json.loads, says.bodies)) == [{"addr": "ü:1"}]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h", "http://h"),
        ("https://user:secret@h:1/", "https://h:1"),
        ("http://[::1]:4000", "http://[::1]:4000"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:x.sock", "unix:x.sock"),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, name: str) -> None:
    assert parse_url(url).name == name


@pytest.mark.parametrize(
    "url",
    ["", "h:4000", "ftp://h", "http://", "http://h:x", "http://h:70000", "http://h?x", "http://h#x", "http://[::1",
     "http://a..b", "http://" + "a" * 70, "unix:", "unix://h/x", "unix:/a\0b", "http://\ud800"],
)  # fmt: skip
def test_what_is_no_url_of_a_service_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url(url)


def test_a_unix_url_goes_to_the_socket_and_others_to_their_host() -> None:
    reactor = MemoryReactorClock()
    asking = [
        Deferred.fromCoroutine(connect(reactor, "unix:/run/x.sock").create()),
        Deferred.fromCoroutine(connect(reactor, "http://[::1]:4001").create()),
    ]
    assert reactor.unixClients[0][0] == "/run/x.sock"
    assert reactor.tcpClients[0][1] == 4001
    for each in asking:
        each.cancel()
        each.addErrback(lambda failure: failure.trap(CancelledError))


def test_a_service_that_has_too_many_ids_mints_none() -> None:
    service = Service(limits=Limits(max_ids=0))
    assert str(refused(service, service.client().create())) == "too many discovery IDs"


def test_a_url_with_a_slash_in_its_password_is_refused_without_showing_a_part_of_it() -> None:
    with pytest.raises(ValueError, match="%2F") as refusal:
        parse_url("http://user:pa/ss@host:4000")
    assert "'pa'" not in str(refusal.value)
