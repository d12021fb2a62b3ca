"""Datagrams and connections: anything that arrives, however slowly, is answered, dropped or cut
off.
"""

from __future__ import annotations

import struct
from errno import EACCES, EAGAIN, EINVAL, EMSGSIZE, ENETUNREACH, EPERM

import dns.edns
import dns.flags
import dns.message
import pytest
from dns.edns import OptionType
from hypothesis import given
from pytest_twisted import ensureDeferred
from twisted.internet.error import CannotListenError, MessageLengthError

from rqdisco.dns.server import READ_BYTES
from tests.support.dns import EDNS_SIZE, RCODES, ZONE, Names, additional, answers, messages, question, rcode
from tests.support.listening import close, port_number

RAFT = f"_rqlite-raft._tcp.id.{ZONE}"
UUID = "b3da7185-725f-461c-b7a4-13f185bd5007"


@pytest.fixture
def names() -> Names:
    return Names()


def addrs(count: int) -> list[str]:
    return [f"10.0.{number >> 8}.{number & 255}:4001" for number in range(count)]


@pytest.mark.parametrize(("flags", "expected"), [(0, 0), (dns.flags.RD, dns.flags.RD), (0x7F << 4, dns.flags.RD)])
def test_only_the_recursion_desired_flag_comes_back(names: Names, flags: int, expected: int) -> None:
    for name in (f"id.{ZONE}", "example.org"):
        assert names.ask(name, flags=flags | expected).flags & dns.flags.RD == expected


@pytest.mark.parametrize(
    "options",
    [
        [dns.edns.GenericOption(OptionType.COOKIE, b"12345678")],
        [dns.edns.ECSOption("198.51.100.0", 24)],
        [
            dns.edns.GenericOption(OptionType.NSID, b""),
            dns.edns.GenericOption(OptionType.make(65001), bytes(200)),
            dns.edns.GenericOption(OptionType.PADDING, bytes(300)),
        ],
    ],
)
def test_edns_options_such_as_cookies_are_ignored_and_not_returned(
    names: Names, options: list[dns.edns.Option]
) -> None:
    names.add("id", "10.0.0.1:4001")
    assert answers(names.ask(f"id.{ZONE}", options=options)) == ["10.0.0.1"]


def test_only_the_dnssec_flag_of_edns_comes_back(names: Names) -> None:
    """RFC 3225 section 3."""
    assert names.ask(f"id.{ZONE}", ednsflags=0xFFFF).ednsflags & 0xFFFF == dns.flags.DO
    assert names.ask(f"id.{ZONE}", ednsflags=0x7FFF).ednsflags & 0xFFFF == 0


@pytest.mark.parametrize("version", [1, 2, 255])
def test_a_later_edns_version_gets_the_supported_version(names: Names, version: int) -> None:
    names.add("id", "10.0.0.1:4001")
    got = names.ask(f"id.{ZONE}", version=version)
    assert (rcode(got), got.edns, got.answer) == ("BADVERS", 0, [])


@pytest.mark.parametrize("opcode", [1, 2, 4, 6, 15])
def test_an_operation_other_than_query_is_not_implemented(names: Names, opcode: int) -> None:
    got = names.ask(f"id.{ZONE}", flags=opcode << 11)
    assert (rcode(got), got.answer) == ("NOTIMP", [])


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 11, b"\0\0\x80" + b"\0" * 30])
def test_a_packet_without_a_header_is_not_answered(names: Names, data: bytes) -> None:
    assert names.exchange(data) == []


def test_a_response_is_not_answered(names: Names) -> None:
    (answer,) = names.exchange(question(f"id.{ZONE}"))
    assert names.exchange(answer) == []


def test_a_datagram_from_port_0_is_not_answered(names: Names) -> None:
    assert names.exchange(question(f"id.{ZONE}"), ("198.51.100.7", 0)) == []


@pytest.mark.parametrize("number", [EACCES, EAGAIN, EINVAL, EMSGSIZE, ENETUNREACH, EPERM])
def test_an_answer_that_cannot_be_sent_is_ignored(names: Names, number: int) -> None:
    """The sender of a datagram may be anybody, or a firewall in between; see also the fixture for
    errors in the log.
    """

    def failure() -> Exception:
        return MessageLengthError() if number == EMSGSIZE else OSError(number, "no way")

    names.udp.failure = failure
    for _ in range(2):
        assert names.exchange(question(f"id.{ZONE}")) == []
    names.udp.failure = None
    assert len(names.exchange(question(f"id.{ZONE}"))) == 1


@pytest.mark.parametrize(
    ("kind", "size", "most"),
    [
        ("A", None, 27),
        ("A", 512, 26),
        ("A", 100, 26),
        ("A", EDNS_SIZE, 71),
        ("A", 4096, 71),
        ("AAAA", None, 15),
        ("AAAA", EDNS_SIZE, 41),
        ("SRV", None, 4),
        ("SRV", EDNS_SIZE, 13),
    ],
)
def test_the_answer_is_truncated_from_a_certain_number_of_nodes_on(
    names: Names, kind: str, size: int | None, most: int
) -> None:
    made = [f"[fd00::{number:x}]:4001" for number in range(1, 99)] if kind == "AAAA" else addrs(99)
    name = f"_rqlite-raft._tcp.{UUID}.{ZONE}" if kind == "SRV" else f"{UUID}.{ZONE}"
    names.add(UUID, *made[:most])
    assert len(answers(names.ask(name, kind, size=size))) == most
    names.join(UUID, "[fd00::99]:1" if kind == "AAAA" else "10.9.9.9:1")
    cut = names.ask(name, kind, size=size)
    assert cut.flags & dns.flags.TC
    assert cut.flags & dns.flags.AA
    assert len(answers(names.ask_over_tcp(name, kind, size=size))) == most + 1


