"""The name server of the running daemon, queried by Debian's dig and by misbehaving clients."""

from __future__ import annotations

import random
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import pytest

from tests.integration.conftest import Start
from tests.support.dns import ZONE, answers, question
from tests.support.process import PATIENCE, DaemonProcess, Environment

pytestmark = pytest.mark.process

OPTIONS = ("--dns-zone", ZONE)


@pytest.fixture(scope="module")
def shared(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with a name server for all tests that leave it unchanged."""
    state = tmp_path_factory.mktemp("dns") / "state"
    daemon = installed.start(*installed.twistd(state, "--dns", "127.0.0.1:0", *OPTIONS))
    yield daemon
    daemon.kill()


@pytest.fixture
def daemon(shared: DaemonProcess) -> Iterator[DaemonProcess]:
    """The module's daemon; after the test its log has nothing above level info."""
    yield shared
    assert shared.request("GET", "/").status == 200
    assert [event for event in shared.events if event["level"] != "info"] == []
    assert shared.stderr == ""


def port(daemon: DaemonProcess, number: int = 0) -> int:
    """Return the DNS port of a daemon."""
    return int(daemon.wait_for("listening")["dns"][number].rpartition(":")[2])


def dig(daemon: DaemonProcess, *arguments: str, server: str = "127.0.0.1") -> str:
    """Return the output of dig, without any search list or option but those given."""
    command = ["dig", "-r", f"@{server}", "-p", str(port(daemon)), "+tries=1", f"+time={PATIENCE:.0f}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def short(daemon: DaemonProcess, *arguments: str) -> list[str]:
    return dig(daemon, "+short", *arguments).splitlines()


def size(text: str) -> int:
    """Return the length of the answer, as dig prints it."""
    match = re.search(r"MSG SIZE +rcvd: (\d+)", text)
    assert match is not None, text
    return int(match[1])


def cluster(daemon: DaemonProcess, *addrs: str) -> str:
    """An ID with nodes that listen for Raft one port higher."""
    discovery_id = daemon.create_id()
    for addr in addrs:
        host, _, number = addr.rpartition(":")
        node = {"addr": addr, "raft_addr": f"{host}:{int(number) + 1}"}
        assert daemon.request("POST", f"/{discovery_id}", node).status == 200
    return discovery_id


def test_dig_gets_the_answers_that_rqlite_needs(daemon: DaemonProcess) -> None:
    discovery_id = cluster(daemon, "10.0.0.1:4001", "[fd00::2]:4001")
    name = f"{discovery_id}.{ZONE}"
    assert short(daemon, "A", name) == ["10.0.0.1"]
    assert short(daemon, "AAAA", name) == ["fd00::2"]
    for service in ("rqlite-raft", "rqlite", "raft", "rqlite-svc"):
        lines = short(daemon, "SRV", f"_{service}._tcp.{name}")
        assert [line.rpartition(" ")[0] for line in lines] == ["1 1 4002"] * 2
        targets = [line.rpartition(" ")[2] for line in lines]
        assert [short(daemon, kind, target) for kind, target in zip(("A", "AAAA"), targets, strict=True)] == [
            ["10.0.0.1"],
            ["fd00::2"],
        ]
    assert [line.split()[2] for line in short(daemon, "SRV", f"_rqlite-http._tcp.{name}")] == ["4001", "4001"]
    assert short(daemon, "A", f"ns.{ZONE}") == ["127.0.0.1"]
    assert short(daemon, "NS", ZONE) == [f"ns.{ZONE}."]
    assert short(daemon, "SOA", ZONE)[0].startswith(f"ns.{ZONE}. hostmaster.{ZONE}. ")


def test_dig_parses_everything_in_an_answer(daemon: DaemonProcess) -> None:
    text = dig(daemon, "A", f"{cluster(daemon, '10.0.0.1:4001')}.{ZONE}", "+cookie", "+subnet=198.51.100.0/24")
    assert ";; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1" in text
    assert "; EDNS: version: 0, flags:; udp: 1232" in text
    assert "WARNING: recursion requested but not available" in text
    assert "malformed" not in text
    for rude in ("COOKIE", "CLIENT-SUBNET", "Warning", "extra"):
        assert rude not in text


def test_dig_sees_absent_and_refused_names(daemon: DaemonProcess) -> None:
    discovery_id = cluster(daemon)
    for arguments, status, flags in (
        (("A", f"{discovery_id}.{ZONE}"), "NOERROR", "qr aa rd"),
        (("A", f"_tcp.{discovery_id}.{ZONE}"), "NOERROR", "qr aa rd"),
        (("A", f"nobody.{ZONE}"), "NXDOMAIN", "qr aa rd"),
        (("A", "example.org"), "REFUSED", "qr rd"),
        (("TXT", "CH", "version.bind"), "REFUSED", "qr rd"),
        (("A", ZONE, "+opcode=NOTIFY"), "NOTIMP", "qr rd"),
        (("A", ZONE, "+edns=1", "+noednsnegotiation"), "BADVERS", "qr rd"),
    ):
        text = dig(daemon, *arguments)
        assert f"status: {status}," in text, text
        assert f";; flags: {flags};" in text, text
        assert ("IN\tSOA" in text) == ("aa" in flags), text
    assert "Transfer failed." in dig(daemon, "AXFR", ZONE)
    assert "status: BADVERS" not in dig(daemon, "A", ZONE, "+edns=1"), "dig falls back to version 0"


def test_forty_nodes_are_complete_over_tcp_and_never_truncated_over_udp(daemon: DaemonProcess) -> None:
    addrs = [f"10.0.0.{number}" for number in range(40)]
    name = f"{cluster(daemon, *(f'{addr}:4001' for addr in addrs))}.{ZONE}"
    plain = dig(daemon, "A", name, "+noedns", "+ignore")
    assert ";; flags: qr aa tc rd;" in plain
    assert "ANSWER: 0" in plain
    assert size(plain) <= 512
    assert short(daemon, "A", name, "+noedns") == addrs
    large = dig(daemon, "A", name, "+bufsize=1232", "+ignore")
    assert "ANSWER: 40" in large
    assert 512 < size(large) <= 1232
    service = f"_rqlite-raft._tcp.{name}"
    cut = dig(daemon, "SRV", service, "+bufsize=4096", "+ignore")
    assert ";; flags: qr aa tc rd;" in cut
    assert size(cut) <= 1232
    whole = dig(daemon, "SRV", service)
    assert "ANSWER: 40, AUTHORITY: 0, ADDITIONAL: 41" in whole
    assert size(whole) > 1232
    both = dig(daemon, "+tcp", "+keepopen", name, "A", service, "SRV")
    assert both.count("ANSWER: 40,") == 2


def test_a_consul_kv_leader_is_in_dns_once_it_reported_itself(daemon: DaemonProcess) -> None:
    value = {"id": "1", "api_addr": "http://10.0.0.9:4001", "addr": "10.0.0.9:4002"}
    assert daemon.request("PUT", "/v1/kv/Prod/leader?cas=0", value).body == b"true"
    assert short(daemon, "A", f"prod.{ZONE}") == []
    assert daemon.request("PUT", "/v1/kv/Prod/leader", value).body == b"true"
    assert short(daemon, "A", f"prod.{ZONE}") == ["10.0.0.9"]
    assert [line.split()[2] for line in short(daemon, "SRV", f"_raft._tcp.PROD.{ZONE}")] == ["4002"]


def test_a_host_name_of_this_host_is_resolved(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--dns", "127.0.0.1:0", *OPTIONS)
    discovery_id = cluster(daemon, "localhost:4001", "no-such-host.invalid:4001")
    assert short(daemon, "A", f"{discovery_id}.{ZONE}") == ["127.0.0.1"]
    (line,) = short(daemon, "SRV", f"_rqlite-raft._tcp.{discovery_id}.{ZONE}")
    assert line == "1 1 4002 localhost."
    warning = "registered host name does not resolve and is omitted from DNS answers"
    assert daemon.wait_for(warning, host="no-such-host.invalid")["level"] == "warn"


def test_it_answers_on_every_configured_address(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", RQDISCO_DNS="127.0.0.1:0 [::1]:0", RQDISCO_DNS_ZONE=f"{ZONE}.")
    name = f"{cluster(daemon, '10.0.0.1:4001')}.{ZONE}"
    query = dns.message.from_wire(question(name))
    for number, server in enumerate(("127.0.0.1", "::1")):
        for ask in (dns.query.udp, dns.query.tcp):
            assert answers(ask(query, server, PATIENCE, port(daemon, number))) == ["10.0.0.1"]
    assert short(daemon, "AAAA", f"ns.{ZONE}") == ["::1"]
    assert daemon.complaints == []


def test_it_answers_the_same_after_a_crash(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--dns", "127.0.0.1:0", *OPTIONS)
    name = f"{cluster(daemon, '10.0.0.1:4001')}.{ZONE}"
    daemon.kill()
    assert short(start(tmp_path / "state", "--dns", "127.0.0.1:0", *OPTIONS), "A", name) == ["10.0.0.1"]


def test_it_stops_while_clients_are_connected(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--dns", "127.0.0.1:0", *OPTIONS)
    query = question(ZONE, "SOA")
    with connected(daemon) as idle, connected(daemon) as halfway, connected(daemon) as served:
        halfway.sendall(b"\0\x30\0")
        served.sendall(framed(query))
        assert receive(served)
        assert daemon.terminate() == -signal.SIGTERM
        for connection in (idle, halfway, served):
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    assert daemon.complaints == []
    assert daemon.stderr == ""


def test_a_client_that_half_closes_still_gets_its_answers(daemon: DaemonProcess) -> None:
    """As `nc -N` and some libraries do."""
    for _ in range(20):
        with connected(daemon) as connection:
            connection.sendall(framed(question(ZONE, "SOA")) * 3)
            connection.shutdown(socket.SHUT_WR)
            assert [bool(receive(connection)) for _ in range(3)] == [True] * 3
            assert connection.recv(1) == b""


@pytest.mark.parametrize("transport", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_random_bytes_leave_nothing_in_the_log(daemon: DaemonProcess, transport: int) -> None:
    noise = random.Random(7)
    query = question(f"{cluster(daemon, '10.0.0.1:4001')}.{ZONE}")
    for _ in range(300):
        data = bytearray(query if noise.random() < 0.7 else noise.randbytes(noise.randrange(600)))
        for _ in range(noise.randrange(5)):
            if data:
                data[noise.randrange(len(data))] = noise.randrange(256)
        with socket.socket(socket.AF_INET, transport) as client, suppress(ConnectionError):
            client.connect(("127.0.0.1", port(daemon)))
            client.sendall(framed(bytes(data)) if transport == socket.SOCK_STREAM else bytes(data))
    assert "status: NOERROR" in dig(daemon, "SOA", ZONE, "+tcp" if transport == socket.SOCK_STREAM else "+notcp")


def test_many_questions_are_answered_over_one_connection(daemon: DaemonProcess) -> None:
    name = f"{cluster(daemon, '10.0.0.1:4001')}.{ZONE}"
    with connected(daemon) as connection:
        connection.sendall(framed(question(name)) * 500)
        got = [dns.message.from_wire(receive(connection)) for _ in range(500)]
    assert all(answers(each) == ["10.0.0.1"] for each in got)


def test_the_local_host_may_exceed_the_rate(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--dns", "127.0.0.1:0", "--dns-rate=1", *OPTIONS)
    for _ in range(5):
        assert ";; flags: qr aa rd;" in dig(daemon, "SOA", ZONE, "+ignore")


@pytest.mark.parametrize("taken", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_port_in_use_is_69(installed: Environment, tmp_path: Path, taken: int) -> None:
    with socket.socket(socket.AF_INET, taken) as other:
        other.bind(("127.0.0.1", 0))
        if taken == socket.SOCK_STREAM:
            other.listen()
        where = f"127.0.0.1:{other.getsockname()[1]}"
        result = installed.run(*installed.twistd(tmp_path / "state", "--dns", where, *OPTIONS))
    assert result.returncode == 69
    hint = "stop what listens there, or choose another port"
    assert result.stderr == f"rqdisco: cannot listen for DNS on {where}: Address already in use; {hint}\n"


@pytest.mark.parametrize(
    "options",
    [
        ("--dns", "127.0.0.1:0"),
        ("--dns", "localhost:0", *OPTIONS),
        ("--dns", "127.0.0.1", *OPTIONS),
        ("--dns", "127.0.0.1:65536", *OPTIONS),
        ("--dns", "127.0.0.1:0", "--dns-zone", "a..b"),
        ("--dns", "127.0.0.1:0", "--dns-zone", "."),
        ("--dns", "127.0.0.1:0", "--dns-aliases", "a.b", *OPTIONS),
        ("--dns", "127.0.0.1:0", "--dns-aliases", "a:raft:b", *OPTIONS),
        ("--dns", "127.0.0.1:0", "--dns-rate", "many", *OPTIONS),
        ("--dns", "127.0.0.1:0", "--dns-nameserver", "-", *OPTIONS),
    ],
    ids=" ".join,
)
def test_a_bad_option_is_64(installed: Environment, tmp_path: Path, options: tuple[str, ...]) -> None:
    result = installed.run(*installed.twistd(tmp_path / "state", *options))
    assert result.returncode == 64
    assert re.fullmatch(r"rqdisco: dns[^\n]+\(see twistd rqdisco --help\)\n", result.stderr)


def connected(daemon: DaemonProcess) -> socket.socket:
    """Return a TCP connection to the name server."""
    return socket.create_connection(("127.0.0.1", port(daemon)), PATIENCE)


def framed(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def receive(connection: socket.socket) -> bytes:
    """Return the next message."""
    (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
    return connection.recv(length, socket.MSG_WAITALL)
