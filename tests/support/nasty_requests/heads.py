"""Headers: line ends, folding, hosts, and heads over their limits."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.support.nasty_requests.rows import (
    GOOD,
    ID,
    LENGTH,
    LONG,
    NODE,
    SMUGGLED,
    WHOLE,
    NastyRequest,
    chunked,
    either,
    get,
    head,
    last,
    post,
    refused,
    rejected,
    served,
)


def lines() -> Iterator[NastyRequest]:
    """Line ends, folding, and bytes that belong in no header."""
    bare = "9112 2.2"
    for line in (b"Host:\n h", b"Host: h\nHost: h", b"Host:\r h", b"\nHost: h", b"Host: h\n"):
        yield refused(f"Host line {line!r}", bare, head(line))
    for line in (b"Content-Length:\n 24", b"Transfer-Encoding:\n chunked"):
        yield refused(f"folded by LF {line!r}", bare, post(line))
    yield refused("LF everywhere", bare, GOOD.replace(b"\r\n", b"\n"))
    yield refused("LF behind the request line", bare, GOOD.replace(b"\r\n", b"\n", 1))
    yield refused("LF behind a header", bare, b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n")
    yield refused("LF for the empty line", bare, b"GET / HTTP/1.1\r\nHost: h\r\n\n")
    yield refused("LF LF at the end", bare, b"GET / HTTP/1.1\r\nHost: h\n\n")
    yield refused("LF CR LF at the end", bare, b"GET / HTTP/1.1\r\nHost: h\n\r\n")
    yield refused("LF in a value, with a request", bare, get(b"X: a\n\n" + SMUGGLED))
    yield refused("LF in the target", bare, b"GET /\n HTTP/1.1\r\nHost: h\r\n\r\n")
    yield refused("CR everywhere", bare, GOOD.replace(b"\r\n", b"\r") + b"x")
    yield refused("CR behind the request line", bare, b"GET / HTTP/1.1\rHost: h\r\n\r\n")
    yield refused("CR in the request line", bare, b"GET /\r HTTP/1.1\r\nHost: h\r\n\r\n")
    yield refused("CR in the method", bare, b"GE\rT / HTTP/1.1\r\nHost: h\r\n\r\n")
    yield refused("CR in a name", bare, get(b"X\rY: z"))
    yield refused("CR in a value", bare, get(b"X: y\rz"))
    yield refused("CR at the start of a value", bare, get(b"X:\ry"))
    yield refused("CR CR LF behind a header", bare, get(b"X: y\r"))
    yield refused("CR CR LF behind the request line", bare, b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n")
    yield refused("CR CR at the end", bare, b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n")
    yield refused("CR x at the end", bare, b"GET / HTTP/1.1\r\nHost: h\r\n\rx\r\n\r\n")
    for name, data in {
        "the method": b"G\x00T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "front of the method": b"\x00GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "the target": b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
        "the version": b"GET / HTTP/1.\x00\r\nHost: h\r\n\r\n",
        "a name": get(b"X\x00Y: z"),
        "front of the colon": get(b"X\x00: z"),
        "a value": get(b"X: y\x00z"),
        "an empty value": get(b"X:\x00"),
        "the Host": head(b"Host: h\x00"),
        "Connection": get(b"Connection: clo\x00se"),
        "front of the last line": b"GET / HTTP/1.1\r\nHost: h\r\n\x00\r\n",
    }.items():
        yield refused(f"NUL in {name}", "9110 5.5", data)
    for byte in (b"\x01", b"\x07", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f"):
        yield either(f"{byte!r} in a value", "9110 5.5", get(b"X: y%bz" % byte), 200, 400)
    for byte in (b"\x80", b"\xff", b"\xc3\xa4", b"\t"):
        yield served(f"{byte!r} in a value", "9110 5.5", get(b"X: y%bz" % byte))
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
        yield refused(f"header {line!r}", "9112 5.1", get(line))
    yield refused("header without a colon first", "9112 5", head(b"no colon", b"Host: h"))
    for fold in (b" ", b"\t", b"  \t"):
        yield refused(f"folded by {fold!r}", "9112 5.2", get(b"X: y\r\n%bz" % fold))
        yield refused(f"a line of {fold!r}", "9112 5.2", get(b"X: y", fold))
        yield refused(f"{fold!r} in front of the first header", "9112 2.2", head(fold + b"X: y", b"Host: h"))
    yield refused("folded Host", "9112 5.2", head(b"Host:\r\n h"))
    yield refused("folded into a Host", "9112 5.2", get(b"X: y\r\n Host: i"))
    yield served("header name of all characters", "9110 5.6.2", get(b"!#$%&'*+-.^_`|~09azAZ: x"))
    # Values that decide show that they arrive whole.
    foreign = b"Origin: http://evil.example"
    data = get(b"X:", foreign, b"Y:", first=b"POST / HTTP/1.1")
    yield served("a foreign Origin between empty values", "9110 5.5", data, 403)
    data = get(b"X:", b"Origin: \thttp://h \t", b"Y:", first=b"POST / HTTP/1.1")
    yield served("the own Origin between spaces", "9110 5.5", data, 200)
    yield served("empty value", "9110 5.5", head(b"X:", b"Host: h", b"Y: ", b"Z:\t"))
    yield served("empty value last", "9110 5.5", get(b"X:") + post(LENGTH, b"X:"), 200, 200)
    yield served("empty value in front of chunks", "9110 5.5", chunked(WHOLE, b"X:", b"Y: "))
    yield served("colons in a value", "9110 5.5", get(b"X::y: z:"))
    yield served("CRLF first", bare, b"\r\n" + GOOD)
    yield served("CRLF between requests", bare, GOOD + b"\r\n" + GOOD, 200, 200)
    yield served("CRLF behind a body", bare, post(LENGTH) + b"\r\n")
    yield either("CRLF twice first", bare, b"\r\n\r\n" + GOOD, 200, 400)
    yield either("LF first", bare, b"\n" + GOOD, 200, 400)
    yield refused("space first", "9112 3", b" " + GOOD)
    yield refused("CRLF and a space first", "9112 3", b"\r\n " + GOOD)
    yield either("CR first", bare, b"\r" + GOOD, 200, 400)


def hosts() -> Iterator[NastyRequest]:
    section = "9112 3.2"
    yield rejected("no Host", section, head())
    yield rejected("no Host with a body", section, head(LENGTH, first=b"POST /%b HTTP/1.1" % ID) + NODE)
    yield rejected("two Hosts", section, head(b"Host: h", b"Host: i"))
    yield rejected("two Hosts that agree", section, head(b"Host: h", b"Host: h"))
    yield rejected("two Hosts, one empty", section, head(b"Host:", b"host: h"))
    yield rejected("two Hosts in 1.0", section, head(b"Host: h", b"Host: i", first=b"GET / HTTP/1.0"))
    yield rejected("two Hosts in an absolute target", section, get(b"Host: i", first=b"GET http://h/ HTTP/1.1"))
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
        yield rejected(f"Host {host!r}", section, head(b"Host: " + host))
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
        yield served(f"Host {host!r}", "9110 7.2", head(b"Host: " + host))
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
        yield rejected(f"Host {host[:20]!r}", "9110 7.2", head(b"Host: " + host), 400, 200)
    for line in (b"Host : h", b"Host\t: h", b" Host: h", b"Host", b"Ho st: h", b"Host h"):
        yield refused(f"Host line {line!r}", "9112 5.1", head(line))
    yield last("no Host in 1.0", section, head(first=b"GET /healthz HTTP/1.0"))
    yield rejected("Host invalid in 1.0", section, head(b"Host: h/", first=b"GET / HTTP/1.0"))


def sizes() -> Iterator[NastyRequest]:
    """Heads over their limits."""
    headers = "6585 5"
    yield refused("target over-long", "9110 15.5.15", get(first=b"GET /%b HTTP/1.1" % LONG), 414)
    yield refused("query over-long", "9110 15.5.15", get(first=b"GET /?%b HTTP/1.1" % LONG), 414)
    yield refused("target without an end", "9110 15.5.15", b"GET /" + LONG, 414)
    yield refused("absolute target over-long", "9110 15.5.15", get(first=b"GET http://%b/ HTTP/1.1" % LONG), 414)
    yield refused("method over-long", "9112 3", get(first=LONG + b" / HTTP/1.1"), 501, 405, 414, 400, 431)
    # Both are wrong, the version and the length of the line.
    row = refused("version over-long", "9112 3", get(first=b"GET / HTTP/1.1" + b"1" * 20_000), 400, 414, 505)
    yield msgspec.structs.replace(row, varies=True)
    yield refused("value over-long", headers, get(b"X: " + LONG), 431)
    yield refused("name over-long", headers, get(LONG + b": y"), 431)
    yield refused("name without an end", headers, b"GET / HTTP/1.1\r\nHost: h\r\n" + LONG, 431)
    yield refused("value without an end", headers, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + LONG, 431)
    yield refused("spaces over-long", headers, get(b"X:" + b" " * 20_000 + b"y"), 431)
    yield refused("Host over-long", headers, head(b"Host: " + LONG), 431)
    yield refused("headers too many", headers, get(*[b"X: y"] * 200), 431)
    yield refused("headers too large together", headers, get(*[b"X: " + b"y" * 1000] * 20), 431)
    yield refused("empty headers too many", headers, get(*[b"X:"] * 200), 431)
    yield refused("value over-long behind a request", headers, GOOD + get(b"X: " + LONG), 431, after=(200,))
    yield refused("target over-long behind a request", "9110 15.5.15", GOOD + b"GET /" + LONG, 414, after=(200,))
    yield served("a hundred headers", headers, get(*[b"X: y"] * 99))
