"""A site, its daemon, and clients that watch an ID, on one clock."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock

from tests.support.backends import new_daemon
from tests.support.connections import Connection, Server, unchunked


class Watcher(Connection):
    """A client that watches an ID; `events` are all that it received."""

    def __init__(self, server: WatchedServer, discovery_id: str, **headers: str) -> None:
        super().__init__(server.site)
        self._received = b""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self._received += self.send(f"GET /{discovery_id}/events HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())

    @property
    def received(self) -> bytes:
        self._received += self.take()
        return self._received

    @property
    def status(self) -> int:
        return int(self.received.split(b" ")[1])

    @property
    def body(self) -> bytes:
        """Decode the chunks."""
        return unchunked(self.received.partition(b"\r\n\r\n")[2])

    @property
    def names(self) -> list[str]:
        return [line[4:].decode() for line in self.body.split(b"\n") if line.startswith(b"id: ")]

    @property
    def events(self) -> list[Any]:
        return [json.loads(line[6:]) for line in self.body.split(b"\n") if line.startswith(b"data: ")]

    @property
    def lists(self) -> list[list[str]]:
        return [event["nodes"] for event in self.events]


class WatchedServer(Server):
    """A site and a daemon on one clock."""

    def __init__(self, clock: Clock | None = None, **apis: Any) -> None:
        super().__init__(clock=clock)
        self.daemon = new_daemon(clock=self.clock, **apis)
        self.site.application = self.daemon.apis.public()

    def watch(self, discovery_id: str, **headers: str) -> Watcher:
        watcher = Watcher(self, discovery_id, **headers)
        self.clock.pump(self.daemon.watch_delays)
        return watcher
