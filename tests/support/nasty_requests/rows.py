"""A row of the table of nasty requests, and the bytes of which requests are made."""

from __future__ import annotations

from typing import Literal

import msgspec

# Stands for an ID that exists; the test puts a real one, which is as long, in its place.
ID = b"00000000-0000-8000-8000-000000000000"
NODE = b'{"addr":"10.1.1.1:4001"}'
GOOD = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(NODE)
SMUGGLED_LENGTH = b"Content-Length: %d" % len(SMUGGLED)
SMUGGLED_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(NODE), NODE)
WHOLE = CHUNK + LAST
LONG = b"x" * 20_000

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


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


def get(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request without a body and with a Host."""
    return head(b"Host: h", *lines, first=first)


def post(*lines: bytes, body: bytes = NODE) -> bytes:
    """A registration; the lines say how long its body is."""
    return head(b"Host: h", *lines, first=b"POST /%b HTTP/1.1" % ID) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(CHUNKED, *lines, body=body)


def refused(name: str, section: str, data: bytes, *statuses: int, after: tuple[int, ...] = ()) -> NastyRequest:
    """A row whose framing is wrong: one refusal, behind the responses `after`, and the connection
    closes.
    """
    outcomes = tuple(Outcome((*after, status), "closed") for status in statuses or (400,))
    return NastyRequest(name, data, section, outcomes)


def rejected(name: str, section: str, data: bytes, *statuses: int) -> NastyRequest:
    """A row whose framing is right and whose request is not: one refusal; whether the connection
    closes is the server's choice.
    """
    ends: tuple[End, ...] = ("kept", "closed")
    outcomes = tuple(Outcome((status,), end) for status in statuses or (400,) for end in ends)
    return NastyRequest(name, data, section, outcomes)


def served(name: str, section: str, data: bytes, *statuses: int) -> NastyRequest:
    """A row that is right, however odd it looks: answered, and the connection is kept."""
    return NastyRequest(name, data, section, (Outcome(statuses or (200,), "kept"),))


def last(name: str, section: str, data: bytes, *statuses: int) -> NastyRequest:
    """A row that is right and whose client wants the connection closed."""
    return NastyRequest(name, data, section, (Outcome(statuses or (200,), "closed"),))


def either(name: str, section: str, data: bytes, status: int, *refusals: int) -> NastyRequest:
    """A row that a server may serve or refuse."""
    outcomes = Outcome((status,), "kept"), *(Outcome((each,), "closed") for each in refusals or (400,))
    return NastyRequest(name, data, section, outcomes)


def waits(name: str, section: str, data: bytes, *refusals: int) -> NastyRequest:
    """A row that is half a request; or one that may be refused for what it announces."""
    outcomes = Outcome((), "waits"), *(Outcome((status,), "closed") for status in refusals)
    return NastyRequest(name, data, section, outcomes)
