"""An application whose answers a test gives one by one, and answers as a client receives them."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response


class Asked(Exception):
    """The error that the application raises at some requests."""


class Script:
    """An application whose answers are given when the test says so."""

    def __init__(self) -> None:
        self.open: list[Request] = []
        self.handled: list[bytes] = []
        self.finished: list[bytes] = []
        self.abandoned: list[bytes] = []

    def max_body(self, request: Request) -> int:
        return 8

    def handle(self, request: Request) -> None:
        name = request.path
        self.handled.append(name)
        request.on_abandoned(lambda: self.abandoned.append(name))
        if name.startswith(b"/now"):
            self.answer(request)
        elif name.startswith(b"/raise"):
            self.finished.append(name)
            raise Asked
        else:
            self.open.append(request)
            if name.startswith(b"/stream"):
                request.stream = Ended(lambda: self.answer(request))
            if not name.startswith(b"/later"):
                request.start(Response(200, name))

    def answer(self, request: Request) -> None:
        """Answer a request, or finish its response."""
        if request in self.open:
            self.open.remove(request)
        if request.is_gone:
            return
        self.finished.append(request.path)
        if request.status:
            request.finish()
        else:
            request.respond(Response(200, request.path))


class Ended:
    """A stream of events."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end


def responses_in(data: bytes) -> tuple[list[tuple[int, bytes, bool]], bool]:
    """Return the status, the body and whether the server closes, of each response to anything but
    HEAD; and whether the last one is whole. What follows a response that says so is an error.
    """
    found: list[tuple[int, bytes, bool]] = []
    while data:
        assert not (found and found[-1][2]), "nothing follows Connection: close"
        head, is_whole, data = data.partition(b"\r\n\r\n")
        if not is_whole:
            assert b"HTTP/1.1 ".startswith(head[:9]) or head.startswith(b"HTTP/1.1 ")
            return found, False
        status = int(head.removeprefix(b"HTTP/1.1 ")[:3])
        if status == 100:
            continue
        closes = b"\r\nConnection: close" in head
        if b"\r\nTransfer-Encoding: chunked" in head:
            body = b""
            while True:
                size, is_whole, rest = data.partition(b"\r\n")
                length = int(size, 16) if is_whole else 0
                if not is_whole or len(rest) < length + 2:
                    return found, False
                body, data = body + rest[:length], rest[length + 2 :]
                if not length:
                    break
        else:
            length = int(head.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0])
            body, data = data[:length], data[length:]
            if len(body) < length:
                return found, False
        found.append((status, body, closes))
    return found, True
