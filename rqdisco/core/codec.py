"""Encode records as JSON and decode them strictly; journal, snapshot and peer messages share one
format.

A record is one line of compact JSON that begins with its ID. File formats that hold such lines
carry a version. Adding a field requires a new version, since an older release must refuse fields
that it does not know. Unknown fields from peers of a newer release are stored byte-identical.

*Metadata* is what a daemon stores about its peers: lines of the same shape, whose keys are not
valid IDs.

The store keeps a *split* line: the ID as the key, and the *rest* of the line as the value.
`peek_...` reads one field of a rest without decoding it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from rqdisco.core.addresses import check_text
from rqdisco.core.errors import UnknownFormat
from rqdisco.core.records import Node, Put, Record

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
# Encodes one line, without its end.
encode_record: Callable[[Record], bytes] = _encoder.encode
_decoder = msgspec.json.Decoder(Record)
# What decoding raises: msgspec.DecodeError does not cover invalid UTF-8, nor too deep nesting.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LINE_START = b'{"id":"'
# Where the ID begins in a line.
ID_START = len(_LINE_START)
_ID_END = b'","home":'
_OWNER_START = len(_ID_END) + 1
_VERSION = b'","version":'
_DIGITS = b"0123456789"
_METADATA = b"!"
_BRACE = ord("}")
_MAX_NESTING = 64
_SCHEME = re.compile(r"\Ahttps?://")


class Malformed(ValueError):
    """Bytes that cannot be decoded; the text gives the reason."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename={"owner": "home"}):
    """A line that a daemon stores about its peers, on its own disk only.

    `id` is a key that is not a valid discovery ID, `owner` the incarnation it is about. The meaning
    of `number` and `content` depends on the key. Metadata with neither deletes the key.
    """

    id: str
    owner: str
    version: int = 0
    number: int = 0
    content: str = ""

    @property
    def is_empty(self) -> bool:
        """Report whether the metadata is empty."""
        return not self.number and not self.content


def decode_record(line: bytes) -> Record:
    """Decode a line. Raises Malformed for a missing, unknown or mistyped field."""
    try:
        return _decoder.decode(line)
    except UNREADABLE as error:
        raise Malformed(str(error)) from None


def decode_json(content: bytes, kind: type[T]) -> T:
    """Decode JSON that is not a record. Raises Malformed."""
    try:
        return msgspec.json.decode(content, type=kind)
    except UNREADABLE as error:
        raise Malformed(str(error)) from None


def decode_stored(key: bytes, rest: bytes) -> Record:
    """Decode a record from a split line. Raises Malformed."""
    try:
        return _decoder.decode(_LINE_START + key + rest)
    except UNREADABLE as error:
        raise Malformed(str(error)) from None


def encode_metadata(metadata: Metadata) -> bytes:
    """Encode one line, without its end."""
    return _encoder.encode(metadata)


def decode_metadata(line: bytes) -> Metadata:
    """Decode a line of metadata. Raises Malformed."""
    return decode_json(line, Metadata)


def decode_stored_metadata(key: bytes, rest: bytes) -> Metadata:
    """Decode metadata from a split line. Raises Malformed."""
    return decode_metadata(_LINE_START + key + rest)


def is_metadata(key: bytes) -> bool:
    """Report whether a key is one of metadata, not of a record."""
    return key.startswith(_METADATA)


def decode_version(line: bytes) -> int:
    """Decode a line of a record or metadata in full, and return its version. Raises Malformed."""
    if line.startswith(_LINE_START + _METADATA):
        return decode_metadata(line).version
    return decode_record(line).version


def peek_owner(rest: bytes) -> str:
    """Return the owner in the rest of a line."""
    return rest[_OWNER_START : rest.index(b'"', _OWNER_START)].decode()


def peek_version(rest: bytes) -> int:
    """Return the version in the rest of a line."""
    start = rest.index(_VERSION, _OWNER_START) + len(_VERSION)
    end = start
    while end < len(rest) and rest[end] in _DIGITS:
        end += 1
    return int(rest[start:end])


class _FormatVersion(msgspec.Struct):
    format: str
    version: int


def decode_versioned(content: bytes, kind: type[T], name: str, newest: int, source: object) -> T:
    """Decode the `kind` at the head of a file in format `name`, of a version up to `newest`.

    Raises Malformed; for any newer version UnknownFormat, which names `source`.
    """
    head = decode_json(content, _FormatVersion)
    if head.format != name:
        raise Malformed(f"not in the format {name!r}")
    if head.version > newest:
        raise UnknownFormat(f"{source}: version {head.version} is newer than this release reads, run a newer one")
    return decode_json(content, kind)


def split_record(line: bytes, trailing: int = 0) -> tuple[bytes, bytes]:
    """Split a line into the ID and the rest without decoding it, leaving out `trailing` bytes.
    Raises Malformed.
    """
    end, stop = line.find(_ID_END, ID_START), len(line) - trailing
    if end <= ID_START or not line.startswith(_LINE_START) or line[stop - 1] != _BRACE:
        raise Malformed("not a record")
    return line[ID_START:end], line[end:stop]


def join_record(key: bytes, rest: bytes) -> bytes:
    """Return the line from its ID and its rest, the inverse of `split_record`."""
    return _LINE_START + key + rest


def decode_put(content: bytes, flags: int = 0) -> Put:
    """Decode a value of the leader key, as rqlite 7-10 write it: `{"id", "api_addr", "addr"}`, of
    which `addr` is required.

    `addr` is the Raft address, `api_addr` the HTTP address with a scheme, which is stripped. Raises
    Malformed for what rqlite could not read back, InvalidValue.
    """
    try:
        text = content.decode()
        members = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        members = None
    # Deep nesting may decode here and fail later, on a deeper stack.
    if not isinstance(members, dict) or text.count("[") + text.count("{") > _MAX_NESTING:
        raise Malformed("leader value must be JSON with addr")
    if not isinstance(members.get("addr"), str) or not members["addr"]:
        raise Malformed("leader value must be JSON with addr")
    raft_addr = check_text("addr", members["addr"])
    # Go omits empty members, or writes empty strings.
    given = {name: None if members.get(name) == "" else members.get(name) for name in ("api_addr", "id")}
    addr = raft_addr if given["api_addr"] is None else check_text("api_addr", given["api_addr"])
    addr = _SCHEME.sub("", addr, count=1)
    node_id = None if given["id"] is None else check_text("id", given["id"])
    return Put(
        node=Node(addr=check_text("api_addr", addr), raft_addr=raft_addr, node_id=node_id), value=text, flags=flags
    )