def test_addresses_of_targets_are_left_out_before_targets_are(names: Names) -> None:
    names.add("id", *addrs(20))
    plain, large = names.ask(RAFT, "SRV", size=None), names.ask(RAFT, "SRV")
    assert plain.flags & dns.flags.TC
    assert (len(answers(large)), len(additional(large))) == (20, 0)
    over_tcp = names.ask_over_tcp(RAFT, "SRV", size=None)
    assert (len(answers(over_tcp)), len(additional(over_tcp))) == (20, 20)


def test_a_thousand_nodes_come_over_tcp_up_to_the_size_of_a_message(names: Names) -> None:
    names.add(UUID, *addrs(1000))
    assert len(answers(names.ask_over_tcp(f"{UUID}.{ZONE}"))) == 1000
    for size in (None, EDNS_SIZE):
        got = names.ask_over_tcp(f"_rqlite-raft._tcp.{UUID}.{ZONE}", "SRV", size=size)
        assert got.flags & dns.flags.TC, "truncated for everybody"
        assert 700 < len(answers(got)) < 1000
    assert names.ask(f"_rqlite-raft._tcp.{UUID}.{ZONE}", "SRV").flags & dns.flags.TC


def test_an_answer_whose_port_is_closed_is_dropped(names: Names) -> None:
    names.resolver.hold = True
    names.add("slow", "slow:4001")
    assert names.exchange(question(f"slow.{ZONE}")) == []
    for port in names.ports:
        port.stopListening()
    names.resolver.release()
    assert names.udp.sent == []


def test_every_address_has_udp_and_tcp_ports_of_one_number() -> None:
    names = Names(ips=("192.0.2.53", "2001:db8::53"), port=5353)
    assert [(port, interface) for port, _, _, interface in names.reactor.tcpServers] == [
        (5353, "192.0.2.53"), (5353, "2001:db8::53")
    ]  # fmt: skip
    assert [(port.address.host, port.address.port) for port in names.reactor.udp_ports] == [
        ("192.0.2.53", 5353), ("2001:db8::53", 5353)
    ]  # fmt: skip


@given(messages())
def test_any_datagram_gets_a_short_and_valid_answer_or_none(data: bytes) -> None:
    names = Names()
    names.add("id", *addrs(40))
    sent = names.exchange(data)
    assert len(sent) == (0 if len(data) < 12 or data[2] & 0x80 else 1)
    for answer in sent:
        # dnspython parses an update by rules of its own (RFC 2136), which an echoed question does
        # not keep.
        got = dns.message.from_wire(answer[:2] + bytes([answer[2] & 0x87]) + answer[3:])
        assert got.rcode() in RCODES
        assert len(answer) <= EDNS_SIZE
        assert (got.id, answer[2] >> 3 & 15) == (struct.unpack_from("!H", data)[0], data[2] >> 3 & 15)
        assert bool(got.flags & dns.flags.RD) == bool(data[2] & 1)
        assert got.rcode() in (0, 3) or not got.answer


@ensureDeferred
async def test_a_flood_of_datagrams_is_read_in_portions() -> None:
    """Over a real socket: Twisted would read a quarter of a megabyte before anything else gets a
    turn.
    """
    from socket import AF_INET, SOCK_DGRAM, socket

    from twisted.internet import reactor

    from rqdisco.dns.response_rate_limit import ResponseRateLimit
    from rqdisco.dns.server import DNSServer

    names = Names()
    tcp, udp = DNSServer(
        reactor, names.server, ResponseRateLimit(0, names.reactor.seconds), [("127.0.0.1", 0)]
    ).listen()
    try:
        with socket(AF_INET, SOCK_DGRAM) as client:
            client.setblocking(False)
            padding = [dns.edns.GenericOption(OptionType.PADDING, bytes(900))]
            query = question(f"id.{ZONE}", options=padding)
            for _ in range(30):
                client.sendto(query, ("127.0.0.1", port_number(udp)))
            udp.doRead()  # type: ignore[attr-defined]
            answered = 0
            while True:
                try:
                    client.recv(EDNS_SIZE)
                except BlockingIOError:
                    break
                answered += 1
        assert 0 < answered <= READ_BYTES // len(query) + 1
    finally:
        for port in (tcp, udp):
            await close(port)


@ensureDeferred
async def test_a_port_in_use_cannot_be_listened_on() -> None:
    from twisted.internet import reactor

    from rqdisco.dns.response_rate_limit import ResponseRateLimit
    from rqdisco.dns.server import DNSServer

    names = Names()
    limit = ResponseRateLimit(0, names.reactor.seconds)
    ports = DNSServer(reactor, names.server, limit, [("127.0.0.1", 0)]).listen()
    try:
        with pytest.raises(CannotListenError):
            DNSServer(reactor, names.server, limit, [("127.0.0.1", port_number(ports[0]))]).listen()
    finally:
        for port in ports:
            await close(port)
