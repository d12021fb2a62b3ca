"""Questions and answers as they are on the wire (RFC 1035 section 4, RFC 6891): bounded, strict,
without surprises.

Nothing here follows a pointer or reads a name that it has no use for, so no message costs more than
its length. The question is echoed as it came, byte for byte.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from twisted.names import dns

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
HEADER = struct.Struct("!6H")
EDNS_SIZE = 1232
PLAIN_SIZE = 512
TCP_SIZE = 65535
_TYPE_AND_CLASS = struct.Struct("!2H")
_RECORD = struct.Struct("!2HLH")
_OPTIONS = struct.Struct("!B2HLH")
_PREFERENCES = struct.Struct("!3H")
_TIMES = struct.Struct("!5L")
_LONGEST_LABEL, _LONGEST_NAME, _POINTER = 63, 255, 0xC0
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0200, 0x0100
_DNSSEC_OK = 0x8000
# More than any honest query has.
_MOST_RECORDS = 4


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A query. `echo` is its question section as it came, `size` the client's EDNS size, None
    without EDNS.

    `problem` is the RCODE for a query that cannot be answered, and why it cannot is of no use to
    anybody.
    """

    id: int
    flags: int
    echo: bytes = b""
    name: bytes = b""
    type: int = 0
    cls: int = 0
    size: int | None = None
    edns_flags: int = 0
    problem: int = NOERROR

    @property
    def udp_size(self) -> int:
        """The most that an answer over UDP may have."""
        return PLAIN_SIZE if self.size is None else max(PLAIN_SIZE, min(self.size, EDNS_SIZE))


