"""Records to JSON bytes and back: strict, one format for journal and snapshot alike.

A record is one line of compact JSON that begins with its ID. The formats that hold such lines carry
a version; a field can only be added together with a new version, since an older release must refuse
what it does not know. What peers of a newer release say more is kept as it came.

Beside records there are *notes*, what a daemon keeps of its peers: lines of the same shape whose
key no ID can be.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from rqdisco.core.addresses import check_text
from rqdisco.core.errors import UnknownFormat
from rqdisco.core.records import Node, Put, Record

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LINE_START = b'{"id":"'
_ID_START = len(_LINE_START)
_ID_END = b'","home":'
_OWNER_START = len(_ID_END) + 1
_VERSION = b'","version":'
_DIGITS = b"0123456789"
_METADATA = b"!"
_BRACE = ord("}")
_MOST_NESTED = 64
_SCHEME = re.compile(r"\Ahttps?://")


class Malformed(ValueError):
    """Bytes that are not what they should be; the text says why."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename={"owner": "home"}):
    """Something that a daemon keeps about its peers, on its own disk only.

    `id` is a key that no discovery ID can be, `owner` the incarnation it is about; `number` and
    `content` mean what the kind of note says. A note without either says that there is none any
    more.
    """

    id: str
    owner: str
    version: int = 0
    number: int = 0
    content: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is noted any more."""
        return not self.number and not self.content


_metadata_decoder = msgspec.json.Decoder(Metadata)


def encode_record(record: Record) -> bytes:
    """One line, without its end."""
    return _encoder.encode(record)


def decode_record(line: bytes) -> Record:
    """The record of `line`. Raises Malformed for a missing, unknown or mistyped field."""
    try:
        return _decoder.decode(line)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from None


def encode_metadata(note: Metadata) -> bytes:
    """One line, without its end."""
    return _encoder.encode(note)


def decode_metadata_line(line: bytes) -> Metadata:
    """The note of `line`. Raises Malformed."""
    try:
        return _metadata_decoder.decode(line)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from None


def is_metadata(key: bytes) -> bool:
    """Whether what has this key is a note, not a record."""
    return key.startswith(_METADATA)


def version_of(line: bytes) -> int:
    """The version of a line, be it a record or a note, which is checked. Raises Malformed."""
    return (
        decode_metadata_line(line).version if line.startswith(_LINE_START + _METADATA) else decode_record(line).version
    )


def owner_of(rest: bytes) -> str:
    """The home in a record without its ID, as `split_record` gives it, without decoding it."""
    return rest[_OWNER_START : rest.index(b'"', _OWNER_START)].decode()


def quick_version_of(rest: bytes) -> int:
    """The version in a record without its ID, without decoding it."""
    start = rest.index(_VERSION, _OWNER_START) + len(_VERSION)
    end = start
    while end < len(rest) and rest[end] in _DIGITS:
        end += 1
    return int(rest[start:end])


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
    """The ID of an encoded record and what follows it, without decoding the rest; `trailing` bytes
    are not the record's. Raises Malformed.
    """
    end, stop = line.find(_ID_END, _ID_START), len(line) - trailing
    if end <= _ID_START or not line.startswith(_LINE_START) or line[stop - 1] != _BRACE:
        raise Malformed("not a record")
    return line[_ID_START:end], line[end:stop]


def join_record(key: bytes, rest: bytes) -> bytes:
    """The line that `split_record` took apart."""
    return _LINE_START + key + rest


def decode_put(content: bytes, flags: int = 0) -> Put:
    """A value of the leader key, as rqlite 7-10 write it: `{"id", "api_addr", "addr"}`, of which
    `addr` must be there.

    `addr` is the Raft address, `api_addr` the HTTP address behind a scheme, which is no part of it
    for us. Raises Malformed for what rqlite could not read back, InvalidValue.
    """
    try:
        text = content.decode()
        members = msgspec.json.decode(text)
    except (*_UNREADABLE, ValueError):
        members = None
    # What is nested deeply can be decoded here and, on a deeper stack, not there.
    if not isinstance(members, dict) or text.count("[") + text.count("{") > _MOST_NESTED:
        raise Malformed("leader value must be JSON with addr")
    if not isinstance(members.get("addr"), str) or not members["addr"]:
        raise Malformed("leader value must be JSON with addr")
    raft_addr = check_text("addr", members["addr"])
    # Go leaves out what is empty, or says that it is.
    given = {name: None if members.get(name) == "" else members.get(name) for name in ("api_addr", "id")}
    addr = raft_addr if given["api_addr"] is None else check_text("api_addr", given["api_addr"])
    addr = _SCHEME.sub("", addr, count=1)
    node_id = None if given["id"] is None else check_text("id", given["id"])
    return Put(
        node=Node(addr=check_text("api_addr", addr), raft_addr=raft_addr, node_id=node_id), value=text, flags=flags
    )
