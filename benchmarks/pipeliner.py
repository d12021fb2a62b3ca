"""Pipelines requests: `python pipeliner.py PLACE COUNT FILE`.

PLACE is HOST:PORT or the path of a UNIX socket. The bytes in FILE are sent again and again on each
of COUNT connections, as fast as the server reads them, and its answers are thrown away; a
connection is opened anew whenever the server closes it. When stdin ends, one line of JSON is
printed with the number of bytes sent and of connections used.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from pathlib import Path

_BYTES = 1 << 18
_PATIENCE = 30.0


def connect(place: str) -> socket.socket:
    """Return a connection that does not block."""
    if "/" in place:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
        connection.connect(place)
    else:
        host, _, port = place.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=_PATIENCE)
    connection.setblocking(False)
    return connection


class Pipeliner:
    """Connections to one place, and what was sent on them."""

    def __init__(self, place: str, content: bytes) -> None:
        self._place = place
        self._content = content
        self._selector = selectors.DefaultSelector()
        self._unsent: dict[socket.socket, memoryview] = {}
        self.sent = 0
        self.connections = 0

    def run(self, count: int) -> None:
        """Continue on `count` connections until stdin ends."""
        for _ in range(count):
            self._open()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, events in self._selector.select():
                if key.fileobj is sys.stdin:
                    return
                connection: socket.socket = key.data
                if not self._use(connection, events):
                    self._selector.unregister(connection)
                    del self._unsent[connection]
                    connection.close()
                    self._open()

    def _open(self) -> None:
        connection = connect(self._place)
        self.connections += 1
        self._unsent[connection] = memoryview(self._content)
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _use(self, connection: socket.socket, events: int) -> bool:
        """Read and write once; return whether the connection is still open."""
        try:
            if events & selectors.EVENT_READ and not connection.recv(_BYTES):
                return False
            if events & selectors.EVENT_WRITE:
                count = connection.send(self._unsent[connection])
                self.sent += count
                self._unsent[connection] = self._unsent[connection][count:] or memoryview(self._content)
        except ConnectionError:
            return False
        return True


def main(place: str, count: str, file: str) -> None:
    """Pipeline, then print."""
    pipeliner = Pipeliner(place, Path(file).read_bytes())
    pipeliner.run(int(count))
    print(json.dumps({"sent": pipeliner.sent, "connections": pipeliner.connections}))


if __name__ == "__main__":
    main(*sys.argv[1:])
