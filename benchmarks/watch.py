"""A thousand watchers of one ID: the delay until the last of them receives a registration, and its
cost to the daemon.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import BenchmarkFailed, Client, Rqdisco

WATCHERS = 1000
_CHANGES = 100
_REST_SECONDS = 0.25
_PATIENCE = 30.0
_BYTES = 1 << 16


class Propagation(NamedTuple):
    """The time from sending a registration until the last watcher has its event; CPU time of the
    daemon for each event.
    """

    p50_ms: float
    p99_ms: float
    cpu_ms: float


class _Watchers:
    """Connections that watch an ID, and the number of events that each has received."""

    def __init__(self, stack: ExitStack, host: str, port: int, discovery_id: str) -> None:
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._counts: dict[socket.socket, int] = {}
        request = f"GET /{discovery_id}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        for _ in range(WATCHERS):
            connection = stack.enter_context(socket.create_connection((host, port), timeout=_PATIENCE))
            connection.sendall(request)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, connection)
            self._counts[connection] = 0

    def wait_for(self, number: int) -> float:
        """Return the moment at which the last of them has this many events."""
        begun = time.monotonic()
        missing = {connection for connection, count in self._counts.items() if count < number}
        while missing:
            if time.monotonic() - begun > _PATIENCE:
                raise BenchmarkFailed(f"{len(missing)} watchers have received nothing after {_PATIENCE} s")
            for key, _ in self._selector.select(_PATIENCE):
                connection: socket.socket = key.data
                data = connection.recv(_BYTES)
                if not data:
                    raise BenchmarkFailed("a watcher was let go")
                self._counts[connection] += data.count(b"\ndata: ")
                if self._counts[connection] >= number:
                    missing.discard(connection)
        return time.monotonic()


def watch_round(directory: Path) -> Propagation:
    """Measure registrations one by one, each with all watchers waiting for it; the list is
    short.
    """
    with ExitStack() as stack:
        daemon = stack.enter_context(Rqdisco(directory / "state", directory / "run"))
        host, port = daemon.address()
        client = Client(host, port)
        discovery_id = client.ask("POST", "/")["disco_id"]
        for number in range(3):
            client.ask("POST", f"/{discovery_id}", {"addr": f"10.0.0.{number}:4001"})
        watchers = _Watchers(stack, host, port, discovery_id)
        watchers.wait_for(1)
        time.sleep(_REST_SECONDS)
        taken, before = [], daemon.cpu_seconds()
        for number in range(_CHANGES):
            begun = time.monotonic()
            client.ask("POST", f"/{discovery_id}", {"addr": "10.0.1.1:4001"})
            taken.append(watchers.wait_for(2 + 2 * number) - begun)
            time.sleep(_REST_SECONDS)
            client.ask("DELETE", f"/{discovery_id}", {"addr": "10.0.1.1:4001"})
            watchers.wait_for(3 + 2 * number)
            time.sleep(_REST_SECONDS)
        cpu = (daemon.cpu_seconds() - before) / (2 * _CHANGES)
        client.close()
    taken.sort()
    return Propagation(1e3 * taken[len(taken) // 2], 1e3 * taken[int(0.99 * len(taken))], 1e3 * cpu)
