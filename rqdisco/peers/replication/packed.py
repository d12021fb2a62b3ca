"""Keys of records in a row, in the 16 bytes of a UUID each, where the text of one takes five times as much."""

from __future__ import annotations

import re
from binascii import unhexlify

_SIZE = 16
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
# No ID that is minted begins so: what does stands for a key that is no UUID, or none that this can hold.
_OTHER = bytes(8)


class PackedKeys:
    """Grows at the end and is cut at the beginning. Keys that are no UUIDs take more, as nobody mints such."""

    def __init__(self) -> None:
        self._row = bytearray()
        self._others: dict[bytes, bytes] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._row) // _SIZE

    def append(self, key: bytes) -> None:
        """Put one at the end."""
        if _UUID.match(key) and not key.startswith(b"00000000-0000-0000"):
            self._row += unhexlify(key.replace(b"-", b""))
            return
        self._next += 1
        number = _OTHER + self._next.to_bytes(8, "big")
        self._others[number] = key
        self._row += number

    def __getitem__(self, index: int) -> bytes:
        packed = bytes(self._row[_SIZE * index : _SIZE * (index + 1)])
        if packed.startswith(_OTHER):
            return self._others[packed]
        text = packed.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()

    def cut(self, count: int) -> None:
        """Drop so many at the beginning."""
        for start in range(0, _SIZE * count, _SIZE) if self._others else ():
            self._others.pop(bytes(self._row[start : start + _SIZE]), None)
        del self._row[: _SIZE * count]
