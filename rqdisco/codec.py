"""Records to JSON bytes and back: strict, one format for journal and snapshot alike. Answers to JSON bytes.

A record is one line of compact JSON that begins with its ID. The formats that hold such lines carry a version; a
field can only be added together with a new version, since an older release must refuse what it does not know. What
peers of a newer release say more is kept as it came.

Beside records there are *notes*, what a daemon keeps of its peers: lines of the same shape whose key no ID can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from rqdisco.address import check_text
from rqdisco.errors import UnknownFormat
from rqdisco.probing.judgement import Seen
from rqdisco.records import Leader, Node, Put, Record

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LINE_START = b'{"id":"'
_ID_START = len(_LINE_START)
_ID_END = b'","home":'
_HOME_START = len(_ID_END) + 1
_VERSION = b'","version":'
_DIGITS = b"0123456789"
_NOTE = b"!"
_BRACE = ord("}")
_MOST_NESTED = 64
_SCHEME = re.compile(r"\Ahttps?://")


class Malformed(ValueError):
    """Bytes that are not what they should be; the text says why."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something that a daemon keeps about its peers, on its own disk only.

    `id` is a key that no discovery ID can be, `home` the incarnation it is about; `number` and `content` mean what the
    kind of note says. A note without either says that there is none any more.
    """

    id: str
    home: str
    version: int = 0
    number: int = 0
    content: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is noted any more."""
        return not self.number and not self.content


_note_decoder = msgspec.json.Decoder(Note)


def encode_record(record: Record) -> bytes:
    """One line, without its end."""
    return _encoder.encode(record)


def decode_record(line: bytes) -> Record:
    """The record of `line`. Raises Malformed for a missing, unknown or mistyped field."""
    try:
        return _decoder.decode(line)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from None


def encode_note(note: Note) -> bytes:
    """One line, without its end."""
    return _encoder.encode(note)


def decode_note(line: bytes) -> Note:
    """The note of `line`. Raises Malformed."""
    try:
        return _note_decoder.decode(line)
    except _UNREADABLE as error:
        raise Malformed(str(error)) from None


def is_note(key: bytes) -> bool:
    """Whether what has this key is a note, not a record."""
    return key.startswith(_NOTE)


def version_of(line: bytes) -> int:
    """The version of a line, be it a record or a note, which is checked. Raises Malformed."""
    return decode_note(line).version if line.startswith(_LINE_START + _NOTE) else decode_record(line).version


def home_of(rest: bytes) -> str:
    """The home in a record without its ID, as `split_record` gives it, without decoding it."""
    return rest[_HOME_START : rest.index(b'"', _HOME_START)].decode()


def quick_version_of(rest: bytes) -> int:
    """The version in a record without its ID, without decoding it."""
    start = rest.index(_VERSION, _HOME_START) + len(_VERSION)
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


def decode_put(content: bytes, flags: int = 0) -> Put:
    """A value of the leader key, as rqlite 7-10 write it: `{"id", "api_addr", "addr"}`, of which `addr` must be there.

    `addr` is the Raft address, `api_addr` the HTTP address behind a scheme, which is no part of it for us. Raises
    Malformed for what rqlite could not read back, InvalidValue.
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


class _Document(msgspec.Struct):
    created_at: str
    disco_id: str
    nodes: list[str]


class _Registration(msgspec.Struct, omit_defaults=True):
    addr: str
    raft_addr: str | None = None
    node_id: str | None = None
    leader: bool = False
    up: bool | None = None
    ready: bool | None = None
    since: float | None = None
    checked: float | None = None
    why: str | None = None
    alone: bool = False
    heard: str | None = None


class _LeaderShown(msgspec.Struct):
    id: str | msgspec.UnsetType
    api_addr: str | msgspec.UnsetType
    addr: str
    index: int
    reported: bool


class _FullDocument(_Document):
    registrations: list[_Registration]
    leader: _LeaderShown | msgspec.UnsetType
    orphaned: bool | msgspec.UnsetType


def encode_document(record: Record, listed: tuple[Node, ...]) -> bytes:
    """The answer rqlite 3.12-6.10 read, listing `listed`, spaced as the original service wrote it."""
    document = _Document(legacy_time(record.created_at), record.id, [node.addr for node in listed])
    return msgspec.json.format(_encoder.encode(document), indent=0)


def encode_full_document(
    record: Record, *, orphaned: bool, seen: Callable[[Node], Seen | None] = lambda _: None
) -> bytes:
    """The same with every node, all that is known of each under "registrations", and who leads under "leader".

    An orphaned ID says so: its home is lost, and it seeds no cluster. `seen` gives what probes met.
    """
    return msgspec.json.format(_encoder.encode(_full_document(record, orphaned, seen)), indent=0)


def encode_watched(
    record: Record, *, orphaned: bool, heard: Mapping[str, int], seen: Callable[[Node], Seen | None] = lambda _: None
) -> bytes:
    """The same in one line for who watches an ID, with "alone" at the node that was last told that it is alone, and
    "heard" where it is known when an address was first answered, in microseconds since 1970. How long ago a probe was
    is left out, or there would be something new all the time.
    """
    document = _full_document(record, orphaned, seen)
    for shown in document.registrations:
        shown.since = shown.checked = None
        shown.alone = record.grant is not None and record.grant.addr == shown.addr
        if (at := heard.get(shown.addr)) is not None:
            shown.heard = utc_second(at)
    return _encoder.encode(document)


def _full_document(record: Record, orphaned: bool, seen: Callable[[Node], Seen | None]) -> _FullDocument:
    leader = record.leader
    addresses = [node.addr for node in record.nodes]
    registrations = [
        _registration(node, seen(node), leads=leader is not None and node.addr == leader.addr) for node in record.nodes
    ]
    shown = msgspec.UNSET if leader is None else _shown(leader, record.confirmed)
    return _FullDocument(
        legacy_time(record.created_at), record.id, addresses, registrations, shown, orphaned or msgspec.UNSET
    )


def _registration(node: Node, seen: Seen | None, *, leads: bool) -> _Registration:
    known = _Registration(node.addr, node.raft_addr, node.node_id, leads)
    if seen is None:
        return known
    return replace(known, up=seen.up, ready=seen.ready, since=seen.since, checked=seen.checked, why=seen.why)


def _shown(leader: Leader, reported: bool) -> _LeaderShown:
    members = msgspec.json.decode(leader.value)
    id_, api_addr = (members.get(name) or msgspec.UNSET for name in ("id", "api_addr"))
    return _LeaderShown(id_, api_addr, members["addr"], leader.modified, reported)


def encode_object(members: dict[str, Any]) -> bytes:
    """Any JSON object, spaced as the documents are."""
    return msgspec.json.format(_encoder.encode(members), indent=0)


def utc_second(microseconds: int) -> str:
    """The time to the second, as ISO 8601 has it."""
    return f"{datetime.fromtimestamp(microseconds // 1_000_000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def legacy_time(microseconds: int) -> str:
    """The time as the original service wrote it, but always with six digits."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{rest:06}"
