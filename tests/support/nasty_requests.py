"""Requests that servers and proxies are known to disagree about, and what this server does with each.

RFC 9112 and RFC 9110 decide. Where they leave a choice, either outcome is right, but it is the same
however the bytes arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from tests.support.connections import MAX_BODY

# Stands for an ID that exists; the test puts a real one, which is as long, in its place.
ID = b"00000000-0000-8000-8000-000000000000"
NODE = b'{"addr":"10.1.1.1:4001"}'
GOOD = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
_LENGTH = b"Content-Length: %d" % len(NODE)
_SMUGGLED_LENGTH = b"Content-Length: %d" % len(SMUGGLED)
_SMUGGLED_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
_CHUNKED = b"Transfer-Encoding: chunked"
_LAST = b"0\r\n\r\n"
_CHUNK = b"%x\r\n%b\r\n" % (len(NODE), NODE)
_WHOLE = _CHUNK + _LAST
_LONG = b"x" * 20_000

# What becomes of the connection: the next request is answered; it is closed; the rest of the
# request is waited for.
End = Literal["kept", "closed", "waits"]


class Outcome(msgspec.Struct, frozen=True):
    """The final statuses of all responses, and what becomes of the connection."""

    statuses: tuple[int, ...]
    end: End


class NastyRequest(msgspec.Struct, frozen=True):
    """One row: bytes, the section that decides about them, and the outcomes that are right.

    `interim` are the right numbers of responses with the status 100. The outcome `varies` if it may
    depend on how much has arrived when the head is complete.
    """

    name: str
    data: bytes
    section: str
    outcomes: tuple[Outcome, ...]
    interim: tuple[int, ...] = (0,)
    varies: bool = False

    @property
    def must_close(self) -> bool:
        return not self.varies and all(outcome.end == "closed" for outcome in self.outcomes)

    @property
    def most_responses(self) -> int:
        """The number of requests that the bytes can be taken for."""
        return max(len(outcome.statuses) for outcome in self.outcomes)


def _head(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


def _get(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request without a body and with a Host."""
    return _head(b"Host: h", *lines, first=first)


def _post(*lines: bytes, body: bytes = NODE) -> bytes:
    """A registration; the lines say how long its body is."""
    return _head(b"Host: h", *lines, first=b"POST /%b HTTP/1.1" % ID) + body


def _chunked(body: bytes, *lines: bytes) -> bytes:
    return _post(_CHUNKED, *lines, body=body)


def _refused(name: str, section: str, data: bytes, *statuses: int, after: tuple[int, ...] = ()) -> NastyRequest:
    """A row whose framing is wrong: one refusal, behind the responses `after`, and the connection
    closes.
    """
    outcomes = tuple(Outcome((*after, status), "closed") for status in statuses or (400,))
    return NastyRequest(name, data, section, outcomes)


def _rejected(name: str, section: str, data: bytes, *statuses: int) -> NastyRequest:
    """A row whose framing is right and whose request is not: one refusal; whether the connection
    closes is the server's choice.
    """
    ends: tuple[End, ...] = ("kept", "closed")
    outcomes = tuple(Outcome((status,), end) for status in statuses or (400,) for end in ends)
    return NastyRequest(name, data, section, outcomes)


def _served(name: str, section: str, data: bytes, *statuses: int) -> NastyRequest:
    """A row that is right, however odd it looks: answered, and the connection is kept."""
    return NastyRequest(name, data, section, (Outcome(statuses or (200,), "kept"),))


def _last(name: str, section: str, data: bytes, *statuses: int) -> NastyRequest:
    """A row that is right and whose client wants the connection closed."""
    return NastyRequest(name, data, section, (Outcome(statuses or (200,), "closed"),))


def _either(name: str, section: str, data: bytes, served: int, *refused: int) -> NastyRequest:
    """A row that a server may serve or refuse."""
    outcomes = Outcome((served,), "kept"), *(Outcome((status,), "closed") for status in refused or (400,))
    return NastyRequest(name, data, section, outcomes)


def _waits(name: str, section: str, data: bytes, *refused: int) -> NastyRequest:
    """A row that is half a request; or one that may be refused for what it announces."""
    outcomes = Outcome((), "waits"), *(Outcome((status,), "closed") for status in refused)
    return NastyRequest(name, data, section, outcomes)


def _two_lengths() -> Iterator[NastyRequest]:
    """Content-Length with Transfer-Encoding: a proxy may go by one and the server by the other."""
    section = "9112 6.1"
    prefix = b"0\r\n\r\nG"
    yield _refused("CL.TE", section, _post(b"Content-Length: 6", _CHUNKED, body=prefix))
    yield _refused(
        "CL.TE with a whole request",
        section,
        _post(b"Content-Length: %d" % len(_LAST + SMUGGLED), _CHUNKED, body=_LAST + SMUGGLED),
    )
    yield _refused("TE.CL", section, _post(_CHUNKED, b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED))
    yield _refused("TE and CL that agree", section, _post(_CHUNKED, b"Content-Length: %d" % len(_WHOLE), body=_WHOLE))
    yield _refused("CL 0 with TE", section, _post(b"Content-Length: 0", _CHUNKED, body=_WHOLE))
    yield _refused("TE with CL 0", section, _post(_CHUNKED, b"Content-Length: 0", body=_WHOLE))
    yield _refused("CL with TE in GET", section, _get(b"Content-Length: 5", _CHUNKED) + _LAST)
    yield _refused("CL with unknown TE", section, _post(_LENGTH, b"Transfer-Encoding: cow"))
    yield _refused("CL with TE identity", section, _post(_LENGTH, b"Transfer-Encoding: identity"))
    yield _refused("CL with empty TE", section, _post(_LENGTH, b"Transfer-Encoding:"))
    yield _refused("CL with TE far behind", section, _post(_LENGTH, *[b"X: y"] * 20, _CHUNKED, body=_WHOLE))
    http10 = b"POST /%b HTTP/1.0" % ID
    yield _refused("TE in 1.0", section, _head(b"Host: h", _CHUNKED, first=http10) + _WHOLE)
    yield _refused("TE in 1.0 kept alive", section, _head(_CHUNKED, b"Connection: keep-alive", first=http10) + _WHOLE)
    yield _refused("TE and CL in 1.0", section, _head(_CHUNKED, _LENGTH, first=http10) + _WHOLE)
    yield _refused("TE in HTTP/1.0 GET", section, _head(_CHUNKED, first=b"GET / HTTP/1.0") + _LAST)


