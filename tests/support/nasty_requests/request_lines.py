"""Request lines: spaces, methods, versions, and targets."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.nasty_requests.rows import (
    CHUNKED,
    GOOD,
    ID,
    LENGTH,
    NODE,
    SMUGGLED,
    SMUGGLED_CHUNKS,
    SMUGGLED_LENGTH,
    NastyRequest,
    Outcome,
    either,
    get,
    head,
    last,
    refused,
    rejected,
    served,
)


def request_lines() -> Iterator[NastyRequest]:
    """Request lines: spaces, methods and versions."""
    section = "9112 3"
    for line in (b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b"GET\t/\tHTTP/1.1", b"GET /\tHTTP/1.1"):
        yield either(f"line {line!r}", section, get(first=line), 200, 400)
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
        yield refused(f"line {line!r}", section, get(first=line))
    yield refused("0.9", section, b"GET /\r\n")
    yield refused("0.9 with headers", section, get(first=b"GET /"))
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
        yield refused(f"version {version[:20]!r}", "9110 15.6.6", get(first=b"GET / " + version), 400, 505)
    yield either("version 1.2", "9110 6.2", get(first=b"GET / HTTP/1.2"), 200, 505, 400)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + bytes(5)
    yield refused("HTTP/2 preface", "9113 3.4", preface, 505, 400)
    yield refused("HTTP/2 preface behind a request", "9113 3.4", GOOD + preface, 505, 400, after=(200,))
    yield refused("PRI in 1.1", "9113 11.6", get(first=b"PRI * HTTP/1.1"), 400, 405, 501)
    for method in (b"get", b"Get", b"FOO", b"GETX", b"GE", b"X", b"BREW", b"GET-", b"A" * 60, b"!#$%&'*+-.^_`|~"):
        yield rejected(f"method {method[:20]!r}", "9110 9.1", get(first=method + b" / HTTP/1.1"), 405)
    for method in (b"PATCH", b"TRACE", b"PROPFIND", b"LOCK", b"M-SEARCH", b"QUERY", b"PURGE", b"SOURCE", b"DESCRIBE"):
        yield rejected(f"method {method!r}", "9110 15.5.6", get(first=method + b" / HTTP/1.1"), 405)
    data = get(SMUGGLED_LENGTH, first=b"PATCH / HTTP/1.1") + SMUGGLED
    yield rejected("method PATCH with a body", "9110 15.5.6", data, 405)
    data = get(SMUGGLED_LENGTH, first=b"FOO / HTTP/1.1") + SMUGGLED
    yield rejected("method FOO with a body", "9110 9.1", data, 405)
    data = get(CHUNKED, first=b"FOO / HTTP/1.1") + SMUGGLED_CHUNKS
    yield rejected("method FOO with chunks", "9110 9.1", data, 405)
    for method in (b"G(T", b"G@T", b"GET:", b"G\xffT", b"GET\x7f", b'"GET"', b"G/T", b"GET,", b"[GET]", b"G\x01T"):
        yield refused(f"method {method!r}", "9110 9.1", get(first=method + b" / HTTP/1.1"))
    for target in (b"h:443", b"/", b"http://h/"):
        data = get(first=b"CONNECT %b HTTP/1.1" % target)
        yield rejected(f"CONNECT {target!r}", "9110 9.3.6", data, 405, 400, 501)
    data = get(first=b"CONNECT h:443 HTTP/1.1") + b"\x16\x03\x01\x02\x00\x01\x00"
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
    data = get(SMUGGLED_LENGTH, first=b"CONNECT h:443 HTTP/1.1") + SMUGGLED
    yield rejected("CONNECT with a body", "9110 9.3.6", data, 405, 400, 501)


def targets() -> Iterator[NastyRequest]:
    """The forms of a request target."""
    absolute = "9112 3.2.2"
    for target in (b"http://h/healthz", b"http://i/healthz", b"HTTP://h/healthz", b"http://h:4001/healthz"):
        yield served(f"target {target!r}", absolute, get(first=b"GET %b HTTP/1.1" % target))
    yield served("target without a path", absolute, get(first=b"GET http://h HTTP/1.1"))
    yield served("target with a query and no path", absolute, get(first=b"GET http://h?x HTTP/1.1"))
    yield served("target https", absolute, get(first=b"GET https://h/healthz HTTP/1.1"))
    yield last("absolute target in 1.0", absolute, head(first=b"GET http://h/ HTTP/1.0"))
    yield rejected("absolute target without Host", "9112 3.2", head(first=b"GET http://h/ HTTP/1.1"))
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
        yield rejected(f"target {target!r}", "9110 4.2.1", get(first=b"GET %b HTTP/1.1" % target))
    for target in (b"http://user@h/healthz", b"http://user:pw@h/healthz"):
        data = get(first=b"GET %b HTTP/1.1" % target)
        yield rejected(f"target {target!r}", "9110 4.2.4", data, 400, 200)
    for target in (b"ftp://h/healthz", b"file:///healthz", b"ws://h/healthz"):
        data = get(first=b"GET %b HTTP/1.1" % target)
        yield rejected(f"target {target!r}", "9110 7.4", data, 400, 421, 200, 404)
    for target in (b"h:80", b"h", b"*", b"?x", b"healthz", b"x/y", b"..", b"#", b"**", b"*/", b"\\healthz"):
        data = get(first=b"GET %b HTTP/1.1" % target)
        yield rejected(f"target {target!r}", "9112 3.2", data)
    for target in (b"/#x", b"/%", b"/%zz", b"/\xff", b"/\xc3\xa4", b"/\x7f", b"/\x01", b"/\x1b[2J", b'/"', b"/<x>"):
        data = get(first=b"GET %b HTTP/1.1" % target)
        yield rejected(f"target {target!r}", "9112 3.2", data, 400, 404, 200)
    for target in (b"//h/healthz", b"/../healthz", b"/%2e%2e/healthz", b"/x/../healthz", b"/a%2fb", b"/a%00", b"/a;b"):
        data = get(first=b"GET %b HTTP/1.1" % target)
        yield NastyRequest(
            f"target {target!r}",
            data,
            "9110 4.2",
            (Outcome((404,), "kept"), Outcome((400,), "kept"), Outcome((400,), "closed")),
        )
    for target in (b"*", b"/", b"/" + ID, b"/healthz", b"/readyz", b"/v1/kv/x/leader", b"http://h"):
        data = get(first=b"OPTIONS %b HTTP/1.1" % target)
        yield served(f"OPTIONS {target!r}", "9110 9.3.7", data, 204)
    data = get(LENGTH, first=b"OPTIONS * HTTP/1.1") + NODE
    yield served("OPTIONS * with a body", "9110 9.3.7", data, 204)
    # As haproxy's `option httpchk` sends it.
    yield last("OPTIONS / in 1.0", "9110 9.3.7", head(first=b"OPTIONS / HTTP/1.0"), 204)
