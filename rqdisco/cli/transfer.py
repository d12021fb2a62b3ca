"""The commands `rqdisco export` and `rqdisco import`, which transfer all records of a service."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from rqdisco.cli.app import DONE, FAILED, App, CommandFailed, operator_failure
from rqdisco.cli.import_sources import BadSource, ImportSource, open_source
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
from rqdisco.core.plurals import counted
from rqdisco.security.atomic_file import replacing

_BATCH_BYTES = 1 << 20
_TRAILER_START = b"],"


async def export(app: App, output: Path | None) -> int:
    """Write the export to stdout or to a file that only its owner can read. The file appears only
    if the export is complete.
    """
    if output is None:
        count = await _export_to(app, app.output.json)
        app.output.lines([])
    else:
        with open_output(output) as file:
            count = await _export_to(app, file.write)
    app.output.message(f"exported {counted(count, 'ID')}")
    return DONE


async def import_(app: App, path: Path, stdin: BinaryIO, *, adopt: bool, dry_run: bool, as_json: bool) -> int:
    """Import a file or directory, or stdin if `path` is `-`, and print how many records were
    imported, unchanged and refused.
    """
    with _rereadable(path, stdin) as readable:
        try:
            source = open_source(readable)
        except BadSource as error:
            raise CommandFailed(f"nothing imported: {str(error).replace(str(readable), str(path))}") from None
        if dry_run:
            if as_json:
                app.output.document({"kind": source.kind, "count": source.count})
            app.output.message(f"{path}: {source.kind}, {counted(source.count, 'ID')}; nothing sent")
            return DONE
        result = await _import_all(app, source, adopt=adopt)
    for refused in result.refused:
        app.output.message(f"refused {refused.id}: {refused.why}")
    if as_json:
        app.output.document(result)
        return FAILED if result.refused else DONE
    counts = {"imported": result.imported, "unchanged": result.unchanged, "refused": len(result.refused)}
    app.output.lines([f"{name} {count}" for name, count in counts.items()])
    return FAILED if result.refused else DONE


def batches(records: Iterator[ExportedRecord]) -> Iterator[list[ExportedRecord]]:
    """Split records into batches of at most 500 records and 1 MiB; a larger record is a batch of
    its own.
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
    reader, encoder = ExportReader(), _ASCIIEncoder()
    try:
        async with aclosing(app.client.export_lines()) as lines:
            first = await anext(lines)
            reader.feed(first)
            write(encoder.encode(first))
            with app.output.progress("exporting", reader.announced) as advance:
                async for line in lines:
                    advance(reader.feed(line) is not None)
                    write(encoder.encode(line))
        reader.finish()
    except StopAsyncIteration:
        raise Unreachable("the export is empty") from None
    except DamagedExport as error:
        raise Unreachable(f"the export is incomplete: {error}") from None
    except Refused as error:
        raise operator_failure(error) from None
    return reader.count


class _ASCIIEncoder:
    """Re-encode an export in ASCII, with the CRC of the result.

    Anybody may have registered what an export contains, and other characters could control the
    terminal that it is printed on.
    """

    def __init__(self) -> None:
        self._crc_read = self._crc_written = 0
        self._lines = 0

    def encode(self, line: bytes) -> bytes:
        """Encode the next line, including its end. Raises DamagedExport if it is not JSON."""
        self._lines += 1
        try:
            written = ascii_json(line)
        except ValueError as error:
            raise DamagedExport(f"line {self._lines}: {error}") from None
        if line.startswith(_TRAILER_START):
            written = written.replace(b'"%08x"' % self._crc_read, b'"%08x"' % self._crc_written)
        self._crc_read = zlib.crc32(line, self._crc_read)
        self._crc_written = zlib.crc32(written, self._crc_written)
        return written


async def _import_all(app: App, source: ImportSource, *, adopt: bool) -> ImportResult:
    imported = unchanged = sent = 0
    refused: list[RefusedRecord] = []
    try:
        with app.output.progress("importing", source.count) as advance:
            for batch in batches(source.records()):
                result = await app.client.import_records(batch, adopt=adopt)
                imported += result.imported
                unchanged += result.unchanged
                refused += result.refused
                sent += len(batch)
                advance(len(batch))
    except Refused as error:
        raise operator_failure(error) from None
    except Unreachable:
        app.output.message(
            f"imported {sent:,} of {counted(source.count, 'ID')}; run the command again, imported IDs stay unchanged"
        )
        raise
    return ImportResult(imported=imported, unchanged=unchanged, refused=tuple(refused))


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name once it is complete. IDs are secrets, so only its owner can
    read it. A symbolic link stays, and its target is replaced.

    Pipes and devices are written to as they are, and so are files that have no name any more.
    """
    target = Path(os.path.realpath(path))
    if path.exists() and not target.is_file():
        with path.open("wb") as special:
            yield special
        return
    try:
        with replacing(target) as file:
            yield file
    except OSError as error:
        # The error names a temporary file.
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None


@contextmanager
def _rereadable(path: Path, stdin: BinaryIO) -> Iterator[Path]:
    """Yield a file that can be read twice, unlike a pipe."""
    if str(path) != "-":
        yield path
        return
    with tempfile.NamedTemporaryFile() as file:
        shutil.copyfileobj(stdin, file)
        file.flush()
        yield Path(file.name)
