"""The number of functions that a registration enters, from the connection to the disk and
back; and what it leaves behind.
"""

from __future__ import annotations

import gc
import json

import pytest

from rqdisco.http.server.throttling import ThrottledApplication
from tests.support.connections import Connection, Server, request
from tests.support.entered import entered

MOST_CALLS = 129


def ask(connection: Connection, path: str, document: object = None) -> dict[str, object]:
    head, _, body = connection.send(request("POST", path, document)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    answer: dict[str, object] = json.loads(body)
    return answer


def test_a_registration_that_is_listed_enters_few_functions() -> None:
    server = Server()
    application = server.daemon.apis.public()
    # No CPU time passes: what a slow machine takes beyond the estimate is charged besides.
    server.site.application = ThrottledApplication(application, server.clock, rate=1000, cpu=float)
    connection = server.connect()
    path = f"/{ask(connection, '/')['disco_id']}"
    for number in (1, 2):
        ask(connection, path, {"addr": f"10.0.0.{number}:4001"})
    answers: list[dict[str, object]] = []
    calls = entered(lambda: answers.append(ask(connection, path, {"addr": "10.0.0.3:4001"})))
    assert answers[0]["nodes"] == ["10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"]
    assert len(calls) <= MOST_CALLS, "\n".join(["", *calls, f"{len(calls)} calls"])


@pytest.mark.parametrize("path", ["/", "/ID"], ids=["creation", "registration"])
def test_a_request_that_waited_for_the_disk_leaves_nothing_for_the_garbage_collector(path: str) -> None:
    server = Server()
    connection = server.connect()
    path = path.replace("ID", str(ask(connection, "/")["disco_id"]))
    ask(connection, path, {"addr": "10.0.0.1:4001"})
    gc.collect()
    gc.disable()
    try:
        server.daemon.threads.hold = True
        for number in (2, 3):
            # The second one lets the watch over the time of the first one end.
            assert connection.send(request("POST", path, {"addr": f"10.0.0.{number}:4001"})) == b""
            server.daemon.threads.release_all()
            assert connection.take().startswith(b"HTTP/1.1 200 ")
        assert gc.collect() == 0
    finally:
        gc.enable()
