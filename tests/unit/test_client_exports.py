"""The client library: all records, out of a daemon and into one."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from rqdisco.client import (
    DamagedExport,
    ExportedLeader,
    ExportedNode,
    ExportedRecord,
    ExportReader,
    LeaderValue,
    RefusedRecord,
    Unreachable,
)
from tests.support.command import Service
from tests.support.daemon import create_id, register
from tests.support.foreign_services import CannedAnswer, SlowAnswer, refused, start, unreachable

pytestmark = pytest.mark.usefixtures("each_backend")

A = "10.0.0.1:4001"
LEADER = LeaderValue(id="n1", api_addr=f"http://{A}", addr="10.0.0.1:4002")


def owned(record: ExportedRecord) -> ExportedRecord:
    assert record.decisions is not None
    assert record.decisions.ownerless
    return replace(record, decisions=replace(record.decisions, ownerless=False))


async def listed(records: AsyncIterator[ExportedRecord]) -> list[ExportedRecord]:
    return [record async for record in records]


def test_all_records_can_be_exported_and_imported_into_another_daemon() -> None:
    service, other = Service(operator=True), Service(operator=True, seed=1)
    ids = {create_id(service.daemon) for _ in range(250)}
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
    # Nothing is granted there, since the records kept their owner.
    assert {record.id: owned(record) for record in again} == by_id
    assert other.get(other.client().import_records(records, adopt=False)).unchanged == 251


def test_refused_records_are_named() -> None:
    service = Service(operator=True)
    bad = ExportedRecord(id="metrics", created_at=1, leader=ExportedLeader(value="{}"))
    result = service.get(service.client().import_records([bad], adopt=True))
    assert result.imported == 0
    assert [record.id for record in result.refused] == ["metrics"]
    assert isinstance(result.refused[0], RefusedRecord)


@pytest.mark.parametrize("verb", ["export", "import"])
def test_the_public_api_neither_exports_nor_imports_and_the_error_names_the_socket(verb: str) -> None:
    service = Service()
    client = service.client()
    asking = listed(client.export()) if verb == "export" else client.import_records([], adopt=False)
    assert "operator socket" in str(refused(service, asking))


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
    service = Service(CannedAnswer(200, exported(RECORD, RECORD)))
    assert service.get(listed(service.client().export())) == [ExportedRecord(id="a", created_at=1)] * 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"<html>", "not the header"),
        (b'{"format":"other","version":1,"count":0,"records":[\n', "not an rqdisco export"),
        (b'{"format":"rqdisco export","version":3,"count":0,"records":[\n', "use a newer release"),
        (exported(RECORD)[:-30], "truncated after line 2"),
        (exported(RECORD).rpartition(b"]")[0], "truncated after line 2"),
        (exported(RECORD)[:-5], "not the trailer"),
        (exported(RECORD, count=2), "read 1 records, expected 2"),
        (exported(RECORD, crc="00000000"), "CRC"),
        (exported(RECORD).replace(b'"a"', b'"b"'), "CRC"),
        (exported(RECORD, tail=b"more"), "unexpected data after the end"),
        (exported(b'{"id":5}'), "not a response from rqdisco"),
    ],
)
def test_an_incomplete_export_is_never_accepted(content: bytes, words: str) -> None:
    service = Service(CannedAnswer(200, content))
    assert words in unreachable(service, listed(service.client().export()))


def test_an_endless_line_is_cut_off() -> None:
    server = SlowAnswer()
    service = Service(server)
    outcome = start(service, listed(service.client().export()))
    for _ in range(17):
        server.request.write(b" " * (1 << 20))
        service.settle()
    assert "too long" in str(outcome[0].value)


def test_an_export_may_be_slow_but_not_stall() -> None:
    server = SlowAnswer()
    service = Service(server)
    outcome = start(service, listed(service.client(timeout=3).export()))
    for _ in range(5):
        server.request.write(b" ")
        service.advance(2)
    assert not outcome
    service.advance(3)
    assert isinstance(outcome[0].value, Unreachable)


def test_a_reader_that_leaves_an_export_closes_its_connection() -> None:
    server = SlowAnswer()
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


def test_an_export_reader_counts_its_records() -> None:
    reader = ExportReader()
    for line in exported(RECORD, RECORD).splitlines(keepends=True):
        reader.feed(line)
    reader.finish()
    assert (reader.announced, reader.count) == (2, 2)
    with pytest.raises(DamagedExport):
        ExportReader().finish()
