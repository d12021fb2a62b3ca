"""How many functions of the package a registration enters, from the connection to the disk and
back; and what it leaves behind.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import rqdisco
from rqdisco.http.server.throttling import ThrottledApplication
from tests.support.connections import Connection, Server, request

ROOT = f"{Path(rqdisco.__file__).parent}/"
MOST_CALLS = 129


def entered(action: Callable[[], object]) -> list[str]:
    """Functions of the package that `action` enters, in order; comprehensions are not counted, and
    a coroutine that is resumed is not counted again.
    """
    frames: set[FrameType] = set()
    names: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or frame in frames or not code.co_filename.startswith(ROOT):
            return
        if code.co_name == "<lambda>" or not code.co_name.startswith("<"):
            frames.add(frame)
            names.append(f"{code.co_filename.removeprefix(ROOT)} {code.co_qualname}")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(before)
    return names


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
