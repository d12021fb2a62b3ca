"""Sends a request every 10 ms whatever the daemon does: `python -m benchmarks.prober HOST PORT
FILE-OF-IDS`.

Lookups and registrations take turns, over keep-alive connections. The time of an answer is counted
from the moment at which its request should have been sent, so that a stall counts for every request
that falls into it. When stdin ends, one line of JSON is printed with all samples.
"""

from __future__ import annotations

import gc
import json
import selectors
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

INTERVAL = 0.01
_CONNECTIONS = 32
_FINISH_SECONDS = 10.0


class Sample(NamedTuple):
    """One request: the moment it was due on the monotonic clock, the time it took from then on, and
    how much of that passed before it was sent.
    """

    kind: str
    due: float
    took: float
    unsent: float


class _Request(NamedTuple):
    kind: str
    due: float
    content: bytes


class _Connection:
    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request: _Request | None = None
        self._sent = 0.0
        self._received = b""

    def send(self, request: _Request) -> None:
        self._request, self._sent, self._received = request, time.monotonic(), b""
        self.socket.sendall(request.content)

    def receive(self) -> Sample | None:
        """Read what is there; return the sample if that ends the answer."""
        data = self.socket.recv(65536)
        now, request = time.monotonic(), self._request
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not data or request is None or (end and not head.startswith(b"HTTP/1.1 200 ")):
            raise SystemExit(f"prober: {head!r} in answer to {request}")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return None
        self._request = None
        return Sample(request.kind, request.due, now - request.due, self._sent - request.due)


class Prober:
    """Keeps to its schedule on connections that take turns; where all of them are busy, requests
    wait.
    """

    def __init__(self, host: str, port: int, ids: list[str]) -> None:
        self._ids = ids
        self._free = deque(_Connection(host, port) for _ in range(_CONNECTIONS))
        # The only selector whose timeouts are not rounded to milliseconds.
        self._selector = selectors.SelectSelector()
        for connection in self._free:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._waiting: deque[_Request] = deque()
        self._count = 0
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Probe until stdin ends, and wait for the answers that are due then."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        due, end = time.monotonic(), float("inf")
        while time.monotonic() < end and (end == float("inf") or len(self._free) < _CONNECTIONS):
            while end == float("inf") and due <= time.monotonic():
                self._waiting.append(self._next(due))
                due += INTERVAL
            while self._waiting and self._free:
                self._free.popleft().send(self._waiting.popleft())
            for key, _ in self._selector.select(max(0.0, min(due, end) - time.monotonic())):
                if key.data is None:
                    self._selector.unregister(sys.stdin)
                    end = due = time.monotonic() + _FINISH_SECONDS
                elif (sample := key.data.receive()) is not None:
                    self.samples.append(sample)
                    self._free.append(key.data)

    def _next(self, due: float) -> _Request:
        """Each registration is the first one of its address."""
        number, self._count = self._count, self._count + 1
        path = self._ids[number // 2 % len(self._ids)]
        if number % 2 == 0:
            return _Request("lookup", due, f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        body = json.dumps({"addr": f"172.16.{number >> 8 & 255}.{number & 255}:{4001 + (number >> 16)}"})
        head = f"POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        return _Request("registration", due, (head + body).encode())


def main(arguments: list[str]) -> None:
    """Probe, then print."""
    prober = Prober(arguments[0], int(arguments[1]), Path(arguments[2]).read_text().split())
    gc.disable()
    prober.run()
    print(json.dumps(prober.samples))


if __name__ == "__main__":
    main(sys.argv[1:])
