"""Server-sent events, as a stream of bytes brings them (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Iterator

from rqdisco.client.errors import Unreachable

_MOST_BYTES = 64 << 20


class EventReader:
    """Takes pieces in, and gives the data of each event that is whole. Names and other fields are
    passed over.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The events that end in this piece. Raises Unreachable where one is longer than any of
        rqdisco.
        """
        *lines, self._rest = (self._rest + part).split(b"\n")
        for ended in lines:
            line = ended.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data, self._size = [], 0
        if self._size + len(self._rest) > _MOST_BYTES:
            raise Unreachable("not an answer of rqdisco: it is too long")
