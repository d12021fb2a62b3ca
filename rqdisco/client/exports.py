"""The format of an export: one JSON object with one record per line, ended by a count and a CRC.
A backup is the same with another header.

{"format":"rqdisco export","version":2,"count":2,"records":[
{"id":...},
{"id":...}
],"count":2,"crc":"0a1b2c3d"}
"""

from __future__ import annotations

import zlib

import msgspec

FORMAT = "rqdisco export"
VERSION = 2
BACKUP_FORMAT = "rqdisco backup"
BACKUP_VERSION = 5
MAX_LINE = 16 << 20
_HEADER_END = b',"records":[\n'
_TRAILER_START = b"],"


class DamagedExport(ValueError):
    """A corrupt or truncated export; the text names the line."""


class _ExportHeader(msgspec.Struct):
    format: str
    version: int
    # A backup does not announce it.
    count: int = 0


class _ExportTrailer(msgspec.Struct):
    count: int
    crc: str


class ExportReader:
    """Read and check an export line by line, or another document of such lines, in `document_format`
    of a version up to `newest`. Records are trustworthy only after `finish` returns.

    `announced` is the number of records by the header, `count` the number of records read.
    """

    def __init__(self, document_format: str = FORMAT, newest: int = VERSION) -> None:
        self._format = document_format
        self._newest = newest
        self.announced = 0
        self.count = 0
        self._lines = 0
        self._crc = 0
        self._ended = False

    def feed(self, line: bytes) -> bytes | None:
        """Return the record in the next line, None for the first and the last line. `line` includes
        its end. Raises DamagedExport.
        """
        self._lines += 1
        if self._lines == 1:
            self._check_header(line)
        elif self._ended:
            raise self._damaged("unexpected data after the end")
        elif line.startswith(_TRAILER_START):
            self._check_trailer(line)
            return None
        self._crc = zlib.crc32(line, self._crc)
        if self._lines == 1:
            return None
        self.count += 1
        return line.rstrip(b"\r\n").removesuffix(b",")

    def finish(self) -> None:
        """Check that the export is complete. Raises DamagedExport."""
        if not self._ended:
            raise DamagedExport(f"truncated after line {self._lines}")

    def _check_header(self, line: bytes) -> None:
        try:
            header = msgspec.json.decode(line.removesuffix(_HEADER_END) + b"}", type=_ExportHeader)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._damaged(f"not the header of an {self._format}") from None
        if header.format != self._format:
            raise self._damaged(f"not an {self._format}")
        if header.version > self._newest:
            raise DamagedExport(f"version {header.version} is too new for this release: use a newer release")
        self.announced = header.count

    def _check_trailer(self, line: bytes) -> None:
        try:
            trailer = msgspec.json.decode(b"{" + line.removeprefix(_TRAILER_START), type=_ExportTrailer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._damaged("not the trailer of an export") from None
        if trailer.count != self.count:
            raise self._damaged(f"read {self.count} records, expected {trailer.count}")
        if trailer.crc != f"{self._crc:08x}":
            raise self._damaged("CRC mismatch")
        self._ended = True

    def _damaged(self, what: str) -> DamagedExport:
        return DamagedExport(f"line {self._lines}: {what}")


class LineSplitter:
    """Split chunks of bytes into lines. `rest` is the incomplete last line."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes, with their ends. Raises DamagedExport if a
        line is longer than 16 MiB.
        """
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) > MAX_LINE:
            raise DamagedExport("a line is too long")
        return [line + b"\n" for line in lines]
