"""Hosts on a network of their own, whose links can be cut: network namespaces, joined by a bridge.
They need root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from tests.support.process import PATIENCE, DaemonProcess

_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:01"
_LIBC = ctypes.CDLL(None, use_errno=True)


class Hosts:
    """The network and its hosts, each with one address; a context manager."""

    def __init__(self, names: Iterable[str]) -> None:
        self.addresses = {name: f"10.0.0.{number}" for number, name in enumerate(names, 1)}
        self._switch = self._namespace("switch")
        self._made: list[str] = []

    def __enter__(self) -> Hosts:
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in self._made:
            _ip("netns", "delete", namespace)

    def run(self, name: str) -> Callable[[Sequence[str], Mapping[str, str]], DaemonProcess]:
        """Return what runs a daemon on a host."""
        return lambda command, environment: HostedDaemon(self._namespace(name), command, environment)

    def command(self, name: str, *command: str) -> list[str]:
        """Return what runs a command on a host."""
        return ["ip", "netns", "exec", self._namespace(name), *command]

    def connect(self, name: str, address: str, port: int) -> HTTPConnection:
        """Return a connection made from a host. Raises OSError."""
        connection = HTTPConnection(address, port, timeout=PATIENCE)
        _connect_on(self._namespace(name), connection)
        return connection

    def take_down(self, name: str) -> None:
        """Take the interface of a host down: whatever it sends fails at once."""
        _ip("-n", self._namespace(name), "link", "set", "dev", "eth0", "down")

    def bring_up(self, name: str) -> None:
        """Undo `take_down`."""
        _ip("-n", self._namespace(name), "link", "set", "dev", "eth0", "up")

    def unplug(self, name: str) -> None:
        """Silently drop everything that a host sends and everything sent to it."""
        _ip("-n", self._switch, "link", "set", "dev", name, "nomaster")

    def plug_in(self, name: str) -> None:
        """Undo `unplug`."""
        _ip("-n", self._switch, "link", "set", "dev", name, "master", "bridge")

    def part(self, one: str, other: str) -> None:
        """Drop everything that two hosts send to each other."""
        for here, there in ((one, other), (other, one)):
            self._neighbour("replace", here, there, "lladdr", _NOBODY, "nud", "permanent")

    def join(self, one: str, other: str) -> None:
        """Undo `part`."""
        for here, there in ((one, other), (other, one)):
            self._neighbour("delete", here, there)

    def _set_up(self) -> None:
        self._make("switch")
        _ip("-n", self._switch, "link", "add", "dev", "bridge", "up", "type", "bridge")
        for name, address in self.addresses.items():
            host = self._make(name)
            peer = ("peer", "name", "eth0", "netns", host)
            _ip("-n", self._switch, "link", "add", "dev", name, "up", "master", "bridge", "type", "veth", *peer)
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "dev", "eth0", "up")
            _ip("-n", host, "link", "set", "dev", "lo", "up")

    def _neighbour(self, change: str, here: str, there: str, *how: str) -> None:
        where = self.addresses[there], "dev", "eth0"
        _ip("-n", self._namespace(here), "neighbour", change, *where, *how)

    def _make(self, name: str) -> str:
        namespace = self._namespace(name)
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        return namespace

    def _namespace(self, name: str) -> str:
        return f"rqdisco-{os.getpid()}-{name}"


class HostedDaemon(DaemonProcess):
    """A daemon on a host; requests to it are sent from there."""

    def __init__(self, namespace: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._namespace = namespace
        super().__init__(("ip", "netns", "exec", namespace, *command), environment)

    def connect(self) -> HTTPConnection:
        connection = super().connect()
        _connect_on(self._namespace, connection)
        return connection


def _connect_on(namespace: str, connection: HTTPConnection) -> None:
    """Connect in a separate thread, which alone moves to the host; the socket stays there. Raises
    OSError.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_move_and_connect, namespace, connection).result()


def _move_and_connect(namespace: str, connection: HTTPConnection) -> None:
    with Path("/run/netns", namespace).open() as there:
        if _LIBC.setns(there.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    connection.connect()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
