"""Scripted servers on real sockets, for the doubles of rqlite: Consul with one key, and name
servers.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

import dns.message
import dns.rrset
from dns.flags import AA, RA, TC
from dns.message import Message
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from tests.support.virtual import PATIENCE, Service, World


def reply(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Some Reason\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def entry(value: bytes) -> bytes:
    """Return the answer to a GET as Consul gives it."""
    members = {"LockIndex": 0, "Key": "rqlite/leader", "Flags": 0, "Value": b64encode(value).decode()}
    return reply(200, json.dumps([members]).encode())


@contextmanager
def running(target: Callable[[socket.socket], None], source: socket.socket) -> Iterator[None]:
    """Serve a socket in a thread, which has ended when the context is left."""
    thread = Thread(target=target, args=[source], daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)


class Consul:
    """One key of Consul's, and its requests with their virtual times."""

    def __init__(self, world: World) -> None:
        self.value: bytes | None = None
        self.answers: list[bytes] = []
        self.asked: list[tuple[float, bytes]] = []
        self.connections: list[socket.socket] = []
        self._world = world

    def answer(self, request: bytes) -> bytes:
        """Return the next canned answer, or else Consul's."""
        self.asked.append((self._world.now, request))
        if self.answers:
            return self.answers.pop(0)
        if request.startswith(b"GET"):
            return reply(404) if self.value is None else entry(self.value)
        if b"?cas=0" in request and self.value is not None:
            return reply(200, b"false")
        self.value = request.partition(b"\r\n\r\n")[2]
        return reply(200, b"true")

    def kinds(self, since: float = 0) -> list[str]:
        """Summarize the requests since a time."""
        return [
            "get" if request.startswith(b"GET") else "claim" if b"cas=0" in request else "report"
            for at, request in self.asked
            if at >= since
        ]

    @contextmanager
    def serve(self) -> Iterator[Service]:
        """Answer over real connections inside the context."""
        with socket.create_server(("127.0.0.1", 0)) as listener, running(self._accept, listener):
            try:
                yield Service(http=listener.getsockname()[1])
            finally:
                listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            while (request := connection.recv(65536)) and (answer := self.answer(request)):
                connection.sendall(answer)


AUTHORITATIVE, RECURSIVE, TRUNCATED = AA, RA, AA | TC


def answer_to(query: Message, flags: int = AUTHORITATIVE, rcode: int = 0, count: int = 2, target: str = "") -> bytes:
    """Return the answer of a good server, or one with other flags, or with fewer or more records;
    only `six` has IPv6 addresses.
    """
    response = dns.message.make_response(query)
    response.use_edns(False)
    response.flags = response.flags & ~AA | flags
    response.set_rcode(Rcode(rcode))
    (asked,) = query.question
    has_ipv6 = asked.name.labels[0] == b"six"
    texts = {
        RdataType.AAAA: [f"fd00::{number}" for number in range(count * has_ipv6)],
        RdataType.A: [f"10.0.0.{number}" for number in range(count * (not has_ipv6))],
        RdataType.SRV: [f"{number % 2} 1 {number} {target or f'n{number}.good.example.'}" for number in range(count)],
    }.get(asked.rdtype)
    if texts:
        response.answer.append(dns.rrset.from_text(asked.name, 1, "IN", asked.rdtype, *texts))
    return response.to_wire(max_size=65535)


def forgeries_of(query: Message) -> list[bytes]:
    """Return forgeries by somebody who does not see the query, or does not understand it."""
    good = answer_to(query)
    other = dns.message.make_query("other.example.", query.question[0].rdtype, id=query.id)
    no_question = good[:4] + bytes(8)
    return [b"", good[:11], bytes([good[0] ^ 1]) + good[1:], query.to_wire(), answer_to(other), no_question]


def in_capitals(answer: bytes) -> bytes:
    return answer[:12] + answer[12:].replace(b"shouting", b"SHOUTING")


Manner = Callable[[Message, str, int], Sequence[bytes]]
# How a server may behave towards a query that arrives by UDP or TCP and is repeated this many
# times.
MANNERS: dict[str, Manner] = {
    "good": lambda query, *_: [answer_to(query)],
    "shouting": lambda query, *_: [in_capitals(answer_to(query))],
    "forged": lambda query, *_: [*forgeries_of(query), answer_to(query)],
    "silent": lambda *_: [],
    "confused": lambda query, *_: forgeries_of(query),
    "gone": lambda query, *_: [answer_to(query, rcode=Rcode.NXDOMAIN, count=0)],
    "empty": lambda query, *_: [answer_to(query, count=0)],
    "half": lambda query, *_: [answer_to(query, rcode=3 * (query.question[0].rdtype == RdataType.AAAA))],
    "lame": lambda query, *_: [answer_to(query, 0, count=0)],
    "recursive": lambda query, *_: [answer_to(query, RECURSIVE, count=0)],
    "failing": lambda query, *_: [answer_to(query, rcode=Rcode.SERVFAIL, count=0)],
    "recovering": lambda query, _, turn: [answer_to(query, rcode=0 if turn else Rcode.SERVFAIL)],
    "refusing": lambda query, *_: [answer_to(query, rcode=Rcode.REFUSED, count=0)],
    "brief": lambda query, by, _: [answer_to(query, TRUNCATED, count=0) if by == "udp" else answer_to(query, count=99)],
    "curt": lambda query, by, _: [answer_to(query, TRUNCATED, count=1 if by == "tcp" else 0)],
    "mute": lambda query, by, _: [answer_to(query, TRUNCATED)] if by == "udp" else [],
    "mistaken": lambda query, by, _: [answer_to(query, TRUNCATED)] if by == "udp" else [forgeries_of(query)[2]],
    "huge": lambda query, *_: [answer_to(query, count=99)],
    "numeric": lambda query, *_: [answer_to(query, target="10.0.0.1.")],
    "partial": lambda query, *_: [answer_to(query, count=1, target="gone.example.")],
}


class NameServer:
    """Behaves in the manner named by the first label of a name, or the first after
    `_service._tcp`.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    @contextmanager
    def serve(self, patience: float = 0.05) -> Iterator[Service]:
        """Answer inside the context, over UDP and TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(listener.getsockname())
            with running(self._datagrams, datagrams), running(self._streams, listener):
                try:
                    yield Service(dns=listener.getsockname()[1], patience=patience)
                finally:
                    listener.shutdown(socket.SHUT_RDWR)
                    datagrams.sendto(b"", datagrams.getsockname())

    def _answers(self, content: bytes, by: str) -> Sequence[bytes]:
        turn = [question[2:] for _, question in self.asked].count(content[2:])
        self.asked.append((by, content))
        query = dns.message.from_wire(content)
        manner = next(label.decode() for label in query.question[0].name.labels if not label.startswith(b"_"))
        return MANNERS[manner if manner in MANNERS else "good"](query, by, turn)

    def _datagrams(self, datagrams: socket.socket) -> None:
        while True:
            content, client = datagrams.recvfrom(65536)
            if not content:
                return
            for answer in self._answers(content, "udp"):
                datagrams.sendto(answer, client)

    def _streams(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                for answer in self._answers(connection.recv(65536)[2:], "tcp"):
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)