def _codings() -> Iterator[NastyRequest]:
    """Transfer-Encoding in the disguises that one of two servers looks through (TE.TE)."""
    for value in (
        b"xchunked",
        b"chunkedx",
        b"chunked, identity",
        b"chunked, gzip",
        b"chunked, x",
        b"identity",
        b"gzip",
        b"cow",
        b"",
        b",",
        b"chun ked",
        b"chunked chunked",
        b'"chunked"',
        b"'chunked'",
        b"chunked\x0b",
        b"\x0bchunked",
        b"\x0cchunked",
        b"\x00chunked",
        b"chunked\x00",
        b"\xa0chunked",
        b"chunked\xff",
        b"chunked\x1f",
        b"x: chunked",
        b"chunked:",
        b"chunked;q=1",
        b"chunked; foo=bar",
        b"chunked;",
        b"[chunked]",
        b"c",
        b"chunke",
    ):
        yield _refused(f"TE {value!r}", "9112 6.3", _post(b"Transfer-Encoding: " + value, body=_WHOLE))
    yield _refused("TE chunked twice in a list", "9112 6.1", _post(b"Transfer-Encoding: chunked, chunked", body=_WHOLE))
    yield _refused("TE chunked twice", "9112 6.1", _post(_CHUNKED, _CHUNKED, body=_WHOLE))
    yield _refused("TE chunked and identity", "9112 6.3", _post(_CHUNKED, b"Transfer-Encoding: identity", body=_WHOLE))
    yield _refused("TE chunked and x", "9112 6.3", _post(_CHUNKED, b"Transfer-encoding: x", body=_WHOLE))
    # The final coding is chunked, but one before it is unknown here.
    for value in (
        b"gzip, chunked",
        b"identity, chunked",
        b"x,chunked",
        b"gzip;q=1, chunked",
        b"chunked, gzip, chunked",
    ):
        data = _post(b"Transfer-Encoding: " + value, body=_WHOLE)
        yield _refused(f"TE {value!r}", "9112 6.1", data, 501, 400)
    for first in (b"gzip", b"identity", b"x"):
        data = _post(b"Transfer-Encoding: " + first, _CHUNKED, body=_WHOLE)
        yield _refused(f"TE {first!r} and TE chunked", "9112 6.1", data, 501, 400)
    for line in (
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding\x00: chunked",
        b"Transfer-Encoding\x0b: chunked",
        b"Transfer Encoding: chunked",
        b"Transfer-Encoding chunked",
        b"Transfer-Encoding\xff: chunked",
        b" Transfer-Encoding: chunked",
        b"\tTransfer-Encoding: chunked",
        b"X: y\nTransfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\r\r\nTransfer-Encoding: chunked",
    ):
        yield _refused(f"TE line {line!r}", "9112 5.1", _post(_LENGTH, line))
        yield _refused(f"TE line alone {line!r}", "9112 5.1", _post(line, body=_WHOLE))
    for line in (
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding:\r\n\tchunked",
        b"Transfer-Encoding: chunked\r\n , identity",
        b"Transfer-Encoding\r\n : chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
    ):
        yield _refused(f"TE folded {line!r}", "9112 5.2", _post(line, body=_WHOLE))
    for line in (
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding: \t chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: chunked ",
        b"Transfer-Encoding: Chunked",
        b"Transfer-Encoding: CHUNKED",
        b"tRANSFER-eNCODING: chunked",
    ):
        yield _served(f"TE plain {line!r}", "9112 7", _post(line, body=_WHOLE))
    # The parser takes a space there and no tab. No client sends one.
    data = _post(b"Transfer-Encoding: chunked\t", body=_WHOLE)
    yield _either("TE with a tab behind it", "9110 5.6.3", data, 200, 400)
    for value in (b"chunked,", b",chunked", b", , chunked"):
        data = _post(b"Transfer-Encoding: " + value, body=_WHOLE)
        yield _either(f"TE {value!r}", "9110 5.6.1.2", data, 200, 400, 501)
    empty = b"Transfer-Encoding:"
    yield _either("TE empty and chunked", "9110 5.6.1.2", _post(empty, _CHUNKED, body=_WHOLE), 200, 400)
    yield _either("TE chunked and empty", "9110 5.6.1.2", _post(_CHUNKED, empty, body=_WHOLE), 200, 400)
    yield _served("TE with an underscore", "9112 6", _post(b"Transfer_Encoding: chunked", _LENGTH))
    yield _served("Content-Encoding chunked", "9110 8.4", _post(b"Content-Encoding: chunked", _LENGTH))
    yield _served("TE: chunked", "9110 10.1.4", _post(b"TE: chunked", _LENGTH))


def _lengths() -> Iterator[NastyRequest]:
    """Content-Length that is no number, or two numbers."""
    size = len(NODE)
    for value in (
        b"+%d" % size,
        b"-1",
        b"-0",
        b"0x%x" % size,
        b"%d.0" % size,
        b"24e0",
        b"2_4",
        b"2 4",
        b"2\t4",
        b"24;",
        b"24 ;x",
        b'"24"',
        b"24,",
        b",24",
        b"24, 24",
        b"24,24",
        b"24, 25",
        b"0, 24",
        b"",
        b" ",
        b"ten",
        b"24x",
        b"x24",
        b"\xb2\xb4",
        "٢٤".encode(),
        b"24\x00",
        b"\x0024",
        b"\x0b24",
        b"24\x0b",
        b"%d" % (2**64),
        b"%d" % (2**64 + size),
        b"%d" % (2**128 + size),
        b"1" * 5000,
        b"\r\n 24",
        b"24\r\n ",
    ):
        shown = value[:30]
        yield _refused(f"CL {shown!r} of {len(value)}", "9112 6.3", _post(b"Content-Length: " + value))
    yield _refused("CL twice", "9110 8.6", _post(_LENGTH, _LENGTH))
    yield _refused("CL twice, differing", "9110 8.6", _post(_LENGTH, b"Content-Length: 5"))
    yield _refused("CL 0 and CL", "9110 8.6", _post(b"Content-Length: 0", _LENGTH))
    yield _refused("CL twice in GET", "9110 8.6", _get(b"Content-Length: 0", _SMUGGLED_LENGTH.lower()) + SMUGGLED)
    yield _refused("CL twice in 1.0", "9110 8.6", _head(_LENGTH, b"Content-Length: 0", first=b"POST / HTTP/1.0") + NODE)
    for line in (
        b"Content-Length : 24",
        b"Content-Length\t: 24",
        b"Content-Length\x00: 24",
        b" Content-Length: 24",
        b"Content Length: 24",
        b"Content-Length 24",
        b"X: y\nContent-Length: 24",
        b"X: y\rContent-Length: 24",
        b"Content-Length: 24\rX: y",
        b"Content-Length: 24\nX: y",
    ):
        yield _refused(f"CL line {line!r}", "9112 5.1", _post(line))
    for line in (
        b"Content-Length:24",
        b"Content-Length: \t24",
        b"Content-Length: 24 ",
        b"Content-Length: 24\t",
        b"Content-Length: 00000000000000000000000024",
        b"cONTENT-lENGTH: 24",
    ):
        yield _served(f"CL plain {line!r}", "9110 8.6", _post(line))
    yield _served("CL with an underscore", "9112 6.3", _get(b"Content_Length: 24"))
    # 2^63 - 1 is a number; no body is that long.
    yield _waits("CL enormous", "9110 8.6", _post(b"Content-Length: 9223372036854775807"), 413, 400)
    yield _waits("CL more than arrives", "9112 6.3", _post(b"Content-Length: 25"))
    yield _served("CL less than arrives", "9112 6.3", _post(_LENGTH) + SMUGGLED, 200, 404)
    yield _served("neither CL nor TE", "9112 6.3", _head(b"Host: h", first=b"POST / HTTP/1.1"))
    yield _refused("CL 0 and a body", "9112 6.3", _get(b"Content-Length: 0") + NODE + b"\r\n\r\n", 400, after=(200,))
    yield _served("GET with a body", "9110 9.3.1", _get(_SMUGGLED_LENGTH) + SMUGGLED)
    yield _served("GET with chunks", "9110 9.3.1", _get(_CHUNKED) + _SMUGGLED_CHUNKS)
    yield _served("HEAD with a body", "9110 9.3.2", _get(_SMUGGLED_LENGTH, first=b"HEAD / HTTP/1.1") + SMUGGLED)
    # Requests that are answered without a look at their body.
    for line, status in (
        (b"POST /healthz HTTP/1.1", 405),
        (b"PUT / HTTP/1.1", 405),
        (b"DELETE / HTTP/1.1", 405),
        (b"POST /nobody HTTP/1.1", 404),
        (b"GET /nobody HTTP/1.1", 404),
    ):
        data = _get(_SMUGGLED_LENGTH, first=line) + SMUGGLED
        yield _served(f"{line[:-9]!r} with a body", "9112 6.3", data, status)
        data = _get(_CHUNKED, first=line) + _SMUGGLED_CHUNKS
        yield _served(f"{line[:-9]!r} with chunks", "9112 6.3", data, status)
    data = _get(_SMUGGLED_LENGTH, b"Origin: http://evil.example", first=b"POST / HTTP/1.1") + SMUGGLED
    yield _served("a request of a foreign page with a body", "9112 6.3", data, 403)
    yield _served("a body of the greatest size", "9112 6.3", _post(b"Content-Length: 1000", body=NODE.ljust(MAX_BODY)))
    too_long = MAX_BODY + 1
    data = _post(b"Content-Length: %d" % too_long, body=b"x" * too_long)
    yield _rejected("a body over the limit", "9110 15.5.14", data, 413)
    data = _chunked(b"%x\r\n%b\r\n" % (too_long, b"x" * too_long) + _LAST)
    yield _rejected("a chunk over the limit", "9110 15.5.14", data, 413)
    data = _chunked(b"65\r\n%b\r\n" % (b"x" * 101) * 10 + _LAST)
    yield _rejected("chunks over the limit", "9110 15.5.14", data, 413)


