"""Records to JSON bytes and back: strict, one format for journal and snapshot alike. Answers to JSON bytes.

A record is one line of compact JSON that begins with its ID. The formats that hold such lines carry a version; a
field can only be added together with a new version, since an older release must refuse what it does not know.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, TypeVar

import msgspec

from rqdisco.errors import UnknownFormat
from rqdisco.records import Node, Record

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LINE_START = b'{"id":"'
_ID_START = len(_LINE_START)
_ID_END = b'","home":'
_BRACE = ord("}")


class Malformed(ValueError):
    """Bytes that are not what they should be; the text says why."""


def encode_record(record: Record) -> bytes:
    """One line, without its end."""
    return _encoder.encode(record)


def decode_record(line: bytes) -> Record:
    """The record of `line`. Raises Malformed for a missing, unknown or mistyped field."""
    try:
        return _decoder.decode(line)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from None


class _Version(msgspec.Struct):
    format: str
    version: int


def decode_versioned(content: bytes, kind: type[T], name: str, newest: int, source: object) -> T:
    """The `kind` that heads a file in format `name`, of which versions up to `newest` are known.

    Raises Malformed, and UnknownFormat naming `source` for a newer version, whatever else it says.
    """
    try:
        head = msgspec.json.decode(content, type=_Version)
        if head.format != name:
            raise Malformed(f"not in the format {name!r}")
        if head.version > newest:
            raise UnknownFormat(f"{source}: version {head.version} is newer than this release reads, run a newer one")
        return msgspec.json.decode(content, type=kind)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from None


def split_record(line: bytes, trailing: int = 0) -> tuple[bytes, bytes]:
    """The ID of an encoded record and what follows it, without decoding the rest; `trailing` bytes are not the
    record's. Raises Malformed.
    """
    end, stop = line.find(_ID_END, _ID_START), len(line) - trailing
    if end <= _ID_START or not line.startswith(_LINE_START) or line[stop - 1] != _BRACE:
        raise Malformed("not a record")
    return line[_ID_START:end], line[end:stop]


def join_record(key: bytes, rest: bytes) -> bytes:
    """The line that `split_record` took apart."""
    return _LINE_START + key + rest


class _Document(msgspec.Struct):
    created_at: str
    disco_id: str
    nodes: list[str]


class _FullDocument(_Document):
    registrations: tuple[Node, ...]


def encode_document(record: Record, listed: tuple[Node, ...]) -> bytes:
    """The answer rqlite 3.12-6.10 read, listing `listed`, spaced as the original service wrote it."""
    document = _Document(_legacy_time(record.created_at), record.id, [node.addr for node in listed])
    return msgspec.json.format(_encoder.encode(document), indent=0)


def encode_full_document(record: Record) -> bytes:
    """The same with every node, and all that is known of each under "registrations"."""
    addresses = [node.addr for node in record.nodes]
    document = _FullDocument(_legacy_time(record.created_at), record.id, addresses, record.nodes)
    return msgspec.json.format(_encoder.encode(document), indent=0)


def encode_object(members: dict[str, Any]) -> bytes:
    """Any JSON object, spaced as the documents are."""
    return msgspec.json.format(_encoder.encode(members), indent=0)


def _legacy_time(microseconds: int) -> str:
    """The time as the original service wrote it, but always with six digits."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{rest:06}"