class Data(msgspec.Struct, frozen=True, gc=False):
    """A resource record: whose it is, of which type, and what it says: `names`, which may be
    compressed, and a rest.
    """

    name: bytes
    type: int
    ttl: int
    rest: bytes
    names: tuple[bytes, ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered. `additional` may be left out where there is no room for it."""

    rcode: int = NOERROR
    answers: Sequence[Data] = ()
    authority: Sequence[Data] = ()
    additional: Sequence[Data] = ()
    is_authoritative: bool = True


def parse_query(data: bytes) -> Question | None:
    """The query in `data`; None if it is none, and nothing must be answered."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    id_, flags, questions, answers, authority, additional = HEADER.unpack_from(data)
    is_query = not flags >> 11 & 0xF
    unreadable = Question(id=id_, flags=flags, problem=FORMERR if is_query else NOTIMP)
    if questions != 1 or answers + authority + additional > _MOST_RECORDS:
        return unreadable
    try:
        name, end = _name(data, HEADER.size)
        type_, cls = _TYPE_AND_CLASS.unpack_from(data, end)
        end += _TYPE_AND_CLASS.size
        echo, problem = data[HEADER.size : end], NOERROR if is_query else NOTIMP
        asked = Question(id=id_, flags=flags, echo=echo, name=name, type=type_, cls=cls, problem=problem)
        return _with_options(asked, data, end, answers + authority + additional)
    except (IndexError, ValueError, struct.error):
        return unreadable


def encode_reply(question: Question, reply: Reply, most: int) -> bytes:
    """The answer in `most` bytes: without the additional records if need be, or else saying that it
    was cut (TC).

    What is too long for TCP too comes as far as there is room, since nobody can ask for the rest.
    """
    offsets = _offsets(question)
    room = most - HEADER.size - len(question.echo) - (0 if question.size is None else _OPTIONS.size)
    needed = _fitting((*reply.answers, *reply.authority), offsets, room)
    if len(needed) < len(reply.answers) + len(reply.authority):
        if most < TCP_SIZE:
            return truncated(question, reply)
        return _message(question, reply, needed, (len(needed), 0, 0), _TRUNCATED)
    extra = _fitting(reply.additional, offsets, room - sum(map(len, needed)))
    if len(extra) < len(reply.additional):
        extra = []
    return _message(question, reply, needed + extra, (len(reply.answers), len(reply.authority), len(extra)))


def truncated(question: Question, reply: Reply | None = None) -> bytes:
    """An answer that only says that there is more of it over TCP."""
    return _message(question, Reply() if reply is None else reply, (), (0, 0, 0), _TRUNCATED)


def address(name: bytes, ip: str, ttl: int) -> Data:
    """An A or AAAA record."""
    if ":" in ip:
        return Data(name, dns.AAAA, ttl, socket.inet_pton(socket.AF_INET6, ip))
    return Data(name, dns.A, ttl, socket.inet_pton(socket.AF_INET, ip))


def service(name: bytes, port: int, target: bytes, ttl: int) -> Data:
    """An SRV record; all are of one priority and weight. Its target must not be compressed (RFC
    2782).
    """
    return Data(name, dns.SRV, ttl, _PREFERENCES.pack(1, 1, port) + _written(target, {}))


def nameserver(name: bytes, target: bytes, ttl: int) -> Data:
    """An NS record."""
    return Data(name, dns.NS, ttl, b"", (target,))


def start_of_authority(name: bytes, server: bytes, serial: int, ttl: int) -> Data:
    """The SOA record, whose last field is how long an absence may be remembered (RFC 2308 section
    4).
    """
    times = _TIMES.pack(serial & 0xFFFFFFFF, 60, 30, 3600, ttl)
    return Data(name, dns.SOA, ttl, times, (server, b"hostmaster." + name))


def _with_options(question: Question, data: bytes, offset: int, count: int) -> Question:
    """The question with what the OPT record says, if there is one. Raises IndexError, ValueError,
    struct.error.
    """
    found = question
    for _ in range(count):
        start, offset = offset, _after_name(data, offset)
        type_, cls, ttl, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size + length
        if offset > len(data):
            raise ValueError("cut off")
        if type_ == dns.OPT:
            if data[start] or found.size is not None:
                raise ValueError("not the one OPT record of the root")
            problem = BADVERS if ttl >> 16 & 0xFF else question.problem
            found = msgspec.structs.replace(question, size=cls, edns_flags=ttl & _DNSSEC_OK, problem=problem)
    return found


def _name(data: bytes, offset: int) -> tuple[bytes, int]:
    """The name of a question, which is not compressed, with dots between its labels, and where it
    ends.

    Raises IndexError, ValueError.
    """
    labels, start = [], offset
    while size := data[offset]:
        end = offset + 1 + size
        if size > _LONGEST_LABEL or end - start >= _LONGEST_NAME:
            raise ValueError("not a name")
        # A dot within a label would read as two labels; what cannot be in a name takes its place.
        labels.append(data[offset + 1 : end].replace(b".", b"\xff"))
        offset = end
    return b".".join(labels), offset + 1


def _after_name(data: bytes, offset: int) -> int:
    """Where a name ends that may be compressed, and is not read. Raises IndexError, ValueError."""
    while size := data[offset]:
        if size >= _POINTER:
            return offset + 2
        if size > _LONGEST_LABEL:
            raise ValueError("not a label")
        offset += 1 + size
    return offset + 1


def _fitting(records: Iterable[Data], offsets: Mapping[bytes, bytes], room: int) -> list[bytes]:
    """As many of `records` as there is room for, one after the other, as they are written."""
    found = []
    for record in records:
        data = b"".join([_written(name, offsets) for name in record.names]) + record.rest
        fixed = _RECORD.pack(record.type, dns.IN, record.ttl, len(data))
        written = _written(record.name, offsets) + fixed + data
        room -= len(written)
        if room < 0:
            break
        found.append(written)
    return found


def _written(name: bytes, offsets: Mapping[bytes, bytes]) -> bytes:
    """The name, or the labels before what is in the question already and a pointer there (RFC 1035
    section 4.1.4).
    """
    labels: list[bytes] = []
    while name:
        if name in offsets:
            return b"".join([*labels, offsets[name]])
        label, _, name = name.partition(b".")
        labels += (b"%c" % len(label), label)
    return b"".join([*labels, b"\0"])


def _offsets(question: Question) -> dict[bytes, bytes]:
    """Pointers to the question's name and to those above it."""
    offsets, name, offset = {}, question.name, HEADER.size
    while name:
        offsets[name] = struct.pack("!H", _POINTER << 8 | offset)
        label, _, name = name.partition(b".")
        offset += len(label) + 1
    return offsets


def _message(
    question: Question, reply: Reply, records: Iterable[bytes], counts: tuple[int, int, int], more_flags: int = 0
) -> bytes:
    flags = _RESPONSE | question.flags & (0x7800 | _RECURSION_DESIRED) | more_flags | reply.rcode & 0xF
    if reply.is_authoritative:
        flags |= _AUTHORITATIVE
    answers, authority, additional = counts
    options = b""
    if question.size is not None:
        extended = reply.rcode >> 4 << 24 | question.edns_flags
        options, additional = _OPTIONS.pack(0, dns.OPT, EDNS_SIZE, extended, 0), additional + 1
    header = HEADER.pack(question.id, flags, bool(question.echo), answers, authority, additional)
    return b"".join([header, question.echo, *records, options])
