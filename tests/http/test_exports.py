"""Exports of a daemon that stores its records itself."""

from __future__ import annotations

import json

import pytest

from tests.http.test_operator import Operator
from tests.support.connections import request, unchunked
from tests.support.daemon import DAY, Daemon, create_id, register

A = "10.0.0.1:4001"


def test_an_export_continues_while_ids_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(unused_days=600 / DAY)
    ids = [create_id(daemon) for _ in range(250)]
    register(daemon, ids[-1], A)
    operator = Operator(daemon)
    write = operator.transport.write

    def write_and_have_enough(data: bytes) -> None:
        write(data)
        if ids[99].encode() in data:
            operator.protocol.pauseProducing()

    monkeypatch.setattr(operator.transport, "write", write_and_have_enough)
    operator.protocol.dataReceived(request("GET", "/operator/export"))
    operator.clock.advance(0)
    daemon.sweep.startService()
    daemon.clock.pump([60.0] * 15)
    daemon.sweep.stopService()
    assert daemon.size == 1
    operator.protocol.resumeProducing()
    operator.clock.advance(0)
    content = unchunked(operator.take().partition(b"\r\n\r\n")[2])
    assert [record["id"] for record in json.loads(content)["records"]] == [*ids[:100], ids[-1]]
    assert b'],"count":101,' in content
