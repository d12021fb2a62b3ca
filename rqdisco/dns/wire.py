"""The wire format of queries and responses (RFC 1035 section 4, RFC 6891), strict and bounded.

The parser follows no compression pointers and skips names that it does not need, so its cost is
linear in the message size. Responses echo the question section byte for byte.
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
_MAX_LABEL, _MAX_NAME, _POINTER = 63, 255, 0xC0
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0200, 0x0100
_DNSSEC_OK = 0x8000
# More than any legitimate query has.
_MAX_RECORDS = 4


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A query."""

    id: int
    flags: int
    # The unchanged question section.
    echo: bytes = b""
    name: bytes = b""
    type: int = 0
    cls: int = 0
    # The client's EDNS size in bytes, None without EDNS.
    size: int | None = None
    edns_flags: int = 0
    # The RCODE of a query that cannot be answered.
    problem: int = NOERROR

    @property
    def udp_size(self) -> int:
        """The maximum size of a response over UDP, in bytes."""
        return PLAIN_SIZE if self.size is None else max(PLAIN_SIZE, min(self.size, EDNS_SIZE))


class ResourceRecord(msgspec.Struct, frozen=True, gc=False):
    """A resource record. Its data are `names`, which may be compressed, followed by `rest`."""

    name: bytes
    type: int
    ttl: int
    rest: bytes
    names: tuple[bytes, ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A response. `additional` may be omitted if it does not fit."""

    rcode: int = NOERROR
    answers: Sequence[ResourceRecord] = ()
    authority: Sequence[ResourceRecord] = ()
    additional: Sequence[ResourceRecord] = ()
    is_authoritative: bool = True


def parse_query(data: bytes) -> Question | None:
    """Parse a query. Return None for anything else, which must not be answered."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    id_, flags, questions, answers, authority, additional = HEADER.unpack_from(data)
    is_query = not flags >> 11 & 0xF
    unreadable = Question(id=id_, flags=flags, problem=FORMERR if is_query else NOTIMP)
    if questions != 1 or answers + authority + additional > _MAX_RECORDS:
        return unreadable
    try:
        name, end = _parse_name(data, HEADER.size)
        type_, cls = _TYPE_AND_CLASS.unpack_from(data, end)
        end += _TYPE_AND_CLASS.size
        echo, problem = data[HEADER.size : end], NOERROR if is_query else NOTIMP
        question = Question(id=id_, flags=flags, echo=echo, name=name, type=type_, cls=cls, problem=problem)
        return _with_options(question, data, end, answers + authority + additional)
    except (IndexError, ValueError, struct.error):
        return unreadable


def encode_reply(question: Question, reply: Reply, max_size: int) -> bytes:
    """Encode a response in at most `max_size` bytes: without additional records if necessary, else
    truncated (TC).

    A response too long for TCP contains as many records as fit, since a client cannot get the rest.
    """
    offsets = _offsets(question)
    room = max_size - HEADER.size - len(question.echo) - (0 if question.size is None else _OPTIONS.size)
    needed = _encode_fitting((*reply.answers, *reply.authority), offsets, room)
    if len(needed) < len(reply.answers) + len(reply.authority):
        if max_size < TCP_SIZE:
            return truncated(question, reply)
        return _encode_message(question, reply, needed, (len(needed), 0, 0), _TRUNCATED)
    extra = _encode_fitting(reply.additional, offsets, room - sum(map(len, needed)))
    if len(extra) < len(reply.additional):
        extra = []
    return _encode_message(question, reply, needed + extra, (len(reply.answers), len(reply.authority), len(extra)))


def truncated(question: Question, reply: Reply | None = None) -> bytes:
    """Encode an empty response that tells the client to retry over TCP."""
    return _encode_message(question, Reply() if reply is None else reply, (), (0, 0, 0), _TRUNCATED)


def address_record(name: bytes, ip: str, ttl: int) -> ResourceRecord:
    """Return an A or AAAA record."""
    if ":" in ip:
        return ResourceRecord(name, dns.AAAA, ttl, socket.inet_pton(socket.AF_INET6, ip))
    return ResourceRecord(name, dns.A, ttl, socket.inet_pton(socket.AF_INET, ip))


def srv_record(name: bytes, port: int, target: bytes, ttl: int) -> ResourceRecord:
    """Return an SRV record. All have the same priority and weight. The target must not be
    compressed (RFC 2782).
    """
    return ResourceRecord(name, dns.SRV, ttl, _PREFERENCES.pack(1, 1, port) + _encode_name(target, {}))


def ns_record(name: bytes, target: bytes, ttl: int) -> ResourceRecord:
    """Return an NS record."""
    return ResourceRecord(name, dns.NS, ttl, b"", (target,))


def soa_record(name: bytes, server: bytes, serial: int, ttl: int) -> ResourceRecord:
    """Return the SOA record, whose last field is the TTL of negative answers (RFC 2308 section
    4).
    """
    times = _TIMES.pack(serial & 0xFFFFFFFF, 60, 30, 3600, ttl)
    return ResourceRecord(name, dns.SOA, ttl, times, (server, b"hostmaster." + name))


def _with_options(question: Question, data: bytes, offset: int, count: int) -> Question:
    """Return the question with the fields of its OPT record, if it has one. Raises IndexError,
    ValueError, struct.error.
    """
    result = question
    for _ in range(count):
        start, offset = offset, _skip_name(data, offset)
        type_, cls, ttl, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size + length
        if offset > len(data):
            raise ValueError("truncated")
        if type_ == dns.OPT:
            if data[start] or result.size is not None:
                raise ValueError("not the only OPT record of the root")
            problem = BADVERS if ttl >> 16 & 0xFF else question.problem
            result = msgspec.structs.replace(question, size=cls, edns_flags=ttl & _DNSSEC_OK, problem=problem)
    return result


def _parse_name(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return the uncompressed name of a question, with dots between its labels, and the offset
    after it. Raises IndexError, ValueError.
    """
    labels, start = [], offset
    while size := data[offset]:
        end = offset + 1 + size
        if size > _MAX_LABEL or end - start >= _MAX_NAME:
            raise ValueError("not a name")
        # A dot within a label would read as two labels; replace it by a byte that no name contains.
        labels.append(data[offset + 1 : end].replace(b".", b"\xff"))
        offset = end
    return b".".join(labels), offset + 1


def _skip_name(data: bytes, offset: int) -> int:
    """Return the offset after a name, which may be compressed. Raises IndexError, ValueError."""
    while size := data[offset]:
        if size >= _POINTER:
            return offset + 2
        if size > _MAX_LABEL:
            raise ValueError("not a label")
        offset += 1 + size
    return offset + 1


def _encode_fitting(records: Iterable[ResourceRecord], offsets: Mapping[bytes, bytes], room: int) -> list[bytes]:
    """Encode as many of the first records as fit into `room` bytes."""
    encoded = []
    for record in records:
        data = b"".join([_encode_name(name, offsets) for name in record.names]) + record.rest
        fixed = _RECORD.pack(record.type, dns.IN, record.ttl, len(data))
        whole = _encode_name(record.name, offsets) + fixed + data
        room -= len(whole)
        if room < 0:
            break
        encoded.append(whole)
    return encoded


def _encode_name(name: bytes, offsets: Mapping[bytes, bytes]) -> bytes:
    """Encode a name, with a pointer to a suffix that is in the question (RFC 1035 section
    4.1.4).
    """
    labels: list[bytes] = []
    while name:
        if name in offsets:
            return b"".join([*labels, offsets[name]])
        label, _, name = name.partition(b".")
        labels += (b"%c" % len(label), label)
    return b"".join([*labels, b"\0"])


def _offsets(question: Question) -> dict[bytes, bytes]:
    """Return pointers to the question's name and to its suffixes."""
    offsets, name, offset = {}, question.name, HEADER.size
    while name:
        offsets[name] = struct.pack("!H", _POINTER << 8 | offset)
        label, _, name = name.partition(b".")
        offset += len(label) + 1
    return offsets


def _encode_message(
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
