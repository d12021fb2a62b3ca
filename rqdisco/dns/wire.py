"""Questions and answers as they are on the wire (RFC 1035 section 4, RFC 6891): bounded, strict, without surprises.

Names and records are read and written by twisted.names; what it leaves to its user is done here: sizes, truncation,
EDNS, and the question echoed as it came, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO

import msgspec
from twisted.names import dns

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
HEADER = struct.Struct("!6H")
_TYPE_AND_CLASS = struct.Struct("!2H")
_LONGEST_LABEL, _LONGEST_NAME = 63, 255
EDNS_SIZE = 1232
PLAIN_SIZE = 512
TCP_SIZE = 65535
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0200, 0x0100
# More than any honest query has; each may cost a walk along compression pointers.
_MOST_RECORDS = 4


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A query. `echo` is its question section as it came, `size` the client's EDNS size, None without EDNS.

    `problem` is the RCODE for a query that cannot be answered, and why it cannot is of no use to anybody.
    """

    id: int
    flags: int
    echo: bytes = b""
    name: bytes = b""
    type: int = 0
    cls: int = 0
    size: int | None = None
    problem: int = NOERROR

    @property
    def udp_size(self) -> int:
        """The most that an answer over UDP may have."""
        return PLAIN_SIZE if self.size is None else max(PLAIN_SIZE, min(self.size, EDNS_SIZE))


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered. `additional` may be left out where there is no room for it."""

    rcode: int = NOERROR
    answers: Sequence[dns.RRHeader] = ()
    authority: Sequence[dns.RRHeader] = ()
    additional: Sequence[dns.RRHeader] = ()
    is_authoritative: bool = True


def parse(data: bytes) -> Question | None:
    """The query in `data`; None if it is none, and nothing must be answered."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    id_, flags, questions, answers, authority, additional = HEADER.unpack_from(data)
    base = Question(id=id_, flags=flags)
    if questions != 1 or answers + authority + additional > _MOST_RECORDS:
        return _with_problem(base, NOTIMP if _opcode(flags) else FORMERR)
    try:
        stream = BytesIO(data)
        stream.seek(HEADER.size)
        name = _name(stream)
        type_, cls = _TYPE_AND_CLASS.unpack(stream.read(_TYPE_AND_CLASS.size))
        echo = data[HEADER.size : stream.tell()]
        if len(echo) > _LONGEST_NAME + _TYPE_AND_CLASS.size:
            raise ValueError("not a name")
        asked = Question(id=id_, flags=flags, echo=echo, name=name, type=type_, cls=cls)
        if _opcode(flags):
            return _with_problem(asked, NOTIMP)
        return _with_options(asked, _records(stream, answers + authority + additional, len(data)))
    except (EOFError, IndexError, ValueError, struct.error):
        return _with_problem(base, NOTIMP if _opcode(flags) else FORMERR)


def encode(question: Question, reply: Reply, most: int) -> bytes:
    """The answer in `most` bytes: without the additional records if need be, or else saying that it was cut (TC).

    What is too long for TCP too comes as far as there is room, since nobody can ask for the rest.
    """
    whole = _message(question, reply, reply.additional)
    if len(whole) <= most:
        return whole
    if reply.additional:
        whole = _message(question, reply, ())
        if len(whole) <= most:
            return whole
    if most < TCP_SIZE:
        return truncated(question, reply)
    while len(whole) > most:
        reply = msgspec.structs.replace(reply, answers=reply.answers[: len(reply.answers) * most // len(whole)])
        whole = _message(question, reply, (), _TRUNCATED)
    return whole


def truncated(question: Question, reply: Reply | None = None) -> bytes:
    """An answer that only says that there is more of it over TCP."""
    reply = Reply() if reply is None else reply
    return _message(question, Reply(rcode=reply.rcode, is_authoritative=reply.is_authoritative), (), _TRUNCATED)


def address(name: bytes, ip: str, ttl: int) -> dns.RRHeader:
    """An A or AAAA record."""
    payload = dns.Record_AAAA(ip) if ":" in ip else dns.Record_A(ip)
    return dns.RRHeader(name, payload.TYPE, dns.IN, ttl, payload)


def service(name: bytes, port: int, target: bytes, ttl: int) -> dns.RRHeader:
    """An SRV record; all are of one priority and weight."""
    return dns.RRHeader(name, dns.SRV, dns.IN, ttl, dns.Record_SRV(1, 1, port, target))


def nameserver(name: bytes, target: bytes, ttl: int) -> dns.RRHeader:
    """An NS record."""
    return dns.RRHeader(name, dns.NS, dns.IN, ttl, dns.Record_NS(target))


def start_of_authority(name: bytes, server: bytes, serial: int, ttl: int) -> dns.RRHeader:
    """The SOA record, whose last field is how long an absence may be remembered (RFC 2308 section 4)."""
    soa = dns.Record_SOA(server, b"hostmaster." + name, serial & 0xFFFFFFFF, 60, 30, 3600, ttl)
    return dns.RRHeader(name, dns.SOA, dns.IN, ttl, soa)


def _opcode(flags: int) -> int:
    return flags >> 11 & 0xF


def _with_problem(question: Question, problem: int) -> Question:
    return msgspec.structs.replace(question, problem=problem)


def _with_options(question: Question, records: list[dns.RRHeader]) -> Question:
    options = [record for record in records if record.type == dns.OPT]
    if not options:
        return question
    (option, *others) = options
    if others or option.name.name:
        return _with_problem(question, FORMERR)
    version = option.ttl >> 16 & 0xFF
    return msgspec.structs.replace(question, size=option.cls, problem=BADVERS if version else NOERROR)


def _records(stream: BytesIO, count: int, length: int) -> list[dns.RRHeader]:
    """The heads of the records behind the question. Raises EOFError, ValueError."""
    found = []
    for _ in range(count):
        record = dns.RRHeader()
        record.decode(stream)
        if stream.seek(int(record.rdlength or 0), 1) > length:
            raise EOFError
        found.append(record)
    return found


def _name(stream: BytesIO) -> bytes:
    """The name of a question, which is not compressed, with dots between its labels. Raises EOFError, ValueError."""
    labels = []
    while size := stream.read(1)[0]:
        if size > _LONGEST_LABEL:
            raise ValueError("not a label")
        # A dot within a label would read as two labels; what cannot be in a name takes its place.
        labels.append(stream.read(size).replace(b".", b"\xff"))
    return b".".join(labels)


def _message(question: Question, reply: Reply, additional: Sequence[dns.RRHeader], more_flags: int = 0) -> bytes:
    stream, offsets = BytesIO(), _offsets(question)
    stream.write(question.echo)
    for record in (*reply.answers, *reply.authority, *additional):
        record.encode(stream, offsets)
    has_options = question.size is not None
    if has_options:
        dns.RRHeader(b"", dns.OPT, EDNS_SIZE, reply.rcode >> 4 << 24).encode(stream)
    flags = _RESPONSE | question.flags & (0x7800 | _RECURSION_DESIRED) | more_flags | reply.rcode & 0xF
    if reply.is_authoritative:
        flags |= _AUTHORITATIVE
    counts = bool(question.echo), len(reply.answers), len(reply.authority), len(additional) + has_options
    return HEADER.pack(question.id, flags, *counts) + stream.getvalue()


def _offsets(question: Question) -> dict[bytes, int]:
    """Where the question's name and those above it stand in the answer, for names to point to (RFC 1035 4.1.4)."""
    offsets, name, offset = {}, question.name, HEADER.size
    while name:
        offsets[name] = offset
        label, _, name = name.partition(b".")
        offset += len(label) + 1
    return offsets
