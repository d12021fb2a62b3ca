"""The recipes of docs/dns.md: Debian's resolvers, set up as documented, between clients and the
real daemon.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.integration.conftest import Start
from tests.support.process import PATIENCE, PROJECT, DaemonProcess
from tests.support.reference import Reference

pytestmark = pytest.mark.process

ZONE = "disco.example.com"
LOOPBACK = "127.0.0.1"
# A TTL of one second, in a resolver whose clock may have no fractions.
SOON = 2.0
# By default the resolver would find neither the root nor, that way, the zone's absence from it.
ROOT_KEY = ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"


def recipe(resolver: str, port: int) -> str:
    """Return the documented configuration, with our address in place of the example's."""
    section = (PROJECT / "docs" / "dns.md").read_text().partition(f"\n### {resolver}\n")[2]
    block = re.search(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block.start() < len(section.partition("\n##")[0])
    text, count = re.subn(r"192\.0\.2\.5([#@])5300", rf"{LOOPBACK}\g<1>{port}", block[1])
    assert count == 1
    return text


def program(name: str) -> str | None:
    """Return the path of a program; the directory of these two is not in every PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def dnsmasq(written: Path, port: int) -> list[str]:
    """A resolver with only the recipe, and protection against private addresses."""
    return [
        str(program("dnsmasq")),
        "--keep-in-foreground",
        f"--conf-file={written}",
        f"--listen-address={LOOPBACK}",
        f"--port={port}",
        "--bind-interfaces",
        "--no-hosts",
        "--no-resolv",
        "--pid-file=",
        "--stop-dns-rebind",
        "--log-facility=-",
    ]


def unbound(written: Path, port: int) -> list[str]:
    """A resolver that validates, with protection against private addresses."""
    main = written.with_name("unbound.conf")
    main.write_text(f"""
server:
    interface: {LOOPBACK}@{port}
    username: ""
    chroot: ""
    directory: "{written.parent}"
    pidfile: ""
    use-syslog: no
    trust-anchor: "{ROOT_KEY}"
    private-address: 10.0.0.0/8
    private-address: fd00::/8
include: "{written}"
""")
    return [str(program("unbound")), "-d", "-c", str(main)]


COMMANDS: dict[str, Callable[[Path, int], list[str]]] = {"dnsmasq": dnsmasq, "unbound": unbound}


def free_port() -> int:
    """Return a port that is free for UDP and TCP."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind((LOOPBACK, 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind((LOOPBACK, port))
            except OSError:
                continue
            return port


class Resolver:
    """A running resolver, and queries to it."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self._port = port
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def answers(self) -> bool:
        """Wait until it answers; return False if it has ended instead, for instance because its
        port was taken.
        """
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            try:
                return self.once(ZONE, "SOA", 0.2).rcode() == dns.rcode.NOERROR
            except dns.exception.Timeout:
                assert time.monotonic() < deadline, self._log.read_text()
        return False

    def once(self, name: str, kind: str, patience: float) -> dns.message.Message:
        """Return the answer to one query, by TCP if it is too long for UDP. Raises
        dns.exception.Timeout.
        """
        query = dns.message.make_query(name, kind, use_edns=0)
        answer, _ = dns.query.udp_with_fallback(query, LOOPBACK, patience, self._port)
        return answer

    def ask(self, name: str, kind: str = "A") -> dns.message.Message:
        """Return the answer; lost datagrams are repeated."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self.once(name, kind, 2)
            except dns.exception.Timeout:
                assert time.monotonic() < deadline, self._log.read_text()
            else:
                assert all(rrset.ttl <= 1 for rrset in answer.answer + answer.authority)
                return answer

    def found(self, name: str, kind: str = "A") -> set[str]:
        """Return the data of the records of a kind."""
        answer = self.ask(name, kind)
        assert answer.rcode() == dns.rcode.NOERROR, self._log.read_text()
        wanted = dns.rdatatype.from_text(kind)
        return {rdata.to_text() for rrset in answer.answer if rrset.rdtype == wanted for rdata in rrset}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@dataclass
class Setting:
    """A daemon and a resolver configured for it."""

    daemon: DaemonProcess
    resolver: Resolver

    def register(self, discovery_id: str, host: str) -> None:
        node = {"addr": f"{host}:4001", "raft_addr": f"{host}:4002"}
        assert self.daemon.request("POST", f"/{discovery_id}", node).status == 200


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.skipif(program(name) is None, reason=f"{name} is not installed"))
        for name in COMMANDS
    ]
)
def setting(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Iterator[Setting]:
    daemon = start(tmp_path / "state", f"--dns={LOOPBACK}:0", f"--dns-zone={ZONE}")
    upstream = int(daemon.wait_for("listening")["dns"][0].rpartition(":")[2])
    written = tmp_path / "recipe.conf"
    written.write_text(recipe(request.param, upstream))
    for _ in range(3):
        port = free_port()
        resolver = Resolver(COMMANDS[request.param](written, port), port, tmp_path / "resolver.log")
        try:
            if resolver.answers():
                yield Setting(daemon, resolver)
                return
        finally:
            resolver.stop()
    pytest.fail((tmp_path / "resolver.log").read_text())


def soon(look: Callable[[], Any], wanted: Any) -> None:
    """Poll until the expected answer comes; queries after two seconds must not be answered from an
    old cache.
    """
    begun = time.monotonic()
    with Reference() as reference:
        while True:
            asked = time.monotonic() - begun
            seen = look()
            if seen == wanted:
                return
            assert asked <= reference.limit(SOON), f"{asked:.1f} s after the change there is still {seen}"
            time.sleep(0.05)


def test_nodes_are_found_through_the_resolver(setting: Setting) -> None:
    name = f"{setting.daemon.create_id()}.{ZONE}"
    for host in ("10.0.0.1", "10.0.0.2", "[fd00::3]"):
        setting.register(name.partition(".")[0], host)

    assert setting.resolver.found(name) == {"10.0.0.1", "10.0.0.2"}
    assert setting.resolver.found(name, "AAAA") == {"fd00::3"}
    for service, port in (("rqlite-raft", "4002"), ("rqlite-http", "4001"), ("rqlite", "4002")):
        targets = [each.split() for each in setting.resolver.found(f"_{service}._tcp.{name}", "SRV")]
        assert {at for _, _, at, _ in targets} == {port}
        addresses = [
            setting.resolver.found(target, "A") | setting.resolver.found(target, "AAAA") for *_, target in targets
        ]
        assert sorted(map(sorted, addresses)) == [["10.0.0.1"], ["10.0.0.2"], ["fd00::3"]]


def test_an_absent_name_differs_from_a_name_without_such_a_record(setting: Setting) -> None:
    discovery_id = setting.daemon.create_id()
    setting.register(discovery_id, "10.0.0.1")

    assert setting.resolver.ask(f"nobody.{ZONE}").rcode() == dns.rcode.NXDOMAIN
    assert setting.resolver.ask(f"_other._tcp.{discovery_id}.{ZONE}", "SRV").rcode() == dns.rcode.NXDOMAIN
    assert setting.resolver.found(f"{discovery_id}.{ZONE}", "AAAA") == set()
    assert setting.resolver.found(f"{setting.daemon.create_id()}.{ZONE}") == set()


def test_a_new_node_is_visible_soon(setting: Setting) -> None:
    discovery_id = setting.daemon.create_id()
    name, service = f"{discovery_id}.{ZONE}", f"_rqlite-raft._tcp.{discovery_id}.{ZONE}"
    setting.register(discovery_id, "10.0.0.1")
    assert setting.resolver.found(name) == {"10.0.0.1"}
    assert len(setting.resolver.found(service, "SRV")) == 1

    setting.register(discovery_id, "10.0.0.2")

    soon(lambda: setting.resolver.found(name), {"10.0.0.1", "10.0.0.2"})
    soon(lambda: len(setting.resolver.found(service, "SRV")), 2)


def test_an_absence_is_cached_briefly(setting: Setting) -> None:
    name = f"later.{ZONE}"
    assert setting.resolver.ask(name).rcode() == dns.rcode.NXDOMAIN

    leader = {"id": "n1", "api_addr": "http://10.0.0.1:4001", "addr": "10.0.0.1:4002"}
    assert setting.daemon.request("PUT", "/v1/kv/later/leader", leader).body == b"true"

    soon(lambda: setting.resolver.ask(name).rcode(), dns.rcode.NOERROR)
    assert setting.resolver.found(name) == {"10.0.0.1"}


def test_long_lists_are_complete(setting: Setting) -> None:
    discovery_id = setting.daemon.create_id()
    for last in range(1, 101):
        setting.register(discovery_id, f"10.0.0.{last}")

    assert len(setting.resolver.found(f"{discovery_id}.{ZONE}")) == 100
    assert len(setting.resolver.found(f"_rqlite-raft._tcp.{discovery_id}.{ZONE}", "SRV")) == 100
