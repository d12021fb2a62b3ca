"""Requests that affect the connection: upgrades, Expect, Connection, pipelines, other protocols."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.support.connections import MAX_BODY
from tests.support.nasty_requests.rows import (
    CHUNK,
    CHUNKED,
    GOOD,
    ID,
    LAST,
    LENGTH,
    NODE,
    SMUGGLED,
    SMUGGLED_CHUNKS,
    SMUGGLED_LENGTH,
    WHOLE,
    NastyRequest,
    Outcome,
    chunked,
    get,
    head,
    last,
    post,
    refused,
    rejected,
    served,
    waits,
)


def upgrades() -> Iterator[NastyRequest]:
    section = "9110 7.8"
    offer = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
    yield served("h2c", section, get(*offer))
    yield served("h2c and a request", section, get(*offer) + SMUGGLED, 200, 404)
    yield served("h2c and a body", section, post(*offer, LENGTH))
    yield served("h2c, a body and a request", section, post(*offer, LENGTH) + SMUGGLED, 200, 404)
    yield served("h2c and chunks", section, chunked(WHOLE, *offer))
    yield served("h2c, chunks and a request", section, chunked(WHOLE, *offer) + SMUGGLED, 200, 404)
    yield served("h2c behind a request", section, GOOD + post(*offer, LENGTH), 200, 200)
    yield served("h2c in a second request of a body", section, post(LENGTH) + post(*offer, LENGTH), 200, 200)
    websocket = b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA=="
    yield served("websocket", section, get(*websocket))
    yield served("websocket and a request", section, get(*websocket) + SMUGGLED, 200, 404)
    yield served("websocket and a body", section, post(*websocket, LENGTH))
    yield served("Upgrade without Connection", section, post(b"Upgrade: h2c", LENGTH))
    yield served("Connection without Upgrade", section, post(b"Connection: upgrade", LENGTH))
    yield served("Upgrade to TLS", section, get(b"Connection: Upgrade", b"Upgrade: TLS/1.0, HTTP/1.1"))
    yield served("Upgrade empty", section, post(b"Connection: Upgrade", b"Upgrade:", LENGTH))
    yield last("h2c and close", section, post(*offer, b"Connection: close", LENGTH))
    first = b"POST /%b HTTP/1.0" % ID
    yield last("h2c in 1.0", section, head(*offer, LENGTH, first=first) + NODE)
    yield served("h2c and a trailer", section, chunked(CHUNK + b"0\r\nX: y\r\n\r\n", *offer) + GOOD, 200, 200)
    yield rejected("h2c and no Host", section, head(*offer, LENGTH, first=b"POST /%b HTTP/1.1" % ID) + NODE)
    yield served("h2c and a refused method", section, get(*offer, LENGTH, first=b"PUT / HTTP/1.1") + NODE, 405)
    yield waits("h2c and half a body", section, post(*offer, LENGTH)[:-5])
    yield waits("h2c and half a chunk", section, chunked(CHUNK[:-5], *offer))
    data = chunked(b"g\r\n" + LAST, *offer)
    yield refused("h2c and a bad chunk", "9112 7.1", data)
    yield served("h2c, chunks and bodies", section, chunked(WHOLE, *offer) + post(LENGTH) * 2, 200, 200, 200)
    yield served("h2c, chunks and h2c", section, chunked(WHOLE, *offer) + chunked(WHOLE, *offer), 200, 200)
    yield refused("h2c and CL with TE", "9112 6.1", post(*offer, LENGTH, CHUNKED, body=WHOLE))


def expectations() -> Iterator[NastyRequest]:
    section = "9110 10.1.1"
    expect = b"Expect: 100-continue"

    def at_once_or_not(name: str, data: bytes, *outcomes: Outcome, interim: tuple[int, ...] = (0, 1)) -> NastyRequest:
        return NastyRequest(name, data, section, outcomes, interim, varies=len({*outcomes}) > 1)

    kept = Outcome((200,), "kept")
    yield at_once_or_not("Expect and a body", post(expect, LENGTH), kept)
    yield at_once_or_not("Expect in capitals", post(b"EXPECT: 100-Continue", LENGTH), kept)
    yield at_once_or_not("Expect and chunks", chunked(WHOLE, expect), kept)
    yield at_once_or_not("Expect without a body", get(expect), kept)
    yield at_once_or_not(
        "Expect and CL 0", head(b"Host: h", expect, b"Content-Length: 0", first=b"POST / HTTP/1.1"), kept
    )
    waiting = Outcome((), "waits")
    yield at_once_or_not("Expect, the body to come", post(expect, LENGTH, body=b""), waiting, interim=(1,))
    yield at_once_or_not("Expect, chunks to come", chunked(b"", expect), waiting, interim=(1,))
    offer = b"Connection: Upgrade", b"Upgrade: h2c"
    yield at_once_or_not("Expect and h2c", post(*offer, expect, LENGTH), kept)
    yield at_once_or_not(
        "Expect and h2c, the body to come", post(*offer, expect, LENGTH, body=b""), waiting, interim=(1,)
    )
    # Whether the body is asked for or not, it is no request.
    data = get(expect, SMUGGLED_LENGTH, first=b"POST /healthz HTTP/1.1") + SMUGGLED
    yield at_once_or_not(
        "Expect, a refused method and a body", data, Outcome((405,), "kept"), Outcome((405,), "closed")
    )
    data = get(expect, CHUNKED, first=b"POST /healthz HTTP/1.1") + SMUGGLED_CHUNKS
    yield at_once_or_not(
        "Expect, a refused method and chunks", data, Outcome((405,), "kept"), Outcome((405,), "closed")
    )
    twice = kept, Outcome((417,), "closed"), Outcome((417,), "kept"), Outcome((400,), "closed")
    yield at_once_or_not("Expect twice", post(expect, expect, LENGTH), *twice)
    closed = Outcome((413,), "closed")
    data = post(expect, b"Content-Length: %d" % (MAX_BODY + 35), body=b"x" * MAX_BODY + SMUGGLED)
    yield at_once_or_not("Expect and all of a body over the limit", data, closed, Outcome((413,), "kept"))
    length = b"Content-Length: %d" % (MAX_BODY * 1000)
    # Where a part of the body has arrived, the server may read the rest of it.
    row = at_once_or_not("Expect and a body over the limit", post(expect, length, body=b""), closed, interim=(0,))
    yield msgspec.structs.replace(row, varies=True)
    two = Outcome((200, 404), "kept")
    yield at_once_or_not("Expect, a body and a request", post(expect, LENGTH) + SMUGGLED, two)
    for value in (b"x", b"200-ok", b"100-continue, x", b"", b"100-continue=1"):
        data = post(b"Expect: " + value, LENGTH)
        refusals = Outcome((417,), "kept"), Outcome((417,), "closed")
        yield at_once_or_not(f"Expect {value!r}", data, kept, *refusals)
    data = head(expect, LENGTH, first=b"POST /%b HTTP/1.0" % ID) + NODE
    yield at_once_or_not("Expect in 1.0", data, Outcome((200,), "closed"), interim=(0,))
    data = head(expect, LENGTH, first=b"POST /%b HTTP/1.0" % ID)
    yield at_once_or_not("Expect in 1.0, the body to come", data, waiting, interim=(0,))
    data = post(expect, LENGTH, CHUNKED, body=WHOLE)
    yield at_once_or_not("Expect and CL with TE", data, Outcome((400,), "closed"), interim=(0,))
    data = head(expect, LENGTH, first=b"POST /%b HTTP/1.1" % ID) + NODE
    refusals = Outcome((400,), "closed"), Outcome((400,), "kept")
    yield at_once_or_not("Expect without Host", data, *refusals, interim=(0,))


def connections() -> Iterator[NastyRequest]:
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
        yield last(f"Connection {value!r}", section, get(b"Connection: " + value))
        yield last(f"Connection {value!r} and a request", section, get(b"Connection: " + value) + SMUGGLED)
    yield last("Connection twice", section, get(b"Connection: keep-alive", b"Connection: close") + SMUGGLED)
    yield last("Connection close twice", section, get(b"Connection: close", b"Connection: keep-alive") + SMUGGLED)
    yield last("Connection close and a body", section, post(b"Connection: close", LENGTH) + SMUGGLED)
    yield last("Connection close and chunks", section, chunked(WHOLE, b"Connection: close") + SMUGGLED)
    yield last("Connection close second", section, GOOD + get(b"Connection: close") + SMUGGLED, 200, 200)
    yield last("Connection close and garbage", section, get(b"Connection: close") + b"\x00\xff")
    yield last("Connection close, not found", section, get(b"Connection: close", first=b"GET /x HTTP/1.1"), 404)
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
        yield served(f"Connection {value!r}", "9110 7.6.1", get(b"Connection: " + value))
    yield served("Connection names the length", "9110 7.6.1", post(b"Connection: content-length", LENGTH))
    yield served("Connection names the coding", "9110 7.6.1", chunked(WHOLE, b"Connection: transfer-encoding"))
    closed = Outcome((200,), "kept"), Outcome((200,), "closed")
    yield NastyRequest("Proxy-Connection", get(b"Proxy-Connection: close"), "9112 C.2.2", closed)
    http10 = b"GET / HTTP/1.0"
    persistence = "9112 9.3"
    yield last("1.0", persistence, head(first=http10))
    yield last("1.0 and a request", persistence, head(first=http10) + SMUGGLED)
    yield last("1.0 and a body", persistence, head(LENGTH, first=b"POST /%b HTTP/1.0" % ID) + NODE + SMUGGLED)
    yield last("1.0 and close", persistence, head(b"Connection: close", first=http10))
    yield last("1.0 and keep-alive, close", persistence, head(b"Connection: keep-alive, close", first=http10))
    outcomes = Outcome((200,), "kept"), Outcome((200,), "closed")
    yield NastyRequest("1.0 and keep-alive", head(b"Connection: keep-alive", first=http10), persistence, outcomes)
    yield last("1.0 and Proxy-Connection", "9112 C.2.2", head(b"Proxy-Connection: keep-alive", first=http10))


def pipelines() -> Iterator[NastyRequest]:
    section = "9112 9.3.2"
    bad = b"\x00\xff garbage\r\n\r\n"
    yield served("two requests", section, GOOD + SMUGGLED, 200, 404)
    yield served("ten requests", section, GOOD * 5 + SMUGGLED * 5, *(200,) * 5, *(404,) * 5)
    yield served("HEAD and a request", section, GOOD.replace(b"GET", b"HEAD") + GOOD, 200, 200)
    yield served("bodies and requests", section, (post(LENGTH) + GOOD) * 2, 200, 200, 200, 200)
    yield served("chunks and bodies", section, chunked(WHOLE) + post(LENGTH) + chunked(WHOLE), 200, 200, 200)
    yield refused("a good and a bad request", section, GOOD + bad, 400, after=(200,))
    yield refused("a good, a bad and a good request", section, GOOD + bad + GOOD, 400, after=(200,))
    yield refused("a body and a bad request", section, post(LENGTH) + bad + GOOD, 400, after=(200,))
    yield refused("a bad and a good request", section, bad + GOOD, 400)
    cl_te = post(b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG")
    yield refused("CL.TE behind a request", "9112 6.1", GOOD + cl_te + GOOD, 400, after=(200,))
    yield waits("half a request", "9112 8", GOOD[:-2])
    yield waits("a byte", "9112 8", b"G")
    yield NastyRequest("a request and a half", GOOD + GOOD[:-2], "9112 8", (Outcome((200,), "waits"),))


def strangers() -> Iterator[NastyRequest]:
    """Protocols that are not HTTP."""
    hello = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\x00\x00\x04\x13\x01\x00\xff\x01\x00"
    nothing = (Outcome((), "closed"),)
    yield NastyRequest("TLS ClientHello", hello, "8446 5.1", nothing)
    yield NastyRequest("TLS 1.3 ClientHello", b"\x16\x03\x03" + hello[3:], "8446 5.1", nothing)
    yield refused("SSL 2 hello", "9112 2.2", b"\x80\x2e\x01\x03\x01" + bytes(20), 400)
    yield refused("TLS ClientHello behind a request", "9112 2.2", GOOD + hello, 400, after=(200,))
    yield refused("PROXY header", "9112 3", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GOOD)
    yield refused("PROXY header, version 2", "9112 2.2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + GOOD)
    yield refused("SSH", "9112 3", b"SSH-2.0-OpenSSH_9.2\r\n")
    yield refused("Redis", "9112 3", b"*1\r\n$4\r\nPING\r\n")
    yield refused("SMTP", "9112 3", b"EHLO h\r\n", 400)
    yield refused("SOCKS 5", "9112 3", b"\x05\x01\x00")
    yield refused("a status line", "9112 3", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
