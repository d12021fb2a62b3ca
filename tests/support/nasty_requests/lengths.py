"""Requests with two lengths, or with a length that servers read differently."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.connections import MAX_BODY
from tests.support.nasty_requests.rows import (
    CHUNKED,
    ID,
    LAST,
    LENGTH,
    NODE,
    SMUGGLED,
    SMUGGLED_CHUNKS,
    SMUGGLED_LENGTH,
    WHOLE,
    NastyRequest,
    chunked,
    either,
    get,
    head,
    post,
    refused,
    rejected,
    served,
    waits,
)


def two_lengths() -> Iterator[NastyRequest]:
    """Content-Length with Transfer-Encoding: a proxy may go by one and the server by the other."""
    section = "9112 6.1"
    prefix = b"0\r\n\r\nG"
    yield refused("CL.TE", section, post(b"Content-Length: 6", CHUNKED, body=prefix))
    yield refused(
        "CL.TE with a whole request",
        section,
        post(b"Content-Length: %d" % len(LAST + SMUGGLED), CHUNKED, body=LAST + SMUGGLED),
    )
    yield refused("TE.CL", section, post(CHUNKED, b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED))
    yield refused("TE and CL that agree", section, post(CHUNKED, b"Content-Length: %d" % len(WHOLE), body=WHOLE))
    yield refused("CL 0 with TE", section, post(b"Content-Length: 0", CHUNKED, body=WHOLE))
    yield refused("TE with CL 0", section, post(CHUNKED, b"Content-Length: 0", body=WHOLE))
    yield refused("CL with TE in GET", section, get(b"Content-Length: 5", CHUNKED) + LAST)
    yield refused("CL with unknown TE", section, post(LENGTH, b"Transfer-Encoding: cow"))
    yield refused("CL with TE identity", section, post(LENGTH, b"Transfer-Encoding: identity"))
    yield refused("CL with empty TE", section, post(LENGTH, b"Transfer-Encoding:"))
    yield refused("CL with TE far behind", section, post(LENGTH, *[b"X: y"] * 20, CHUNKED, body=WHOLE))
    http10 = b"POST /%b HTTP/1.0" % ID
    yield refused("TE in 1.0", section, head(b"Host: h", CHUNKED, first=http10) + WHOLE)
    yield refused("TE in 1.0 kept alive", section, head(CHUNKED, b"Connection: keep-alive", first=http10) + WHOLE)
    yield refused("TE and CL in 1.0", section, head(CHUNKED, LENGTH, first=http10) + WHOLE)
    yield refused("TE in HTTP/1.0 GET", section, head(CHUNKED, first=b"GET / HTTP/1.0") + LAST)


def codings() -> Iterator[NastyRequest]:
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
        yield refused(f"TE {value!r}", "9112 6.3", post(b"Transfer-Encoding: " + value, body=WHOLE))
    yield refused("TE chunked twice in a list", "9112 6.1", post(b"Transfer-Encoding: chunked, chunked", body=WHOLE))
    yield refused("TE chunked twice", "9112 6.1", post(CHUNKED, CHUNKED, body=WHOLE))
    yield refused("TE chunked and identity", "9112 6.3", post(CHUNKED, b"Transfer-Encoding: identity", body=WHOLE))
    yield refused("TE chunked and x", "9112 6.3", post(CHUNKED, b"Transfer-encoding: x", body=WHOLE))
    # The final coding is chunked, but one before it is unknown here.
    for value in (
        b"gzip, chunked",
        b"identity, chunked",
        b"x,chunked",
        b"gzip;q=1, chunked",
        b"chunked, gzip, chunked",
    ):
        data = post(b"Transfer-Encoding: " + value, body=WHOLE)
        yield refused(f"TE {value!r}", "9112 6.1", data, 501, 400)
    for first in (b"gzip", b"identity", b"x"):
        data = post(b"Transfer-Encoding: " + first, CHUNKED, body=WHOLE)
        yield refused(f"TE {first!r} and TE chunked", "9112 6.1", data, 501, 400)
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
        yield refused(f"TE line {line!r}", "9112 5.1", post(LENGTH, line))
        yield refused(f"TE line alone {line!r}", "9112 5.1", post(line, body=WHOLE))
    for line in (
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding:\r\n\tchunked",
        b"Transfer-Encoding: chunked\r\n , identity",
        b"Transfer-Encoding\r\n : chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
    ):
        yield refused(f"TE folded {line!r}", "9112 5.2", post(line, body=WHOLE))
    for line in (
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding: \t chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: chunked ",
        b"Transfer-Encoding: Chunked",
        b"Transfer-Encoding: CHUNKED",
        b"tRANSFER-eNCODING: chunked",
    ):
        yield served(f"TE plain {line!r}", "9112 7", post(line, body=WHOLE))
    # The parser takes a space there and no tab. No client sends one.
    data = post(b"Transfer-Encoding: chunked\t", body=WHOLE)
    yield either("TE with a tab behind it", "9110 5.6.3", data, 200, 400)
    for value in (b"chunked,", b",chunked", b", , chunked"):
        data = post(b"Transfer-Encoding: " + value, body=WHOLE)
        yield either(f"TE {value!r}", "9110 5.6.1.2", data, 200, 400, 501)
    empty = b"Transfer-Encoding:"
    yield either("TE empty and chunked", "9110 5.6.1.2", post(empty, CHUNKED, body=WHOLE), 200, 400)
    yield either("TE chunked and empty", "9110 5.6.1.2", post(CHUNKED, empty, body=WHOLE), 200, 400)
    yield served("TE with an underscore", "9112 6", post(b"Transfer_Encoding: chunked", LENGTH))
    yield served("Content-Encoding chunked", "9110 8.4", post(b"Content-Encoding: chunked", LENGTH))
    yield served("TE: chunked", "9110 10.1.4", post(b"TE: chunked", LENGTH))


def lengths() -> Iterator[NastyRequest]:
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
        yield refused(f"CL {shown!r} of {len(value)}", "9112 6.3", post(b"Content-Length: " + value))
    yield refused("CL twice", "9110 8.6", post(LENGTH, LENGTH))
    yield refused("CL twice, differing", "9110 8.6", post(LENGTH, b"Content-Length: 5"))
    yield refused("CL 0 and CL", "9110 8.6", post(b"Content-Length: 0", LENGTH))
    yield refused("CL twice in GET", "9110 8.6", get(b"Content-Length: 0", SMUGGLED_LENGTH.lower()) + SMUGGLED)
    yield refused("CL twice in 1.0", "9110 8.6", head(LENGTH, b"Content-Length: 0", first=b"POST / HTTP/1.0") + NODE)
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
        yield refused(f"CL line {line!r}", "9112 5.1", post(line))
    for line in (
        b"Content-Length:24",
        b"Content-Length: \t24",
        b"Content-Length: 24 ",
        b"Content-Length: 24\t",
        b"Content-Length: 00000000000000000000000024",
        b"cONTENT-lENGTH: 24",
    ):
        yield served(f"CL plain {line!r}", "9110 8.6", post(line))
    yield served("CL with an underscore", "9112 6.3", get(b"Content_Length: 24"))
    # 2^63 - 1 is a number; no body is that long.
    yield waits("CL enormous", "9110 8.6", post(b"Content-Length: 9223372036854775807"), 413, 400)
    yield waits("CL more than arrives", "9112 6.3", post(b"Content-Length: 25"))
    yield served("CL less than arrives", "9112 6.3", post(LENGTH) + SMUGGLED, 200, 404)
    yield served("neither CL nor TE", "9112 6.3", head(b"Host: h", first=b"POST / HTTP/1.1"))
    yield refused("CL 0 and a body", "9112 6.3", get(b"Content-Length: 0") + NODE + b"\r\n\r\n", 400, after=(200,))
    yield served("GET with a body", "9110 9.3.1", get(SMUGGLED_LENGTH) + SMUGGLED)
    yield served("GET with chunks", "9110 9.3.1", get(CHUNKED) + SMUGGLED_CHUNKS)
    yield served("HEAD with a body", "9110 9.3.2", get(SMUGGLED_LENGTH, first=b"HEAD / HTTP/1.1") + SMUGGLED)
    # Requests that are answered without a look at their body.
    for line, status in (
        (b"POST /healthz HTTP/1.1", 405),
        (b"PUT / HTTP/1.1", 405),
        (b"DELETE / HTTP/1.1", 405),
        (b"POST /nobody HTTP/1.1", 404),
        (b"GET /nobody HTTP/1.1", 404),
    ):
        data = get(SMUGGLED_LENGTH, first=line) + SMUGGLED
        yield served(f"{line[:-9]!r} with a body", "9112 6.3", data, status)
        data = get(CHUNKED, first=line) + SMUGGLED_CHUNKS
        yield served(f"{line[:-9]!r} with chunks", "9112 6.3", data, status)
    data = get(SMUGGLED_LENGTH, b"Origin: http://evil.example", first=b"POST / HTTP/1.1") + SMUGGLED
    yield served("a request of a foreign page with a body", "9112 6.3", data, 403)
    yield served("a body of the greatest size", "9112 6.3", post(b"Content-Length: 1000", body=NODE.ljust(MAX_BODY)))
    too_long = MAX_BODY + 1
    data = post(b"Content-Length: %d" % too_long, body=b"x" * too_long)
    yield rejected("a body over the limit", "9110 15.5.14", data, 413)
    data = chunked(b"%x\r\n%b\r\n" % (too_long, b"x" * too_long) + LAST)
    yield rejected("a chunk over the limit", "9110 15.5.14", data, 413)
    data = chunked(b"65\r\n%b\r\n" % (b"x" * 101) * 10 + LAST)
    yield rejected("chunks over the limit", "9110 15.5.14", data, 413)
