"""Queries to a name server in memory, and the checks that every answer must pass.

Queries enter where a socket would deliver them, through the real listener. Answers are read by
dnspython, which is strict.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.message import Message
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from rqdisco.core.records import Node
from rqdisco.dns.response_rate_limit import ResponseRateLimit
from rqdisco.dns.responses import NameServer
from rqdisco.dns.server import DNSConnectionFactory, DNSServer
from rqdisco.probes.resolution.host_names import HostNames
from rqdisco.service.options import DaemonOptions
from tests.support.any_daemon import AnyDaemon
from tests.support.backends import new_daemon
from tests.support.daemon import result, transferred
from tests.support.dns_sockets import CLIENT, Line, Reactor, UDPPort
from tests.support.resolver import Resolver

ZONE = "disco.example.com"
EDNS_SIZE = 1232
RCODES = {0, 1, 3, 4, 5, 16}
_HEADER = 12


class Names:
    """The name server of a daemon in memory."""

    def __init__(
        self,
        *options: str,
        ips: Sequence[str] = ("192.0.2.53",),
        port: int = 53,
        daemon: AnyDaemon | None = None,
        rate: float = 0,
    ) -> None:
        # Of another daemon only the answers matter.
        self.reactor = daemon.clock if daemon is not None and isinstance(daemon.clock, Reactor) else Reactor()
        self.daemon = daemon or new_daemon(clock=self.reactor)
        self.resolver = Resolver()
        parsed = DaemonOptions({})
        parsed.parseOptions(["--dns=192.0.2.53:53", "--dns-open", f"--dns-zone={ZONE}", *options])
        config = parsed.config.dns
        assert config is not None
        host_names = HostNames(self.reactor, self.resolver)
        self.server = NameServer(
            self.daemon.names, config.zone, host_names, self.reactor, config.nameserver, ips, self.daemon.rounds
        )
        limit = ResponseRateLimit(rate, self.reactor.seconds)
        self.listener = DNSServer(self.reactor, self.server, limit, [(ip, port) for ip in ips])
        self.ports = self.listener.listen()

    @property
    def udp(self) -> UDPPort:
        return self.reactor.udp_ports[0]

    @property
    def connections(self) -> DNSConnectionFactory:
        factory = self.reactor.tcpServers[0][1]
        assert isinstance(factory, DNSConnectionFactory)
        return factory

    def add(self, discovery_id: str, *nodes: Node | str) -> None:
        """Add an ID with these nodes; a text is the address of a node that listens for Raft one
        port higher.
        """
        made = tuple(node if isinstance(node, Node) else both(node) for node in nodes)
        brought = transferred(discovery_id, *made)
        result(Deferred.fromCoroutine(self.daemon.directory.adopt(brought, as_own=True)))

    def join(self, discovery_id: str, addr: str) -> None:
        """Register one more node, which listens for Raft one port higher."""
        result(Deferred.fromCoroutine(self.daemon.directory.register(discovery_id, both(addr), None)))

    def outlast_caches(self) -> None:
        """Let time pass until earlier answers are not used any more."""
        self.reactor.advance(self.daemon.dns_age)

    def exchange(self, query: bytes, source: tuple[str, int] = CLIENT) -> list[bytes]:
        """Deliver a datagram; return what is sent back without time passing."""
        self.udp.sent.clear()
        self.udp.protocol.datagramReceived(query, source)
        assert all(addr == source for _, addr in self.udp.sent)
        return [packet for packet, _ in self.udp.sent]

    def ask(self, name: str | dns.name.Name, kind: str = "A", **options: Any) -> Message:
        """Return the answer to a query over UDP."""
        query = question(name, kind, **options)
        (answer,) = self.exchange(query)
        return checked(query, answer, udp_room(query))

    def connect(self, host: str = CLIENT[0]) -> Line:
        return Line(self.reactor, self.reactor.tcpServers[0][1], host)

    def ask_over_tcp(self, name: str, kind: str = "A", **options: Any) -> Message:
        query = question(name, kind, **options)
        line = self.connect()
        line.write(query)
        (answer,) = line.messages()
        line.shut()
        assert line.is_closed
        return checked(query, answer, 65535)


def both(addr: str) -> Node:
    """Return a node that listens for Raft one port above its HTTP port."""
    host, _, port = addr.rpartition(":")
    return Node(addr=addr, raft_addr=f"{host}:{int(port) + 1}")


def question(
    name: str | dns.name.Name,
    kind: str = "A",
    *,
    cls: str = "IN",
    flags: int = dns.flags.RD,
    size: int | None = EDNS_SIZE,
    version: int = 0,
    ednsflags: int = 0,
    options: Sequence[dns.edns.Option] = (),
) -> bytes:
    """Return a query as a resolver sends it; without EDNS where `size` is None."""
    absolute = name if isinstance(name, dns.name.Name) else dns.name.from_text(name)
    query = dns.message.make_query(absolute, kind, cls, use_edns=False, flags=flags)
    if size is not None:
        query.use_edns(version, ednsflags, size, options=list(options))
    return query.to_wire()


def udp_room(query: bytes) -> int:
    """Return the longest permitted answer to a valid query."""
    size = dns.message.from_wire(query).payload
    return 512 if size == 0 else max(512, min(size, EDNS_SIZE))


def checked(query: bytes, answer: bytes, most: int) -> Message:
    """Return the answer, after checking everything that holds for every answer to a well-formed
    query.
    """
    assert len(answer) <= most
    asked, got = dns.message.from_wire(query), dns.message.from_wire(answer)
    assert got.id == asked.id
    assert got.opcode() == asked.opcode()
    assert got.flags & dns.flags.QR
    for never in (dns.flags.RA, dns.flags.AD, dns.flags.CD, 0x40):
        assert not got.flags & never
    assert got.flags & dns.flags.RD == asked.flags & dns.flags.RD
    (asked_for,) = asked.question
    end = _HEADER + len(asked_for.name.to_wire() or b"") + 4
    assert answer[_HEADER:end] == query[_HEADER:end], "the question is returned byte for byte"
    assert (got.edns >= 0) == (asked.edns >= 0), "EDNS is answered with EDNS, and nothing else is"
    if got.edns >= 0:
        assert (got.edns, got.payload, got.options) == (0, EDNS_SIZE, ())
    for section in (got.answer, got.authority, got.additional):
        for rrset in section:
            assert rrset.ttl <= 1
            assert len({rdata.to_text() for rdata in rrset}) == len(rrset)
    for rrset in got.answer:
        assert rrset.name.labels == asked_for.name.labels, "in the same case"
        assert asked_for.rdtype in (rrset.rdtype, dns.rdatatype.ANY)
    if got.flags & dns.flags.TC and most < 65535:
        assert not got.answer + got.authority + got.additional
    elif got.flags & dns.flags.AA and not got.answer and got.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        (soa,) = got.authority
        assert (soa.name, soa.rdtype) == (dns.name.from_text(ZONE), dns.rdatatype.SOA)
        assert soa[0].minimum <= 1, "an absence is cached briefly"
    else:
        assert not got.authority
    return got


def answers(message: Message) -> list[str]:
    """Return the answer section in order, one text for each record's data."""
    return [rdata.to_text() for rrset in message.answer for rdata in rrset]


