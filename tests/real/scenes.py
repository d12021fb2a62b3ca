"""Nodes of a real rqlited that find each other through the real daemon, with the flags that
`rqdisco flags` prints.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol

from tests.integration.conftest import Start
from tests.real.nodes import Node
from tests.real.versions import Case
from tests.support.etcd.real import RealEtcd
from tests.support.hosts import Hosts
from tests.support.process import PATIENCE, DaemonProcess, Environment
from tests.support.trio import NAMES, Trio, own_address

EXPECTED = 3
ZONE = "disco.example"
# `sh -c` takes what follows as $0 and $@. `ip netns exec` has made a mount namespace, so nobody
# else sees the mount.
_WITH_RESOLVER = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


class Placement(Protocol):
    """The addresses of the nodes of a scene and of their daemons. The first node is number 1."""

    @property
    def daemons(self) -> Sequence[DaemonProcess]: ...

    @property
    def urls(self) -> Sequence[str]: ...

    def addresses(self, number: int) -> tuple[str, str]:
        """Return the HTTP and the Raft address of a node."""

    def command(self, number: int, *command: str) -> list[str]:
        """Return what runs a command beside a node."""

    def connect(self, number: int) -> Callable[[str, int], HTTPConnection]:
        """Return what connects to a host and a port from beside a node."""


def using(etcd: RealEtcd | None) -> list[str]:
    """Return the options of a daemon."""
    return [] if etcd is None else [f"--etcd={endpoint}" for endpoint in etcd.endpoints]


def daemons_of(etcd: RealEtcd | None) -> int:
    """Return how many daemons there are."""
    return 1 if etcd is None else 2


def _wait_for_etcd(daemons: Sequence[DaemonProcess]) -> None:
    """Wait until several daemons use the etcd that they are on."""
    for daemon in daemons if len(daemons) > 1 else ():
        daemon.wait_for("etcd is in use")


class OneHost:
    """The host of the test. Each node has a loopback address to itself, and free ports. There are two
    daemons if an etcd is given, else one.
    """

    def __init__(self, start: Start, directory: Path, etcd: RealEtcd | None = None) -> None:
        self.daemons = [start(directory / f"state{number}", *using(etcd)) for number in range(daemons_of(etcd))]
        self.urls = [f"http://127.0.0.1:{daemon.port}" for daemon in self.daemons]
        _wait_for_etcd(self.daemons)

    def addresses(self, number: int) -> tuple[str, str]:
        # Connections begin at 127.0.0.1, so none takes a port of another address meanwhile.
        return free_addresses(f"127.0.0.{number + 1}")

    def command(self, number: int, *command: str) -> list[str]:
        return list(command)

    def connect(self, number: int) -> Callable[[str, int], HTTPConnection]:
        return partial(HTTPConnection, timeout=PATIENCE)


class ThreePeers:
    """The host of the test with three daemons, peers of each other. A restarted one listens where it
    did before.
    """

    def __init__(self, start: Start, directory: Path) -> None:
        where = {name: own_address() for name in NAMES}
        self.urls = [f"http://{address}" for address in where.values()]
        self.trio = Trio(start, directory, starts={name: partial(_start_at, start, where[name]) for name in NAMES})

    @property
    def daemons(self) -> Sequence[DaemonProcess]:
        return [self.trio.daemons[name] for name in NAMES]

    def addresses(self, number: int) -> tuple[str, str]:
        return free_addresses(f"127.0.0.{number + 1}")

    def command(self, number: int, *command: str) -> list[str]:
        return list(command)

    def connect(self, number: int) -> Callable[[str, int], HTTPConnection]:
        return partial(HTTPConnection, timeout=PATIENCE)


def _start_at(start: Start, address: str, state: Path, *options: str) -> DaemonProcess:
    host, _, port = address.partition(":")
    return start(state, f"--listen=tcp:{port}:interface={host}", *options)


class ManyHosts:
    """Network namespaces: one for the daemons and one per node, where rqlite has its own ports and a
    resolver. Of two daemons, which there are if an etcd is given, the first answers to DNS.
    """

    def __init__(self, hosts: Hosts, start: Start, directory: Path, etcd: RealEtcd | None = None) -> None:
        self._hosts = hosts
        service = hosts.addresses["service"]
        ports = range(4000, 4000 + daemons_of(etcd))
        listens = [[f"--listen=tcp:{port}:interface={service}", "--open"] for port in ports]
        listens[0] += [f"--dns={service}:53", f"--dns-zone={ZONE}"]
        self.daemons = [
            start(directory / f"state{number}", *each, *using(etcd), run=hosts.run("service"))
            for number, each in enumerate(listens)
        ]
        self.urls = [f"http://{service}:{port}" for port in ports]
        _wait_for_etcd(self.daemons)
        self._resolver = directory / "resolv.conf"
        self._resolver.write_text(f"nameserver {service}\n")

    def addresses(self, number: int) -> tuple[str, str]:
        host = self._hosts.addresses[f"n{number}"]
        return f"{host}:4001", f"{host}:4002"

    def command(self, number: int, *command: str) -> list[str]:
        return self._hosts.command(f"n{number}", "sh", "-c", _WITH_RESOLVER, str(self._resolver), *command)

    def connect(self, number: int) -> Callable[[str, int], HTTPConnection]:
        return partial(self._hosts.connect, f"n{number}")


class Scene:
    """Nodes that are about to form a cluster, and their ID. Leaving the scene kills all nodes."""

    def __init__(self, case: Case, placement: Placement, installed: Environment, directory: Path) -> None:
        self.case = case
        self.placement = placement
        self.id = self.daemon.create_id()
        self.nodes: list[Node] = []
        self._installed = installed
        self._directory = directory
        self._stack = ExitStack()

    @property
    def daemon(self) -> DaemonProcess:
        """The daemon that created the ID."""
        return self.placement.daemons[0]

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def node(self, url: str = "", addresses: tuple[str, str] | None = None, on: int | None = None) -> Node:
        """Return one more node, which does not run yet. `url` is the service it uses, `on` the
        number of its host.
        """
        name = f"n{len(self.nodes) + 1}"
        number = on or len(self.nodes) + 1
        http_addr, raft_addr = addresses or self.placement.addresses(number)
        url = url or self.placement.urls[number % len(self.placement.urls)]
        flags, register = self._printed(url)
        who = self.case.rqlited.addresses(name, http_addr, raft_addr)
        data = str(self._directory / name)
        command = self.placement.command(number, self.case.rqlited.path, *who, *flags, data)
        node = Node(name, http_addr, raft_addr, command, Path(f"{data}.log"), self.placement.connect(number))
        self._stack.callback(node.kill)
        self.nodes.append(node)
        if register:
            words = {"HOST:HTTPPORT": http_addr, "HOST:RAFTPORT": raft_addr, "NODE": name}
            self._run(number, url, *(words.get(word, word) for word in register))
        return node

    def three(self) -> list[Node]:
        """Start three nodes at once."""
        nodes = [self.node() for _ in range(EXPECTED)]
        for node in nodes:
            node.start()
        return nodes

    def recorded(self) -> Node:
        """Return the node that the leader key names."""
        reply = self.daemon.request("GET", f"/v1/kv/{self.id}/leader?raw")
        assert reply.status == 200, reply
        (node,) = (node for node in self.nodes if node.name == reply.document["id"])
        return node

    def _printed(self, url: str) -> tuple[list[str], list[str]]:
        """Return the flags for a node, and the command to run before it starts if there is one."""
        more = ("--dns-zone", ZONE, "--expect", str(EXPECTED)) if self.case.mode.startswith("dns") else ()
        wanted = ("--rqlite", self.case.rqlited.version, "--mode", self.case.mode, "--url", url, *more)
        printed = self._installed.run("rqdisco", "flags", self.id, *wanted)
        assert printed.returncode == 0, printed.stderr
        register = re.search(r"run `rqdisco (register [^`]+)` before each node starts", printed.stderr)
        return shlex.split(printed.stdout), shlex.split(register[1]) if register else []

    def _run(self, number: int, url: str, *arguments: str) -> None:
        command = self._installed.command("rqdisco", "--url", url, *arguments)
        subprocess.run(
            self.placement.command(number, *command), cwd="/", check=True, capture_output=True, timeout=PATIENCE
        )


def free_addresses(host: str) -> tuple[str, str]:
    """Return an HTTP and a Raft address of a host, with free ports."""
    with socket.socket() as http, socket.socket() as raft:
        for each in (http, raft):
            each.bind((host, 0))
        return f"{host}:{http.getsockname()[1]}", f"{host}:{raft.getsockname()[1]}"
