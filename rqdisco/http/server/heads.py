"""Heads of requests and responses (RFC 9112): what llhttp leaves to the server."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from rqdisco.http.requests.request import RequestHeaders
from rqdisco.http.requests.responses import Headers, Response

MAX_HEAD_BYTES = 16_384
MAX_HEADERS = 100
# The methods of RTSP.
_RTSP_METHODS = frozenset({b"DESCRIBE", b"ANNOUNCE", b"SETUP", b"PLAY", b"PAUSE", b"TEARDOWN"}) | frozenset(
    {b"GET_PARAMETER", b"SET_PARAMETER", b"REDIRECT", b"RECORD", b"FLUSH"}
)
ALLOW: Headers = ((b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"),)
# RFC 3986 section 3.2.2, RFC 6874: an IP literal in brackets or a registered name; and a port.
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%25[0-9A-Za-z._~-]+)?\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?\Z"
)
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/1\.[01]\r?\Z")
_PARTIAL_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: [^\x00-\x1f]*\r?)?\Z")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://(?!:)([^/?#]+)")
_VERSION = re.compile(rb" HTTP/([0-9])\.([0-9])\Z")
# Names that do not follow the rule.
_SPELLINGS = {
    b"etag": b"ETag",
    b"www-authenticate": b"WWW-Authenticate",
    b"x-consul-knownleader": b"X-Consul-KnownLeader",
    b"x-consul-lastcontact": b"X-Consul-LastContact",
}
_NO_BODY = (204, 304)


class BadHead(Exception):
    """The head of a request breaks a rule; the text says which. The connection must be closed."""

    def __init__(self, status: int, text: str, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


class Framing(msgspec.Struct, frozen=True, gc=False):
    """The length of the body, in bytes, or unknown if it is chunked; and whether the client
    waits for 100 Continue before it sends one.
    """

    length: int
    is_chunked: bool
    expects_continue: bool


def version_of(line: bytes) -> bytes:
    """Return `1.1` or `1.0` from a request line. Raises BadHead."""
    if line.endswith(b" HTTP/1.1"):
        return b"1.1"
    if line.endswith(b" HTTP/1.0"):
        return b"1.0"
    if _VERSION.search(line):
        # RFC 9110 section 15.6.6.
        raise BadHead(505, "only HTTP/1.1 and HTTP/1.0 are supported")
    raise BadHead(400, "malformed request line")


def read_framing(version: bytes, headers: RequestHeaders) -> Framing:
    """Check the headers that decide where a request ends and whom it is for. llhttp has checked
    that Content-Length is a number, and alone. Raises BadHead.
    """
    if len(headers) > MAX_HEADERS:
        raise BadHead(431, "too many header fields")
    hosts = length = 0
    coding = expected = None
    for name, value in headers:
        if name == b"host":
            hosts += 1
            _check_host(value)
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            coding = value if coding is None else coding + b"," + value
        elif name == b"expect":
            expected = value
    if hosts != 1 and (hosts or version == b"1.1"):
        # RFC 9112 section 3.2.
        raise BadHead(400, "more than one Host" if hosts else "HTTP/1.1 requires a Host")
    if coding is not None:
        _check_coding(coding, version)
    expects_continue = expected is not None and _expects_continue(expected, version)
    return Framing(length, coding is not None, expects_continue)


def _expects_continue(expected: bytes, version: bytes) -> bool:
    """Report whether the client waits for 100 Continue (RFC 9110 section 10.1.1). Raises BadHead."""
    if expected.lower() != b"100-continue":
        raise BadHead(417, "only 100-continue is supported in Expect")
    return version == b"1.1"


def _check_coding(coding: bytes, version: bytes) -> None:
    """Accept chunked alone, in HTTP/1.1 (RFC 9112 section 6.1). Raises BadHead."""
    codings = [each.strip().lower() for each in coding.split(b",")]
    if version == b"1.0":
        raise BadHead(400, "Transfer-Encoding in HTTP/1.0")
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise BadHead(400, "chunked must be the last transfer coding and occur once")
    if len(codings) > 1:
        raise BadHead(501, "chunked is the only supported transfer coding")


# Only valid ones are cached: most clients send the same few.
@lru_cache(maxsize=1024)
def _check_host(value: bytes) -> None:
    """Raises BadHead."""
    if _HOST.match(value) is None:
        raise BadHead(400, "invalid Host")


def refusal_of_head(head: bytes) -> BadHead:
    """Return the error for a head or body that llhttp refused."""
    if head.startswith(b"PRI * HTTP/2"):
        return BadHead(505, "only HTTP/1.1 and HTTP/1.0 are supported")
    return BadHead(400, "malformed request")


def has_rtsp_method(head: bytes) -> bool:
    """Report whether a head begins with a method that llhttp knows, and refuses in HTTP."""
    return head.partition(b" ")[0] in _RTSP_METHODS


def too_large(head: bytes) -> BadHead:
    """Return the error for an incomplete head larger than MAX_HEAD_BYTES."""
    line = head.partition(b"\r\n")[0]
    # RFC 9110 section 15.5.15, RFC 6585 section 5.
    is_line = len(line) >= MAX_HEAD_BYTES - 1
    return BadHead(414, "request line too long") if is_line else BadHead(431, "header fields too large")


def check_target(method: bytes, target: bytes, headers: RequestHeaders) -> RequestHeaders:
    """Check a target that is no path (RFC 9112 sections 3.2.2 to 3.2.4); return the headers, with the
    host of an absolute target in place of what Host says. Raises BadHead.
    """
    if target == b"*" and method == b"OPTIONS":
        return headers
    authority = _ABSOLUTE.match(target)
    if authority is None:
        raise BadHead(400, "invalid request target")
    _check_host(authority[1])
    return [(b"host", authority[1]), *(each for each in headers if each[0] != b"host")]


def may_be_request_line(line: bytes, *, is_whole: bool) -> bool:
    """Report whether a line, or the beginning of one, is a request line with any method."""
    return (_REQUEST_LINE if is_whole else _PARTIAL_REQUEST_LINE).match(line) is not None


def encode_head(
    response: Response, added: RequestHeaders | None, date: bytes, connection: bytes, framing: bytes
) -> bytes:
    """Encode the head of a response.

    `connection` and `framing` are whole lines: the Connection header if there is to be one, and the
    header that shows where the body ends unless its length does.
    """
    status = response.status
    if not framing and status != 204 and response.is_length_known:
        framing = b"Content-Length: %d\r\n" % len(response.body)
    kind = b"" if status in _NO_BODY or not response.content_type else b"Content-Type: %b\r\n" % response.content_type
    more = _lines(response.headers)
    if added is not None:
        more += b"".join(b"%b: %b\r\n" % (_canonical(name), value) for name, value in added)
    return b"HTTP/1.1 %d %b\r\nDate: %b\r\n%b%b%b%b\r\n" % (
        status,
        response.reason,
        date,
        kind,
        framing,
        more,
        connection,
    )


def has_body(method: bytes, status: int) -> bool:
    """Report whether a response may have a body (RFC 9112 section 6.3)."""
    return method != b"HEAD" and status not in _NO_BODY


@lru_cache(maxsize=256)
def _lines(headers: Headers) -> bytes:
    """The lines of a response's own headers. Responses are not stored unless they say so."""
    lines = b"".join(b"%b: %b\r\n" % (_canonical(name), value) for name, value in headers)
    return lines if any(name == b"cache-control" for name, _ in headers) else b"Cache-Control: no-store\r\n" + lines


@lru_cache(maxsize=256)
def _canonical(name: bytes) -> bytes:
    """The name of a header as most software writes it."""
    return _SPELLINGS.get(name) or b"-".join(part.capitalize() for part in name.split(b"-"))
