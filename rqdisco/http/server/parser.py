"""Finds requests in the bytes of a connection, by llhttp. Nothing here knows sockets or time."""

from __future__ import annotations

import msgspec
from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from rqdisco.http.requests.request import RequestHeaders
from rqdisco.http.server.heads import (
    ALLOW,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    BadHead,
    Framing,
    check_target,
    has_rtsp_method,
    may_be_request_line,
    read_framing,
    refusal_of_head,
    too_large,
    version_of,
)

# A chunk's size and its line ends.
_CHUNK_BYTES = 20
_EMPTY_LINE = b"\r\n\r\n"


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of a request. `keeps_alive` reports whether the client may send another request
    behind this one.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: RequestHeaders
    framing: Framing
    keeps_alive: bool


class RequestParser:
    """Parses one request at a time.

    llhttp cannot pause, so it is fed no further than to the end of a request: to an empty line,
    which ends a head and a chunked body, or to the end of a body whose length is known. What is
    behind it stays with the caller. Trailers are dropped (RFC 9110 section 6.5.1).
    """

    def __init__(self) -> None:
        # The head of the current request once it is complete; whether all of the request is.
        self.head: Head | None = None
        self.is_complete = False
        # Keep one byte more than this, which shows that the body is too large.
        self.max_body = 0
        self._llhttp: HttpRequestParser | None = None
        # The bytes of an incomplete head; and the last bytes received, in case an empty line is
        # split.
        self._bytes = b""
        self._tail = b""
        self._target = b""
        self._headers: RequestHeaders = []
        self._body: bytes | bytearray = b""
        # The number of body bytes kept.
        self.kept = 0
        # The number of bytes still missing of a body of known length.
        self._missing = 0
        # The bytes of a chunked body that are not its content: sizes, extensions, trailers.
        self._overhead = 0
        self._trailers = 0
        self._has_headers = self._keeps_alive = False
        self._is_upgrade = self._is_method_unknown = False

    @property
    def is_receiving(self) -> bool:
        """Report whether a part of a request has been parsed, and not all of it."""
        return bool(self._bytes) or (self.head is not None and not self.is_complete)

    def feed(self, data: bytes) -> bytes:
        """Parse up to the end of a head or of a request; return what is behind it. Raises BadHead,
        after which the parser cannot be used.
        """
        if self.head is None:
            if not self._bytes:
                # Empty lines before a request (RFC 9112 section 2.2).
                data = data.lstrip(b"\r\n")
                if not data:
                    return data
            part, rest = self._up_to_empty_line(data)
            self._feed_head(part)
            return rest
        if self._missing:
            part, rest = data[: self._missing], data[self._missing :]
            self._missing -= len(part)
        else:
            part, rest = self._up_to_empty_line(data)
        self._execute(part)
        self._bound_overhead(len(part))
        return rest

    def take_body(self) -> bytes:
        """Return the body as far as it has been kept, and expect another request."""
        body, self._body = self._body, b""
        self.head = None
        self.kept = 0
        self._tail = b""
        self.is_complete = self._has_headers = False
        self._overhead = 0
        if self._trailers:
            # llhttp takes a trailer for a header: the next request would be refused behind
            # Connection: close.
            self._llhttp = None
            self._trailers = 0
        return bytes(body)

    # What llhttp calls.

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_headers:
            self._trailers += 1
        else:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if not self._has_headers and self._llhttp is not None:
            self._has_headers = True
            self._keeps_alive = self._llhttp.should_keep_alive()

    def on_chunk_header(self) -> None:
        self._overhead -= _CHUNK_BYTES

    def on_body(self, data: bytes) -> None:
        self._overhead -= len(data)
        room = self.max_body + 1 - self.kept
        if room > 0:
            kept = data[:room]
            self.kept += len(kept)
            if not self._body:
                self._body = kept
            elif isinstance(self._body, bytearray):
                self._body += kept
            else:
                # Most bodies come in one piece; of many pieces, each would be an object.
                self._body = bytearray(self._body + kept)

    def on_message_complete(self) -> None:
        self.is_complete = True

    def _bound_overhead(self, size: int) -> None:
        """Raises BadHead if chunk extensions or trailers are too large (RFC 9112 section 7.1.1)."""
        # Many small chunks leave no credit for a huge trailer.
        self._overhead = max(0, self._overhead + size)
        if self._overhead > MAX_HEAD_BYTES or self._trailers > MAX_HEADERS:
            raise BadHead(431, "chunk extensions or trailers too large")

    # Heads.

    def _up_to_empty_line(self, data: bytes) -> tuple[bytes, bytes]:
        """Divide behind the first empty line, which may have begun before `data`."""
        before = self._tail
        end = (before + data if before else data).find(_EMPTY_LINE)
        if end < 0:
            self._tail = (before + data)[-3:]
            return data, b""
        self._tail = b""
        cut = end + len(_EMPTY_LINE) - len(before)
        return (data, b"") if cut == len(data) else (data[:cut], data[cut:])

    def _feed_head(self, data: bytes) -> None:
        # What is beyond the limit is refused unparsed: a read can be four times as large.
        data = data[: MAX_HEAD_BYTES + 1 - len(self._bytes)]
        self._bytes = self._bytes + data if self._bytes else data
        if not self._is_method_unknown:
            self._execute(data)
        if len(self._bytes) > MAX_HEAD_BYTES:
            raise too_large(self._bytes)
        if self._is_method_unknown:
            self._refuse_method()
        elif self._has_headers:
            self._read_head()
        else:
            self._check_line()

    def _check_line(self) -> None:
        """Check the first line before the rest of the head is there: llhttp takes HTTP/0.9. Raises
        BadHead.
        """
        line, is_whole, _ = self._bytes.partition(b"\r\n")
        if is_whole:
            version_of(line)

    def _execute(self, data: bytes) -> None:
        """Let llhttp parse. Raises BadHead."""
        if self._llhttp is None:
            self._llhttp = HttpRequestParser(self)
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            # llhttp takes the request for complete, and what follows for another protocol.
            self._is_upgrade = True
            self._llhttp = None
        except HttpParserInvalidMethodError:
            self._is_method_unknown = True
        except HttpParserError:
            if self.head is not None or not has_rtsp_method(self._bytes):
                raise refusal_of_head(self._bytes) from None
            self._is_method_unknown = True

    def _refuse_method(self) -> None:
        """Refuse a method that llhttp does not know once its line is complete, and anything else at
        once. Raises BadHead.
        """
        line, is_whole, _ = self._bytes.partition(b"\n")
        if not may_be_request_line(line, is_whole=bool(is_whole)):
            raise BadHead(400, "malformed request line")
        if is_whole:
            raise BadHead(405, "unsupported method", ALLOW)

    def _read_head(self) -> None:
        line = self._bytes.partition(b"\r\n")[0]
        self._bytes = b""
        version = version_of(line)
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        framing = read_framing(version, headers)
        method = line[: line.index(b" ")]
        if not target.startswith(b"/") and method != b"CONNECT":
            headers = check_target(method, target, headers)
        self._missing = framing.length
        if self._is_upgrade:
            self._ignore_upgrade(method, framing)
        self.head = Head(method, target, version, headers, framing, self._keeps_alive and version == b"1.1")

    def _ignore_upgrade(self, method: bytes, framing: Framing) -> None:
        """Feed llhttp a substitute head without an upgrade, so that it parses the body. Raises
        BadHead.
        """
        self._is_upgrade = False
        if method == b"CONNECT":
            raise BadHead(405, "unsupported method", ALLOW)
        if framing.length or framing.is_chunked:
            self.is_complete = False
            length = b"Transfer-Encoding: chunked" if framing.is_chunked else b"Content-Length: %d" % framing.length
            self._execute(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % length)
            self._target = b""
