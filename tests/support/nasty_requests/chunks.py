"""Chunks, and the trailers behind them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.nasty_requests.rows import (
    CHUNK,
    LAST,
    LENGTH,
    LONG,
    NODE,
    SMUGGLED,
    SMUGGLED_LENGTH,
    WHOLE,
    NastyRequest,
    Outcome,
    chunked,
    either,
    post,
    refused,
    rejected,
    served,
    waits,
)


def chunks() -> Iterator[NastyRequest]:
    section = "9112 7.1"
    size = b"%x" % len(NODE)
    data = NODE + b"\r\n" + LAST
    yield served("chunks of one byte", section, chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in NODE) + LAST))
    spaced = NODE.replace(b":", b":\r\n\r\n", 1)
    yield served("empty lines in a chunk", section, chunked(b"%x\r\n%b\r\n" % (len(spaced), spaced) + LAST))
    ends = LAST * 3 + NODE
    yield served(
        "what looks like the end in a chunk", section, chunked(b"%x\r\n%b\r\n" % (len(ends), ends) + LAST), 400
    )
    yield served("empty lines in a body", "9112 6.3", post(b"Content-Length: %d" % len(spaced), body=spaced))
    for line in (b"018", b"000000000000018"):
        yield served(f"chunk size {line!r}", section, chunked(line + b"\r\n" + data))
    for digit in (b"a", b"A", b"f", b"F"):
        body = NODE[: int(digit, 16)], NODE[int(digit, 16) :]
        chunks = b"".join((digit, b"\r\n", body[0], b"\r\n", b"%x\r\n" % len(body[1]), body[1], b"\r\n", LAST))
        yield served(f"chunk size {digit!r}", section, chunked(chunks))
    for line in (b"00", b"00000000", b"0;x=y"):
        yield served(f"last chunk {line!r}", section, chunked(CHUNK + line + b"\r\n\r\n"))
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
        yield refused(f"chunk size {shown!r} of {len(line)}", section, chunked(line + b"\r\n" + data))
    # These are numbers; no body is that long.
    for line in (b"7fffffffffffffff", b"7fffffff", b"fffffffe", b"100000018"):
        yield waits(f"chunk size {line!r}", section, chunked(line + b"\r\n" + data), 413, 400)
    for line in (b"ffffffffffffffff", b"fffffffffffffffe", b"8000000000000018"):
        yield waits(f"chunk size {line!r}", section, chunked(line + b"\r\n" + data), 413, 400)
    yield refused("LF behind a chunk size", section, chunked(size + b"\n" + data))
    yield refused("LF behind a chunk", section, chunked(size + b"\r\n" + NODE + b"\n" + LAST))
    yield refused("CR behind a chunk size", section, chunked(size + b"\r" + data))
    yield refused("CR behind a chunk", section, chunked(size + b"\r\n" + NODE + b"\r" + LAST))
    yield refused("LF behind the last chunk", section, chunked(CHUNK + b"0\n\n"))
    yield refused("LF for the empty line behind chunks", section, chunked(CHUNK + b"0\r\n\n"))
    yield refused("CR for the empty line behind chunks", section, chunked(CHUNK + b"0\r\n\rx"))
    yield refused("no CRLF behind a chunk", section, chunked(size + b"\r\n" + NODE + LAST))
    yield refused("two bytes for the CRLF behind a chunk", section, chunked(size + b"\r\n" + NODE + b"xx" + LAST))
    yield refused("a chunk longer than its size", section, chunked(b"5\r\n" + data))
    yield refused("a chunk shorter than its size", section, chunked(b"1a\r\n" + data + b"xx"))
    yield refused("an empty line between chunks", section, chunked(CHUNK + b"\r\n" + LAST))
    yield refused("no last chunk, and a request", section, chunked(CHUNK + SMUGGLED))
    yield refused("no empty line, and a request", "9112 7.1.2", chunked(CHUNK + b"0\r\n" + SMUGGLED))
    yield waits("no last chunk", "9112 8", chunked(CHUNK))
    yield waits("no empty line", "9112 7.1", chunked(CHUNK + b"0\r\n"))
    yield waits("half a chunk", "9112 8", chunked(CHUNK[:-5]))
    yield served("chunks and a request", "9112 7.1", chunked(WHOLE) + SMUGGLED, 200, 404)
    yield rejected("no chunks at all", "9112 7.1", chunked(LAST))
    yield served("NUL in a chunk", "9112 7.1", chunked(b"1\r\n\x00\r\n" + LAST), 400)

    extension = "9112 7.1.1"
    for line in (b";x", b";x=y", b";x=y;z", b';x="y"', b';x="y;z"', b';x="y\\"z"', b";x=" + b"y" * 100):
        yield served(f"extension {line[:20]!r}", extension, chunked(size + line + b"\r\n" + data))
    for line in (b" ;x", b"; x", b";x =y", b";x= y", b"\t;x"):
        yield either(f"extension {line!r}", extension, chunked(size + line + b"\r\n" + data), 200, 400)
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
        yield refused(f"extension {line!r}", extension, chunked(size + line + b"\r\n" + data))
    for line in (b";", b";;", b";=", b";=y", b";x=", b";x\xff", b";x;"):
        yield either(f"extension {line!r}", extension, chunked(size + line + b"\r\n" + data), 200, 400)
    over_long = 400, 413, 431
    yield refused("extension over-long", extension, chunked(size + b";" + LONG + b"\r\n" + data), *over_long)
    yield refused("last extension over-long", extension, chunked(CHUNK + b"0;" + LONG + b"\r\n\r\n"), *over_long)
    many = b"".join(b"1;%b\r\n%c\r\n" % (b"x" * 1000, byte) for byte in NODE)
    yield refused("extensions over-long together", extension, chunked(many + LAST), *over_long)


def trailers() -> Iterator[NastyRequest]:
    """Fields behind the last chunk: dropped, whatever they say."""
    section = "9110 6.5.1"
    start = CHUNK + b"0\r\n"
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
        yield served(f"trailer {line!r}", section, chunked(start + line + b"\r\n\r\n"))
        chunks = start + line + b"\r\n\r\n" + SMUGGLED
        yield served(f"trailer {line!r} and a request", section, chunked(chunks), 200, 404)
        chunks = start + line + b"\r\n\r\n" + post(LENGTH) + chunked(WHOLE)
        yield served(f"trailer {line!r} and bodies", section, chunked(chunks), 200, 200, 200)
    for line in (SMUGGLED_LENGTH, b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"):
        data = chunked(start + line + b"\r\n\r\n" + SMUGGLED)
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
        yield refused(f"trailer {line!r}", "9112 7.1.2", chunked(start + line + b"\r\n\r\n"))
    over_long = 431, 413, 400
    yield refused("trailer over-long", "9112 7.1.2", chunked(start + b"X: " + LONG + b"\r\n\r\n"), *over_long)
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    # They are dropped, so that only their bytes count.
    yield either("many trailers", "9112 7.1.2", chunked(start + many + b"\r\n"), 200, *over_long)
    yield waits("half a trailer", "9112 8", chunked(start + b"X: y\r\n"))