def _lines() -> Iterator[NastyRequest]:
    """Line ends, folding, and bytes that belong in no header."""
    bare = "9112 2.2"
    for line in (b"Host:\n h", b"Host: h\nHost: h", b"Host:\r h", b"\nHost: h", b"Host: h\n"):
        yield _refused(f"Host line {line!r}", bare, _head(line))
    for line in (b"Content-Length:\n 24", b"Transfer-Encoding:\n chunked"):
        yield _refused(f"folded by LF {line!r}", bare, _post(line))
    yield _refused("LF everywhere", bare, GOOD.replace(b"\r\n", b"\n"))
    yield _refused("LF behind the request line", bare, GOOD.replace(b"\r\n", b"\n", 1))
    yield _refused("LF behind a header", bare, b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n")
    yield _refused("LF for the empty line", bare, b"GET / HTTP/1.1\r\nHost: h\r\n\n")
    yield _refused("LF LF at the end", bare, b"GET / HTTP/1.1\r\nHost: h\n\n")
    yield _refused("LF CR LF at the end", bare, b"GET / HTTP/1.1\r\nHost: h\n\r\n")
    yield _refused("LF in a value, with a request", bare, _get(b"X: a\n\n" + SMUGGLED))
    yield _refused("LF in the target", bare, b"GET /\n HTTP/1.1\r\nHost: h\r\n\r\n")
    yield _refused("CR everywhere", bare, GOOD.replace(b"\r\n", b"\r") + b"x")
    yield _refused("CR behind the request line", bare, b"GET / HTTP/1.1\rHost: h\r\n\r\n")
    yield _refused("CR in the request line", bare, b"GET /\r HTTP/1.1\r\nHost: h\r\n\r\n")
    yield _refused("CR in the method", bare, b"GE\rT / HTTP/1.1\r\nHost: h\r\n\r\n")
    yield _refused("CR in a name", bare, _get(b"X\rY: z"))
    yield _refused("CR in a value", bare, _get(b"X: y\rz"))
    yield _refused("CR at the start of a value", bare, _get(b"X:\ry"))
    yield _refused("CR CR LF behind a header", bare, _get(b"X: y\r"))
    yield _refused("CR CR LF behind the request line", bare, b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n")
    yield _refused("CR CR at the end", bare, b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n")
    yield _refused("CR x at the end", bare, b"GET / HTTP/1.1\r\nHost: h\r\n\rx\r\n\r\n")
    for name, data in {
        "the method": b"G\x00T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "front of the method": b"\x00GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "the target": b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
        "the version": b"GET / HTTP/1.\x00\r\nHost: h\r\n\r\n",
        "a name": _get(b"X\x00Y: z"),
        "front of the colon": _get(b"X\x00: z"),
        "a value": _get(b"X: y\x00z"),
        "an empty value": _get(b"X:\x00"),
        "the Host": _head(b"Host: h\x00"),
        "Connection": _get(b"Connection: clo\x00se"),
        "front of the last line": b"GET / HTTP/1.1\r\nHost: h\r\n\x00\r\n",
    }.items():
        yield _refused(f"NUL in {name}", "9110 5.5", data)
    for byte in (b"\x01", b"\x07", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f"):
        yield _either(f"{byte!r} in a value", "9110 5.5", _get(b"X: y%bz" % byte), 200, 400)
    for byte in (b"\x80", b"\xff", b"\xc3\xa4", b"\t"):
        yield _served(f"{byte!r} in a value", "9110 5.5", _get(b"X: y%bz" % byte))
    for line in (
        b"X Y: z",
        b"X : z",
        b"X\t: z",
        b"X(Y): z",
        b"X@Y: z",
        b'X"Y: z',
        b"X/Y: z",
        b"X[0]: z",
        b"X{}: z",
        b"X=Y: z",
        b"X,Y: z",
        b"X;Y: z",
        b"X\\Y: z",
        b"X?: z",
        b"<X>: z",
        b"X\xff: z",
        b"X\x7f: z",
        b"X\x01: z",
        b": z",
        b":",
        b"no colon",
        b"X",
        b"\xff",
        b"GET / HTTP/1.1",
    ):
        yield _refused(f"header {line!r}", "9112 5.1", _get(line))
    yield _refused("header without a colon first", "9112 5", _head(b"no colon", b"Host: h"))
    for fold in (b" ", b"\t", b"  \t"):
        yield _refused(f"folded by {fold!r}", "9112 5.2", _get(b"X: y\r\n%bz" % fold))
        yield _refused(f"a line of {fold!r}", "9112 5.2", _get(b"X: y", fold))
        yield _refused(f"{fold!r} in front of the first header", "9112 2.2", _head(fold + b"X: y", b"Host: h"))
    yield _refused("folded Host", "9112 5.2", _head(b"Host:\r\n h"))
    yield _refused("folded into a Host", "9112 5.2", _get(b"X: y\r\n Host: i"))
    yield _served("header name of all characters", "9110 5.6.2", _get(b"!#$%&'*+-.^_`|~09azAZ: x"))
    # Values that decide show that they arrive whole.
    foreign = b"Origin: http://evil.example"
    data = _get(b"X:", foreign, b"Y:", first=b"POST / HTTP/1.1")
    yield _served("a foreign Origin between empty values", "9110 5.5", data, 403)
    data = _get(b"X:", b"Origin: \thttp://h \t", b"Y:", first=b"POST / HTTP/1.1")
    yield _served("the own Origin between spaces", "9110 5.5", data, 200)
    yield _served("empty value", "9110 5.5", _head(b"X:", b"Host: h", b"Y: ", b"Z:\t"))
    yield _served("empty value last", "9110 5.5", _get(b"X:") + _post(_LENGTH, b"X:"), 200, 200)
    yield _served("empty value in front of chunks", "9110 5.5", _chunked(_WHOLE, b"X:", b"Y: "))
    yield _served("colons in a value", "9110 5.5", _get(b"X::y: z:"))
    yield _served("CRLF first", bare, b"\r\n" + GOOD)
    yield _served("CRLF between requests", bare, GOOD + b"\r\n" + GOOD, 200, 200)
    yield _served("CRLF behind a body", bare, _post(_LENGTH) + b"\r\n")
    yield _either("CRLF twice first", bare, b"\r\n\r\n" + GOOD, 200, 400)
    yield _either("LF first", bare, b"\n" + GOOD, 200, 400)
    yield _refused("space first", "9112 3", b" " + GOOD)
    yield _refused("CRLF and a space first", "9112 3", b"\r\n " + GOOD)
    yield _either("CR first", bare, b"\r" + GOOD, 200, 400)


def _request_lines() -> Iterator[NastyRequest]:
    """Request lines: spaces, methods and versions."""
    section = "9112 3"
    for line in (b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b"GET\t/\tHTTP/1.1", b"GET /\tHTTP/1.1"):
        yield _either(f"line {line!r}", section, _get(first=line), 200, 400)
    for line in (
        b"GET /healthz x HTTP/1.1",
        b"GET / HTTP/1.1 x",
        b"GET /healthz HTTP/1.1 HTTP/1.1",
        b"GET",
        b"GET ",
        b"GET HTTP/1.1",
        b"GET  HTTP/1.1",
        b"GET /HTTP/1.1",
        b"/ HTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET\xa0/ HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b"{}",
        b"\x00\x00\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbfGET / HTTP/1.1",
        b"GET / HTTP/1.1\x00",
        b"GET / HTTP/1.1;x",
        b"GET / HTTP/1.1/",
    ):
        yield _refused(f"line {line!r}", section, _get(first=line))
    yield _refused("0.9", section, b"GET /\r\n")
    yield _refused("0.9 with headers", section, _get(first=b"GET /"))
    for version in (
        b"HTTP/0.9",
        b"HTTP/2.0",
        b"HTTP/2",
        b"HTTP/3.0",
        b"HTTP/9.9",
        b"HTTP/0.0",
        b"HTTP/1",
        b"HTTP/1.",
        b"HTTP/.1",
        b"HTTP/1.10",
        b"HTTP/01.1",
        b"HTTP/11.1",
        b"HTTP/1.1.1",
        b"HTTP/1,1",
        b"HTTP/-1.1",
        b"HTTP/1.x",
        b"HTTP/",
        b"HTTP",
        b"HTTPS/1.1",
        b"http/1.1",
        b"Http/1.1",
        b"HTTP /1.1",
        b"HTTP\\1.1",
        b"RTSP/1.0",
        b"RTSP/1.1",
        b"ICE/1.0",
        b"ICE/1.1",
        b"FTP/1.1",
        b"SIP/2.0",
        b"HTTP/%b.1" % (b"1" * 100),
    ):
        yield _refused(f"version {version[:20]!r}", "9110 15.6.6", _get(first=b"GET / " + version), 400, 505)
    yield _either("version 1.2", "9110 6.2", _get(first=b"GET / HTTP/1.2"), 200, 505, 400)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + bytes(5)
    yield _refused("HTTP/2 preface", "9113 3.4", preface, 505, 400)
    yield _refused("HTTP/2 preface behind a request", "9113 3.4", GOOD + preface, 505, 400, after=(200,))
    yield _refused("PRI in 1.1", "9113 11.6", _get(first=b"PRI * HTTP/1.1"), 400, 405, 501)
    for method in (b"get", b"Get", b"FOO", b"GETX", b"GE", b"X", b"BREW", b"GET-", b"A" * 60, b"!#$%&'*+-.^_`|~"):
        yield _rejected(f"method {method[:20]!r}", "9110 9.1", _get(first=method + b" / HTTP/1.1"), 405)
    for method in (b"PATCH", b"TRACE", b"PROPFIND", b"LOCK", b"M-SEARCH", b"QUERY", b"PURGE", b"SOURCE", b"DESCRIBE"):
        yield _rejected(f"method {method!r}", "9110 15.5.6", _get(first=method + b" / HTTP/1.1"), 405)
    data = _get(_SMUGGLED_LENGTH, first=b"PATCH / HTTP/1.1") + SMUGGLED
    yield _rejected("method PATCH with a body", "9110 15.5.6", data, 405)
    data = _get(_SMUGGLED_LENGTH, first=b"FOO / HTTP/1.1") + SMUGGLED
    yield _rejected("method FOO with a body", "9110 9.1", data, 405)
    data = _get(_CHUNKED, first=b"FOO / HTTP/1.1") + _SMUGGLED_CHUNKS
    yield _rejected("method FOO with chunks", "9110 9.1", data, 405)
    for method in (b"G(T", b"G@T", b"GET:", b"G\xffT", b"GET\x7f", b'"GET"', b"G/T", b"GET,", b"[GET]", b"G\x01T"):
        yield _refused(f"method {method!r}", "9110 9.1", _get(first=method + b" / HTTP/1.1"))
    for target in (b"h:443", b"/", b"http://h/"):
        data = _get(first=b"CONNECT %b HTTP/1.1" % target)
        yield _rejected(f"CONNECT {target!r}", "9110 9.3.6", data, 405, 400, 501)
    data = _get(first=b"CONNECT h:443 HTTP/1.1") + b"\x16\x03\x01\x02\x00\x01\x00"
    yield NastyRequest(
        "CONNECT and TLS",
        data,
        "9110 9.3.6",
        tuple(
            Outcome(statuses, "closed")
            for status in (405, 400, 501)
            for statuses in ((status,), (status, 400))
        ),
    )  # fmt: skip
    data = _get(_SMUGGLED_LENGTH, first=b"CONNECT h:443 HTTP/1.1") + SMUGGLED
    yield _rejected("CONNECT with a body", "9110 9.3.6", data, 405, 400, 501)


def _targets() -> Iterator[NastyRequest]:
    """The forms of a request target."""
    absolute = "9112 3.2.2"
    for target in (b"http://h/healthz", b"http://i/healthz", b"HTTP://h/healthz", b"http://h:4001/healthz"):
        yield _served(f"target {target!r}", absolute, _get(first=b"GET %b HTTP/1.1" % target))
    yield _served("target without a path", absolute, _get(first=b"GET http://h HTTP/1.1"))
    yield _served("target with a query and no path", absolute, _get(first=b"GET http://h?x HTTP/1.1"))
    yield _served("target https", absolute, _get(first=b"GET https://h/healthz HTTP/1.1"))
    yield _last("absolute target in 1.0", absolute, _head(first=b"GET http://h/ HTTP/1.0"))
    yield _rejected("absolute target without Host", "9112 3.2", _head(first=b"GET http://h/ HTTP/1.1"))
    for target in (
        b"http:///healthz",
        b"http://",
        b"http:/healthz",
        b"http:healthz",
        b"http://h:x/",
        b"http://[::1/",
        b"http://:80/",
        b"http://?x",
    ):
        yield _rejected(f"target {target!r}", "9110 4.2.1", _get(first=b"GET %b HTTP/1.1" % target))
    for target in (b"http://user@h/healthz", b"http://user:pw@h/healthz"):
        data = _get(first=b"GET %b HTTP/1.1" % target)
        yield _rejected(f"target {target!r}", "9110 4.2.4", data, 400, 200)
    for target in (b"ftp://h/healthz", b"file:///healthz", b"ws://h/healthz"):
        data = _get(first=b"GET %b HTTP/1.1" % target)
        yield _rejected(f"target {target!r}", "9110 7.4", data, 400, 421, 200, 404)
    for target in (b"h:80", b"h", b"*", b"?x", b"healthz", b"x/y", b"..", b"#", b"**", b"*/", b"\\healthz"):
        data = _get(first=b"GET %b HTTP/1.1" % target)
        yield _rejected(f"target {target!r}", "9112 3.2", data)
    for target in (b"/#x", b"/%", b"/%zz", b"/\xff", b"/\xc3\xa4", b"/\x7f", b"/\x01", b"/\x1b[2J", b'/"', b"/<x>"):
        data = _get(first=b"GET %b HTTP/1.1" % target)
        yield _rejected(f"target {target!r}", "9112 3.2", data, 400, 404, 200)
    for target in (b"//h/healthz", b"/../healthz", b"/%2e%2e/healthz", b"/x/../healthz", b"/a%2fb", b"/a%00", b"/a;b"):
        data = _get(first=b"GET %b HTTP/1.1" % target)
        yield NastyRequest(
            f"target {target!r}",
            data,
            "9110 4.2",
            (Outcome((404,), "kept"), Outcome((400,), "kept"), Outcome((400,), "closed")),
        )
    for target in (b"*", b"/", b"/" + ID, b"/healthz", b"/readyz", b"/v1/kv/x/leader", b"http://h"):
        data = _get(first=b"OPTIONS %b HTTP/1.1" % target)
        yield _served(f"OPTIONS {target!r}", "9110 9.3.7", data, 204)
    data = _get(_LENGTH, first=b"OPTIONS * HTTP/1.1") + NODE
    yield _served("OPTIONS * with a body", "9110 9.3.7", data, 204)
    # As haproxy's `option httpchk` sends it.
    yield _last("OPTIONS / in 1.0", "9110 9.3.7", _head(first=b"OPTIONS / HTTP/1.0"), 204)


def _hosts() -> Iterator[NastyRequest]:
    section = "9112 3.2"
    yield _rejected("no Host", section, _head())
    yield _rejected("no Host with a body", section, _head(_LENGTH, first=b"POST /%b HTTP/1.1" % ID) + NODE)
    yield _rejected("two Hosts", section, _head(b"Host: h", b"Host: i"))
    yield _rejected("two Hosts that agree", section, _head(b"Host: h", b"Host: h"))
    yield _rejected("two Hosts, one empty", section, _head(b"Host:", b"host: h"))
    yield _rejected("two Hosts in 1.0", section, _head(b"Host: h", b"Host: i", first=b"GET / HTTP/1.0"))
    yield _rejected("two Hosts in an absolute target", section, _get(b"Host: i", first=b"GET http://h/ HTTP/1.1"))
    for host in (
        b"user@h",
        b"user:pw@h",
        b"@h",
        b"h:x",
        b"h:80x",
        b"h:-1",
        b"h:80:80",
        b"h: 80",
        b"h :80",
        b"h h",
        b"h\ti",
        b"h, i",
        b"http://h",
        b"h/",
        b"h/path",
        b"h?x",
        b"h#x",
        b"h\\i",
        b"h%",
        b"h%zz",
        b"[::1",
        b"::1",
        b"[]",
        b"[::1]x",
        b"[h]",
        b"h[0]",
        b'"h"',
        b"<h>",
        b"h|i",
        b"h^",
        b"{h}",
        b"h`",
        b"\xff\xfe",
        b"h\xc3\xa4",
        b"h\x7f",
        b"h\x01",
    ):
        yield _rejected(f"Host {host!r}", section, _head(b"Host: " + host))
    for host in (
        b"h",
        b"h:80",
        b"h:",
        b"H",
        b"h.",
        b"a_b",
        b"a-b.example.com",
        b"127.0.0.1:4001",
        b"[::1]",
        b"[::1]:4001",
        b"[2001:db8::7]:80",
        b"h%41",
    ):
        yield _served(f"Host {host!r}", "9110 7.2", _head(b"Host: " + host))
    for host in (
        b"",
        b"a..b",
        b"h,i",
        b"h:0",
        b"h:65536",
        b"h:99999999999",
        b"h;x=y",
        b"[v1.x]",
        b"[fe80::1%25eth0]",
        b"x" * 300,
    ):
        yield _rejected(f"Host {host[:20]!r}", "9110 7.2", _head(b"Host: " + host), 400, 200)
    for line in (b"Host : h", b"Host\t: h", b" Host: h", b"Host", b"Ho st: h", b"Host h"):
        yield _refused(f"Host line {line!r}", "9112 5.1", _head(line))
    yield _last("no Host in 1.0", section, _head(first=b"GET /healthz HTTP/1.0"))
    yield _rejected("Host invalid in 1.0", section, _head(b"Host: h/", first=b"GET / HTTP/1.0"))


def _chunks() -> Iterator[NastyRequest]:
    section = "9112 7.1"
    size = b"%x" % len(NODE)
    data = NODE + b"\r\n" + _LAST
    yield _served("chunks of one byte", section, _chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in NODE) + _LAST))
    spaced = NODE.replace(b":", b":\r\n\r\n", 1)
    yield _served("empty lines in a chunk", section, _chunked(b"%x\r\n%b\r\n" % (len(spaced), spaced) + _LAST))
    ends = _LAST * 3 + NODE
    yield _served(
        "what looks like the end in a chunk", section, _chunked(b"%x\r\n%b\r\n" % (len(ends), ends) + _LAST), 400
    )
    yield _served("empty lines in a body", "9112 6.3", _post(b"Content-Length: %d" % len(spaced), body=spaced))
    for line in (b"018", b"000000000000018"):
        yield _served(f"chunk size {line!r}", section, _chunked(line + b"\r\n" + data))
    for digit in (b"a", b"A", b"f", b"F"):
        body = NODE[: int(digit, 16)], NODE[int(digit, 16) :]
        chunks = b"".join((digit, b"\r\n", body[0], b"\r\n", b"%x\r\n" % len(body[1]), body[1], b"\r\n", _LAST))
        yield _served(f"chunk size {digit!r}", section, _chunked(chunks))
    for last in (b"00", b"00000000", b"0;x=y"):
        yield _served(f"last chunk {last!r}", section, _chunked(_CHUNK + last + b"\r\n\r\n"))
    for line in (
        b"",
        b" ",
        b"g",
        b"+18",
        b"-1",
        b"-18",
        b"0x18",
        b"0X18",
        b"x18",
        b"18h",
        b"1_8",
        b"1 8",
        b"18,",
        b"18.",
        b'"18"',
        b"\x0018",
        b"18\x00",
        b"18\x0b",
        b"\xb218",
        b" 18",
        b"\t18",
        b"18 ",
        b"18\t",
        b"18 x",
        b"18:x",
        b"18\r",
        b"1\r8",
        b"10000000000000018",
        b"100000000000000000000000000000018",
        b"fffffffffffffffff",
        b"f" * 2000,
    ):
        shown = line[:40]
        yield _refused(f"chunk size {shown!r} of {len(line)}", section, _chunked(line + b"\r\n" + data))
    # These are numbers; no body is that long.
    for line in (b"7fffffffffffffff", b"7fffffff", b"fffffffe", b"100000018"):
        yield _waits(f"chunk size {line!r}", section, _chunked(line + b"\r\n" + data), 413, 400)
    for line in (b"ffffffffffffffff", b"fffffffffffffffe", b"8000000000000018"):
        yield _waits(f"chunk size {line!r}", section, _chunked(line + b"\r\n" + data), 413, 400)
    yield _refused("LF behind a chunk size", section, _chunked(size + b"\n" + data))
    yield _refused("LF behind a chunk", section, _chunked(size + b"\r\n" + NODE + b"\n" + _LAST))
    yield _refused("CR behind a chunk size", section, _chunked(size + b"\r" + data))
    yield _refused("CR behind a chunk", section, _chunked(size + b"\r\n" + NODE + b"\r" + _LAST))
    yield _refused("LF behind the last chunk", section, _chunked(_CHUNK + b"0\n\n"))
    yield _refused("LF for the empty line behind chunks", section, _chunked(_CHUNK + b"0\r\n\n"))
    yield _refused("CR for the empty line behind chunks", section, _chunked(_CHUNK + b"0\r\n\rx"))
    yield _refused("no CRLF behind a chunk", section, _chunked(size + b"\r\n" + NODE + _LAST))
    yield _refused("two bytes for the CRLF behind a chunk", section, _chunked(size + b"\r\n" + NODE + b"xx" + _LAST))
    yield _refused("a chunk longer than its size", section, _chunked(b"5\r\n" + data))
    yield _refused("a chunk shorter than its size", section, _chunked(b"1a\r\n" + data + b"xx"))
    yield _refused("an empty line between chunks", section, _chunked(_CHUNK + b"\r\n" + _LAST))
    yield _refused("no last chunk, and a request", section, _chunked(_CHUNK + SMUGGLED))
    yield _refused("no empty line, and a request", "9112 7.1.2", _chunked(_CHUNK + b"0\r\n" + SMUGGLED))
    yield _waits("no last chunk", "9112 8", _chunked(_CHUNK))
    yield _waits("no empty line", "9112 7.1", _chunked(_CHUNK + b"0\r\n"))
    yield _waits("half a chunk", "9112 8", _chunked(_CHUNK[:-5]))
    yield _served("chunks and a request", "9112 7.1", _chunked(_WHOLE) + SMUGGLED, 200, 404)
    yield _rejected("no chunks at all", "9112 7.1", _chunked(_LAST))
    yield _served("NUL in a chunk", "9112 7.1", _chunked(b"1\r\n\x00\r\n" + _LAST), 400)

    extension = "9112 7.1.1"
    for line in (b";x", b";x=y", b";x=y;z", b';x="y"', b';x="y;z"', b';x="y\\"z"', b";x=" + b"y" * 100):
        yield _served(f"extension {line[:20]!r}", extension, _chunked(size + line + b"\r\n" + data))
    for line in (b" ;x", b"; x", b";x =y", b";x= y", b"\t;x"):
        yield _either(f"extension {line!r}", extension, _chunked(size + line + b"\r\n" + data), 200, 400)
    for line in (
        b";x\ny",
        b";x\n",
        b";\n" + NODE,
        b"\n;x",
        b";x=y\rz",
        b";x\r",
        b";x\x00",
        b";\x00",
        b';x="y',
        b';x="y\n"',
        b';x="y\r\n"',
        b";x=\x01",
        b";x=y z",
    ):
        yield _refused(f"extension {line!r}", extension, _chunked(size + line + b"\r\n" + data))
    for line in (b";", b";;", b";=", b";=y", b";x=", b";x\xff", b";x;"):
        yield _either(f"extension {line!r}", extension, _chunked(size + line + b"\r\n" + data), 200, 400)
    over_long = 400, 413, 431
    yield _refused("extension over-long", extension, _chunked(size + b";" + _LONG + b"\r\n" + data), *over_long)
    yield _refused("last extension over-long", extension, _chunked(_CHUNK + b"0;" + _LONG + b"\r\n\r\n"), *over_long)
    many = b"".join(b"1;%b\r\n%c\r\n" % (b"x" * 1000, byte) for byte in NODE)
    yield _refused("extensions over-long together", extension, _chunked(many + _LAST), *over_long)


def _trailers() -> Iterator[NastyRequest]:
    """Fields behind the last chunk: dropped, whatever they say."""
    section = "9110 6.5.1"
    start = _CHUNK + b"0\r\n"
    for line in (
        b"X: y",
        b"Host: i",
        b"Host: h/",
        b"Authorization: Bearer x",
        b"Connection: close",
        b"Expect: 100-continue",
        b"Expect: x",
        b"Connection: upgrade\r\nUpgrade: h2c",
        b"X:\r\nY: z",
        b"Content-Type: text/html",
        b"X-Forwarded-For: 192.0.2.1",
    ):
        yield _served(f"trailer {line!r}", section, _chunked(start + line + b"\r\n\r\n"))
        chunks = start + line + b"\r\n\r\n" + SMUGGLED
        yield _served(f"trailer {line!r} and a request", section, _chunked(chunks), 200, 404)
        chunks = start + line + b"\r\n\r\n" + _post(_LENGTH) + _chunked(_WHOLE)
        yield _served(f"trailer {line!r} and bodies", section, _chunked(chunks), 200, 200, 200)
    for line in (_SMUGGLED_LENGTH, b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"):
        data = _chunked(start + line + b"\r\n\r\n" + SMUGGLED)
        outcomes = Outcome((200, 404), "kept"), Outcome((400,), "closed")
        yield NastyRequest(f"trailer {line!r}", data, section, outcomes)
    for line in (
        b"no colon",
        b"X : y",
        b" X: y",
        b"X: y\nY: z",
        b"X: y\rY: z",
        b"X\x00: y",
        b"X: \x00",
        b": y",
        b"X: y\r\n z",
    ):
        yield _refused(f"trailer {line!r}", "9112 7.1.2", _chunked(start + line + b"\r\n\r\n"))
    over_long = 431, 413, 400
    yield _refused("trailer over-long", "9112 7.1.2", _chunked(start + b"X: " + _LONG + b"\r\n\r\n"), *over_long)
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    # They are dropped, so that only their bytes count.
    yield _either("many trailers", "9112 7.1.2", _chunked(start + many + b"\r\n"), 200, *over_long)
    yield _waits("half a trailer", "9112 8", _chunked(start + b"X: y\r\n"))


def _sizes() -> Iterator[NastyRequest]:
    """Heads over their limits."""
    headers = "6585 5"
    yield _refused("target over-long", "9110 15.5.15", _get(first=b"GET /%b HTTP/1.1" % _LONG), 414)
    yield _refused("query over-long", "9110 15.5.15", _get(first=b"GET /?%b HTTP/1.1" % _LONG), 414)
    yield _refused("target without an end", "9110 15.5.15", b"GET /" + _LONG, 414)
    yield _refused("absolute target over-long", "9110 15.5.15", _get(first=b"GET http://%b/ HTTP/1.1" % _LONG), 414)
    yield _refused("method over-long", "9112 3", _get(first=_LONG + b" / HTTP/1.1"), 501, 405, 414, 400, 431)
    # Both are wrong, the version and the length of the line.
    row = _refused("version over-long", "9112 3", _get(first=b"GET / HTTP/1.1" + b"1" * 20_000), 400, 414, 505)
    yield msgspec.structs.replace(row, varies=True)
    yield _refused("value over-long", headers, _get(b"X: " + _LONG), 431)
    yield _refused("name over-long", headers, _get(_LONG + b": y"), 431)
    yield _refused("name without an end", headers, b"GET / HTTP/1.1\r\nHost: h\r\n" + _LONG, 431)
    yield _refused("value without an end", headers, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + _LONG, 431)
    yield _refused("spaces over-long", headers, _get(b"X:" + b" " * 20_000 + b"y"), 431)
    yield _refused("Host over-long", headers, _head(b"Host: " + _LONG), 431)
    yield _refused("headers too many", headers, _get(*[b"X: y"] * 200), 431)
    yield _refused("headers too large together", headers, _get(*[b"X: " + b"y" * 1000] * 20), 431)
    yield _refused("empty headers too many", headers, _get(*[b"X:"] * 200), 431)
    yield _refused("value over-long behind a request", headers, GOOD + _get(b"X: " + _LONG), 431, after=(200,))
    yield _refused("target over-long behind a request", "9110 15.5.15", GOOD + b"GET /" + _LONG, 414, after=(200,))
    yield _served("a hundred headers", headers, _get(*[b"X: y"] * 99))


def _upgrades() -> Iterator[NastyRequest]:
    section = "9110 7.8"
    offer = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
    yield _served("h2c", section, _get(*offer))
    yield _served("h2c and a request", section, _get(*offer) + SMUGGLED, 200, 404)
    yield _served("h2c and a body", section, _post(*offer, _LENGTH))
    yield _served("h2c, a body and a request", section, _post(*offer, _LENGTH) + SMUGGLED, 200, 404)
    yield _served("h2c and chunks", section, _chunked(_WHOLE, *offer))
    yield _served("h2c, chunks and a request", section, _chunked(_WHOLE, *offer) + SMUGGLED, 200, 404)
    yield _served("h2c behind a request", section, GOOD + _post(*offer, _LENGTH), 200, 200)
    yield _served("h2c in a second request of a body", section, _post(_LENGTH) + _post(*offer, _LENGTH), 200, 200)
    websocket = b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA=="
    yield _served("websocket", section, _get(*websocket))
    yield _served("websocket and a request", section, _get(*websocket) + SMUGGLED, 200, 404)
    yield _served("websocket and a body", section, _post(*websocket, _LENGTH))
    yield _served("Upgrade without Connection", section, _post(b"Upgrade: h2c", _LENGTH))
    yield _served("Connection without Upgrade", section, _post(b"Connection: upgrade", _LENGTH))
    yield _served("Upgrade to TLS", section, _get(b"Connection: Upgrade", b"Upgrade: TLS/1.0, HTTP/1.1"))
    yield _served("Upgrade empty", section, _post(b"Connection: Upgrade", b"Upgrade:", _LENGTH))
    yield _last("h2c and close", section, _post(*offer, b"Connection: close", _LENGTH))
    first = b"POST /%b HTTP/1.0" % ID
    yield _last("h2c in 1.0", section, _head(*offer, _LENGTH, first=first) + NODE)
    yield _served("h2c and a trailer", section, _chunked(_CHUNK + b"0\r\nX: y\r\n\r\n", *offer) + GOOD, 200, 200)
    yield _rejected("h2c and no Host", section, _head(*offer, _LENGTH, first=b"POST /%b HTTP/1.1" % ID) + NODE)
    yield _served("h2c and a refused method", section, _get(*offer, _LENGTH, first=b"PUT / HTTP/1.1") + NODE, 405)
    yield _waits("h2c and half a body", section, _post(*offer, _LENGTH)[:-5])
    yield _waits("h2c and half a chunk", section, _chunked(_CHUNK[:-5], *offer))
    data = _chunked(b"g\r\n" + _LAST, *offer)
    yield _refused("h2c and a bad chunk", "9112 7.1", data)
    yield _served("h2c, chunks and bodies", section, _chunked(_WHOLE, *offer) + _post(_LENGTH) * 2, 200, 200, 200)
    yield _served("h2c, chunks and h2c", section, _chunked(_WHOLE, *offer) + _chunked(_WHOLE, *offer), 200, 200)
    yield _refused("h2c and CL with TE", "9112 6.1", _post(*offer, _LENGTH, _CHUNKED, body=_WHOLE))


def _expectations() -> Iterator[NastyRequest]:
    section = "9110 10.1.1"
    expect = b"Expect: 100-continue"

    def at_once_or_not(name: str, data: bytes, *outcomes: Outcome, interim: tuple[int, ...] = (0, 1)) -> NastyRequest:
        return NastyRequest(name, data, section, outcomes, interim, varies=len({*outcomes}) > 1)

    kept = Outcome((200,), "kept")
    yield at_once_or_not("Expect and a body", _post(expect, _LENGTH), kept)
    yield at_once_or_not("Expect in capitals", _post(b"EXPECT: 100-Continue", _LENGTH), kept)
    yield at_once_or_not("Expect and chunks", _chunked(_WHOLE, expect), kept)
    yield at_once_or_not("Expect without a body", _get(expect), kept)
    yield at_once_or_not(
        "Expect and CL 0", _head(b"Host: h", expect, b"Content-Length: 0", first=b"POST / HTTP/1.1"), kept
    )
    waits = Outcome((), "waits")
    yield at_once_or_not("Expect, the body to come", _post(expect, _LENGTH, body=b""), waits, interim=(1,))
    yield at_once_or_not("Expect, chunks to come", _chunked(b"", expect), waits, interim=(1,))
    offer = b"Connection: Upgrade", b"Upgrade: h2c"
    yield at_once_or_not("Expect and h2c", _post(*offer, expect, _LENGTH), kept)
    yield at_once_or_not(
        "Expect and h2c, the body to come", _post(*offer, expect, _LENGTH, body=b""), waits, interim=(1,)
    )
    # Whether the body is asked for or not, it is no request.
    data = _get(expect, _SMUGGLED_LENGTH, first=b"POST /healthz HTTP/1.1") + SMUGGLED
    yield at_once_or_not(
        "Expect, a refused method and a body", data, Outcome((405,), "kept"), Outcome((405,), "closed")
    )
    data = _get(expect, _CHUNKED, first=b"POST /healthz HTTP/1.1") + _SMUGGLED_CHUNKS
    yield at_once_or_not(
        "Expect, a refused method and chunks", data, Outcome((405,), "kept"), Outcome((405,), "closed")
    )
    twice = kept, Outcome((417,), "closed"), Outcome((417,), "kept"), Outcome((400,), "closed")
    yield at_once_or_not("Expect twice", _post(expect, expect, _LENGTH), *twice)
    closed = Outcome((413,), "closed")
    data = _post(expect, b"Content-Length: %d" % (MAX_BODY + 35), body=b"x" * MAX_BODY + SMUGGLED)
    yield at_once_or_not("Expect and all of a body over the limit", data, closed, Outcome((413,), "kept"))
    length = b"Content-Length: %d" % (MAX_BODY * 1000)
    # Where a part of the body has arrived, the server may read the rest of it.
    row = at_once_or_not("Expect and a body over the limit", _post(expect, length, body=b""), closed, interim=(0,))
    yield msgspec.structs.replace(row, varies=True)
    two = Outcome((200, 404), "kept")
    yield at_once_or_not("Expect, a body and a request", _post(expect, _LENGTH) + SMUGGLED, two)
    for value in (b"x", b"200-ok", b"100-continue, x", b"", b"100-continue=1"):
        data = _post(b"Expect: " + value, _LENGTH)
        refused = Outcome((417,), "kept"), Outcome((417,), "closed")
        yield at_once_or_not(f"Expect {value!r}", data, kept, *refused)
    data = _head(expect, _LENGTH, first=b"POST /%b HTTP/1.0" % ID) + NODE
    yield at_once_or_not("Expect in 1.0", data, Outcome((200,), "closed"), interim=(0,))
    data = _head(expect, _LENGTH, first=b"POST /%b HTTP/1.0" % ID)
    yield at_once_or_not("Expect in 1.0, the body to come", data, waits, interim=(0,))
    data = _post(expect, _LENGTH, _CHUNKED, body=_WHOLE)
    yield at_once_or_not("Expect and CL with TE", data, Outcome((400,), "closed"), interim=(0,))
    data = _head(expect, _LENGTH, first=b"POST /%b HTTP/1.1" % ID) + NODE
    refused = Outcome((400,), "closed"), Outcome((400,), "kept")
    yield at_once_or_not("Expect without Host", data, *refused, interim=(0,))


def _connections() -> Iterator[NastyRequest]:
    section = "9112 9.6"
    for value in (
        b"close",
        b"Close",
        b"CLOSE",
        b"close, keep-alive",
        b"keep-alive, close",
        b"x,close",
        b"x ,\tclose\t, y",
    ):
        yield _last(f"Connection {value!r}", section, _get(b"Connection: " + value))
        yield _last(f"Connection {value!r} and a request", section, _get(b"Connection: " + value) + SMUGGLED)
    yield _last("Connection twice", section, _get(b"Connection: keep-alive", b"Connection: close") + SMUGGLED)
    yield _last("Connection close twice", section, _get(b"Connection: close", b"Connection: keep-alive") + SMUGGLED)
    yield _last("Connection close and a body", section, _post(b"Connection: close", _LENGTH) + SMUGGLED)
    yield _last("Connection close and chunks", section, _chunked(_WHOLE, b"Connection: close") + SMUGGLED)
    yield _last("Connection close second", section, GOOD + _get(b"Connection: close") + SMUGGLED, 200, 200)
    yield _last("Connection close and garbage", section, _get(b"Connection: close") + b"\x00\xff")
    yield _last("Connection close, not found", section, _get(b"Connection: close", first=b"GET /x HTTP/1.1"), 404)
    for value in (
        b"keep-alive",
        b"",
        b"xclose",
        b"closed",
        b"close-x",
        b"close;x",
        b"content-length",
        b"host",
        b"x, , y",
    ):
        yield _served(f"Connection {value!r}", "9110 7.6.1", _get(b"Connection: " + value))
    yield _served("Connection names the length", "9110 7.6.1", _post(b"Connection: content-length", _LENGTH))
    yield _served("Connection names the coding", "9110 7.6.1", _chunked(_WHOLE, b"Connection: transfer-encoding"))
    closed = Outcome((200,), "kept"), Outcome((200,), "closed")
    yield NastyRequest("Proxy-Connection", _get(b"Proxy-Connection: close"), "9112 C.2.2", closed)
    http10 = b"GET / HTTP/1.0"
    persistence = "9112 9.3"
    yield _last("1.0", persistence, _head(first=http10))
    yield _last("1.0 and a request", persistence, _head(first=http10) + SMUGGLED)
    yield _last("1.0 and a body", persistence, _head(_LENGTH, first=b"POST /%b HTTP/1.0" % ID) + NODE + SMUGGLED)
    yield _last("1.0 and close", persistence, _head(b"Connection: close", first=http10))
    yield _last("1.0 and keep-alive, close", persistence, _head(b"Connection: keep-alive, close", first=http10))
    outcomes = Outcome((200,), "kept"), Outcome((200,), "closed")
    yield NastyRequest("1.0 and keep-alive", _head(b"Connection: keep-alive", first=http10), persistence, outcomes)
    yield _last("1.0 and Proxy-Connection", "9112 C.2.2", _head(b"Proxy-Connection: keep-alive", first=http10))


def _pipelines() -> Iterator[NastyRequest]:
    section = "9112 9.3.2"
    bad = b"\x00\xff garbage\r\n\r\n"
    yield _served("two requests", section, GOOD + SMUGGLED, 200, 404)
    yield _served("ten requests", section, GOOD * 5 + SMUGGLED * 5, *(200,) * 5, *(404,) * 5)
    yield _served("HEAD and a request", section, GOOD.replace(b"GET", b"HEAD") + GOOD, 200, 200)
    yield _served("bodies and requests", section, (_post(_LENGTH) + GOOD) * 2, 200, 200, 200, 200)
    yield _served("chunks and bodies", section, _chunked(_WHOLE) + _post(_LENGTH) + _chunked(_WHOLE), 200, 200, 200)
    yield _refused("a good and a bad request", section, GOOD + bad, 400, after=(200,))
    yield _refused("a good, a bad and a good request", section, GOOD + bad + GOOD, 400, after=(200,))
    yield _refused("a body and a bad request", section, _post(_LENGTH) + bad + GOOD, 400, after=(200,))
    yield _refused("a bad and a good request", section, bad + GOOD, 400)
    cl_te = _post(b"Content-Length: 6", _CHUNKED, body=b"0\r\n\r\nG")
    yield _refused("CL.TE behind a request", "9112 6.1", GOOD + cl_te + GOOD, 400, after=(200,))
    yield _waits("half a request", "9112 8", GOOD[:-2])
    yield _waits("a byte", "9112 8", b"G")
    yield NastyRequest("a request and a half", GOOD + GOOD[:-2], "9112 8", (Outcome((200,), "waits"),))


def _strangers() -> Iterator[NastyRequest]:
    """Protocols that are not HTTP."""
    hello = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\x00\x00\x04\x13\x01\x00\xff\x01\x00"
    nothing = (Outcome((), "closed"),)
    yield NastyRequest("TLS ClientHello", hello, "8446 5.1", nothing)
    yield NastyRequest("TLS 1.3 ClientHello", b"\x16\x03\x03" + hello[3:], "8446 5.1", nothing)
    yield _refused("SSL 2 hello", "9112 2.2", b"\x80\x2e\x01\x03\x01" + bytes(20), 400)
    yield _refused("TLS ClientHello behind a request", "9112 2.2", GOOD + hello, 400, after=(200,))
    yield _refused("PROXY header", "9112 3", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GOOD)
    yield _refused("PROXY header, version 2", "9112 2.2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + GOOD)
    yield _refused("SSH", "9112 3", b"SSH-2.0-OpenSSH_9.2\r\n")
    yield _refused("Redis", "9112 3", b"*1\r\n$4\r\nPING\r\n")
    yield _refused("SMTP", "9112 3", b"EHLO h\r\n", 400)
    yield _refused("SOCKS 5", "9112 3", b"\x05\x01\x00")
    yield _refused("a status line", "9112 3", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


NASTY_REQUESTS = tuple(
    row
    for rows in (
        _two_lengths,
        _codings,
        _lengths,
        _lines,
        _request_lines,
        _targets,
        _hosts,
        _chunks,
        _trailers,
        _sizes,
        _upgrades,
        _expectations,
        _connections,
        _pipelines,
        _strangers,
    )
    for row in rows()
)