def additional(message: Message) -> dict[str, list[str]]:
    """Return the addresses of names, from the additional section."""
    found: dict[str, list[str]] = {}
    for rrset in message.additional:
        found.setdefault(rrset.name.to_text(), []).extend(rdata.to_text() for rdata in rrset)
    return found


def targets(message: Message) -> list[tuple[int, str]]:
    """Return port and name of each SRV record."""
    return [(int(port), name) for _, _, port, name in (text.split() for text in answers(message))]


def rcode(message: Message) -> str:
    return dns.rcode.to_text(message.rcode())


def is_absent(message: Message) -> bool:
    """Report whether the name exists without such a record."""
    return rcode(message) == "NOERROR" and not message.answer and not message.flags & dns.flags.TC


def is_ip(name: str) -> bool:
    """Report whether a name is an IP address in text form."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name.removesuffix("."))
        except OSError:
            continue
        return True
    return False


_QUERIES = st.builds(
    question,
    st.sampled_from([f"id.{ZONE}", f"_rqlite-raft._tcp.id.{ZONE}", ZONE, f"n-0a000001.id.{ZONE}", "example.org"]),
    st.sampled_from(["A", "AAAA", "SRV", "ANY", "SOA", "AXFR"]),
    size=st.sampled_from([None, 0, 512, EDNS_SIZE, 65535]),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A query with some bytes changed, removed and added."""
    data = bytearray(draw(_QUERIES))
    for _ in range(draw(st.integers(0, 6))):
        at, octets = draw(st.integers(0, len(data))), draw(st.binary(max_size=3))
        data[at : at + draw(st.integers(0, 3))] = octets
    return bytes(data)


def messages() -> st.SearchStrategy[bytes]:
    """Queries, almost-queries, and other bytes."""
    return _mutated() | st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: bytes(12) + rest)
