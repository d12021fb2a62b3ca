"""Pipelines requests on one connection: `python pipeliner.py PLACE FILE`.

PLACE is HOST:PORT or the path of a UNIX socket. The bytes in FILE are sent again and again, as fast
as the server reads them, and its answers are thrown away; the connection is opened anew whenever
the server closes it. When stdin ends, one line of JSON is printed with the number of bytes sent and
of connections used.
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
    """One connection at a time, and what was sent on all of them."""

    def __init__(self, place: str, content: bytes) -> None:
        self._place = place
        self._content = content
        self.sent = 0
        self.connections = 0

    def run(self) -> None:
        """Continue until stdin ends."""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            while self._use_connection(selector):
                pass

    def _use_connection(self, selector: selectors.BaseSelector) -> bool:
        """Use one connection until it is closed; return whether stdin goes on."""
        self.connections += 1
        rest = memoryview(self._content)
        with connect(self._place) as connection:
            key = selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            try:
                while True:
                    for ready, events in selector.select():
                        if ready.fd != key.fd:
                            return False
                        if events & selectors.EVENT_READ and not connection.recv(_BYTES):
                            return True
                        if events & selectors.EVENT_WRITE:
                            count = connection.send(rest)
                            self.sent += count
                            rest = rest[count:] or memoryview(self._content)
            except ConnectionError:
                return True
            finally:
                selector.unregister(connection)


def main(place: str, file: str) -> None:
    """Pipeline, then print."""
    pipeliner = Pipeliner(place, Path(file).read_bytes())
    pipeliner.run()
    print(json.dumps({"sent": pipeliner.sent, "connections": pipeliner.connections}))


if __name__ == "__main__":
    main(*sys.argv[1:])
