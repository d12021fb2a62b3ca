"""Commands that move all records: export, import."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from rqdisco.cli.app import DONE, REFUSED, App, Failed
from rqdisco.cli.screen import ids_in_words
from rqdisco.cli.sources import BadSource, Source, open_source
from rqdisco.client import (
    MAX_IMPORT,
    DamagedExport,
    ExportedRecord,
    ExportReader,
    ImportResult,
    Refused,
    RefusedRecord,
    Unreachable,
)
from rqdisco.core.escaping import ascii_json
from rqdisco.security.atomic_file import replacing

_BATCH_BYTES = 1 << 20
_LAST = b"],"
_THROUGH = "say --url unix:/run/rqdisco/operator.sock, or wherever its --operator-socket is"


async def export(app: App, output: Path | None) -> int:
    """Write the export to a file that only its owner can read, which is there only if it is whole,
    or to stdout.
    """
    if output is None:
        count = await _export_to(app, app.screen.json)
        app.screen.lines([])
    else:
        with _written(output) as file:
            count = await _export_to(app, file.write)
    app.screen.say(f"exported {ids_in_words(count)}")
    return DONE


async def import_(app: App, path: Path, stdin: BinaryIO, *, adopt: bool, dry_run: bool) -> int:
    """Import a file or directory, `-` for stdin, and print how many records were imported,
    unchanged and refused.
    """
    with _readable(path, stdin) as readable:
        try:
            source = open_source(readable)
        except BadSource as error:
            raise Failed(f"nothing was imported: {str(error).replace(str(readable), str(path))}") from None
        if dry_run:
            app.screen.say(f"{path}: {source.what}, {ids_in_words(source.count)}; nothing was sent")
            return DONE
        result = await _import_all(app, source, adopt=adopt)
    for refused in result.refused:
        app.screen.say(f"refused {refused.id}: {refused.why}")
    counts = {"imported": result.imported, "unchanged": result.unchanged, "refused": len(result.refused)}
    app.screen.lines([f"{name} {count}" for name, count in counts.items()])
    return REFUSED if result.refused else DONE


def batches(records: Iterator[ExportedRecord]) -> Iterator[list[ExportedRecord]]:
    """The records in as many as the service takes at once, of a megabyte at most unless one alone
    is larger.
    """
    batch: list[ExportedRecord] = []
    size = 0
    for record in records:
        length = len(msgspec.json.encode(record))
        if batch and (len(batch) == MAX_IMPORT or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


async def _export_to(app: App, write: Callable[[bytes], object]) -> int:
    reader, plain = ExportReader(), _InASCII()
    try:
        async with aclosing(app.client.export_lines()) as lines:
            first = await anext(lines)
            reader.feed(first)
            write(plain.line(first))
            with app.screen.progress("exporting", reader.announced) as advance:
                async for line in lines:
                    advance(reader.feed(line) is not None)
                    write(plain.line(line))
        reader.finish()
    except StopAsyncIteration:
        raise Unreachable("the export is empty") from None
    except DamagedExport as error:
        raise Unreachable(f"the export is not whole: {error}") from None
    except Refused as error:
        raise _refused(error) from None
    return reader.count


class _InASCII:
    """An export that says the same in ASCII, with a CRC of what it is now.

    It may end up on a terminal, which characters that JSON allows would drive, and it may have come
    from anybody.
    """

    def __init__(self) -> None:
        self._before = self._now = 0
        self._lines = 0

    def line(self, line: bytes) -> bytes:
        """The next line, with its end. Raises DamagedExport for what is in no export."""
        self._lines += 1
        try:
            written = ascii_json(line)
        except ValueError as error:
            raise DamagedExport(f"line {self._lines}: {error}") from None
        if line.startswith(_LAST):
            written = written.replace(b'"%08x"' % self._before, b'"%08x"' % self._now)
        self._before = zlib.crc32(line, self._before)
        self._now = zlib.crc32(written, self._now)
        return written


async def _import_all(app: App, source: Source, *, adopt: bool) -> ImportResult:
    imported = unchanged = sent = 0
    refused: list[RefusedRecord] = []
    try:
        with app.screen.progress("importing", source.count) as advance:
            for batch in batches(source.records()):
                result = await app.client.import_records(batch, adopt=adopt)
                imported += result.imported
                unchanged += result.unchanged
                refused += result.refused
                sent += len(batch)
                advance(len(batch))
    except Refused as error:
        raise _refused(error) from None
    except Unreachable:
        app.screen.say(f"{sent} of {source.count} IDs were imported; run it again, what is there is left unchanged")
        raise
    return ImportResult(imported=imported, unchanged=unchanged, refused=tuple(refused))


def _refused(error: Refused) -> Failed:
    return Failed(f"{error}: {_THROUGH}" if error.status == 404 else str(error))


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when all is in it. IDs are secrets, so only its owner can read
    it.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as special:
            yield special
        return
    with replacing(path) as file:
        yield file


@contextmanager
def _readable(path: Path, stdin: BinaryIO) -> Iterator[Path]:
    """A file that can be read twice, which a pipe cannot."""
    if str(path) != "-":
        yield path
        return
    with tempfile.NamedTemporaryFile() as file:
        shutil.copyfileobj(stdin, file)
        file.flush()
        yield Path(file.name)
