"""A parser of server-sent events (WHATWG HTML, section 9.2), for `DiscoveryClient.watch`."""

from __future__ import annotations

from collections.abc import Iterator

from rqdisco.client.errors import Unreachable

_MAX_EVENT = 64 << 20


class EventReader:
    """Parse a stream of events from chunks of bytes. Event names and other fields are ignored."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that ends in this chunk. Raises Unreachable if an event is
        larger than 64 MiB, which rqdisco never sends.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in (each.removesuffix(b"\r") for each in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data, self._size = [], 0
        if self._size + len(self._rest) > _MAX_EVENT:
            raise Unreachable("not a response from rqdisco: it is too long")
