"""The output of a server on one connection, byte by byte, checked against RFC 9112."""

from __future__ import annotations

import re

import msgspec

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [\t \x21-\x7e]*")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t \x21-\x7e]*)")


class RawResponse(msgspec.Struct, frozen=True):
    """One response, with the names of its headers in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known == name]

    @property
    def says_close(self) -> bool:
        return b"close" in b",".join(self.values(b"connection")).lower().replace(b" ", b"").split(b",")


def read_responses(data: bytes) -> list[RawResponse]:
    """Read all responses. A response to HEAD has a length and no body: none starts as a response
    does.
    """
    responses = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        first, *lines = head.split(b"\r\n")
        status = _matched(_STATUS_LINE, first)[1]
        headers = tuple((name.lower(), value) for name, value in (_matched(_FIELD, line).groups() for line in lines))
        response = RawResponse(int(status), headers, b"")
        size = _body_size(response, rest)
        responses.append(msgspec.structs.replace(response, body=rest[:size]))
        data = rest[size:]
    return responses


def check_response(response: RawResponse) -> None:
    """Assert what every final response of this server has."""
    lengths = response.values(b"content-length")
    if response.status == 204:
        assert not lengths, "RFC 9110 section 8.6"
    else:
        assert len(lengths) == 1, f"one Content-Length: {response}"
    assert not response.values(b"transfer-encoding"), "its length is known"
    assert len(response.values(b"date")) == 1, "RFC 9110 section 6.6.1"
    if response.status == 405:
        assert response.values(b"allow"), "RFC 9110 section 15.5.6"
    if response.status == 204:
        assert b"OPTIONS" in response.values(b"allow")[0], "RFC 9110 section 9.3.7"


def _matched(pattern: re.Pattern[bytes], line: bytes) -> re.Match[bytes]:
    match = pattern.fullmatch(line)
    assert match is not None, f"no line of a head: {line!r}"
    return match


def _body_size(response: RawResponse, rest: bytes) -> int:
    if response.status in {100, 204} or rest.startswith(b"HTTP/1."):
        return 0
    lengths = response.values(b"content-length")
    size = int(lengths[0]) if lengths else len(rest)
    assert not rest or size <= len(rest), f"half a body: {response} {rest!r}"
    return size
