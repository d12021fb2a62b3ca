"""A double of rqlited 3.12-6.10: sends the same bytes to the discovery service, and behaves alike
afterwards.

The nodes of one test live in one process. A `Network` stands for their HTTP APIs and for Raft.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from threading import Barrier, Condition, Event
from typing import Any, Literal
from urllib.parse import quote

PATIENCE = 20.0


@dataclass(frozen=True)
class Version:
    """The differences between releases in how they register and in which addresses they take for
    their own.
    """

    name: str
    content_type: str = "application-type/json"
    drops_http: bool = False

    def request(self, addr: str, discovery_id: str, host: str, url_path: str = "", user: str = "") -> bytes:
        """Return the registration as it is on the wire; `user` is NAME:PASSWORD of the URL."""
        body = json.dumps({"addr": addr}, separators=(",", ":"), ensure_ascii=False)
        for character in "<>&\u2028\u2029":
            body = body.replace(character, f"\\u{ord(character):04x}")
        content = body.encode()
        head = (
            f"POST {quote(f'{url_path}/{discovery_id}')} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(content)}\r\n"
        )
        if user:
            head += f"Authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n"
        head += f"Content-Type: {self.content_type}\r\nAccept-Encoding: gzip\r\n\r\n"
        return head.encode() + content

    def others(self, own: str, nodes: Sequence[str]) -> list[str]:
        """Return the nodes to join: those that are not `own`."""
        dropped = {own, f"http://{own}"} if self.drops_http else {own}
        return [node for node in nodes if node not in dropped]


VERSIONS = (
    Version("3.12.0"),
    Version("4.6.0"),
    Version("5.7.0"),
    Version("6.0.1"),
    Version("6.8.0"),
    Version("6.8.1", drops_http=True),
    Version("6.9.0", drops_http=True),
    Version("6.10.2", "application/json", drops_http=True),
)


class RqliteNetwork:
    """The nodes' view of each other: who has a leader, and in whose cluster that is."""

    def __init__(self) -> None:
        self._leaders: dict[str, str] = {}
        self._changed = Condition()

    @property
    def clusters(self) -> dict[str, list[str]]:
        """The members of each cluster, by its leader."""
        with self._changed:
            members: dict[str, list[str]] = {}
            for addr, leader in self._leaders.items():
                members.setdefault(leader, []).append(addr)
            return members

    def bootstrap(self, addr: str) -> None:
        """Make the node the leader of a cluster of its own."""
        self._admit(_bare(addr), _bare(addr))

    def join(self, addr: str, entries: Sequence[str]) -> bool:
        """Join through the first of `entries` that has a leader, once one has; return False if that
        takes too long.

        rqlited is refused at first, because a bootstrapped node leads only a second or two later,
        and walks the list again every five seconds, three times up to 5.3 and five from 5.4 on: a
        cluster forms in five to six seconds. The service sees nothing of that, and here it takes no
        time: each change of the network makes nodes walk again. tests/simulated/nodes.py models
        those seconds.
        """

        def with_a_leader() -> str | None:
            return next((entry for entry in map(_bare, entries) if entry in self._leaders), None)

        with self._changed:
            entry = self._changed.wait_for(with_a_leader, PATIENCE)
            if entry is None:
                return False
            self._admit(_bare(addr), self._leaders[entry])
            return True

    def _admit(self, addr: str, leader: str) -> None:
        with self._changed:
            self._leaders[addr] = leader
            self._changed.notify_all()


@dataclass(frozen=True)
class Outcome:
    """The outcome of one start of a node, with what it logged when it exited with 1."""

    kind: Literal["leader", "joined", "exit 1"]
    log: str = ""


class Node:
    """One rqlited with its data directory; `port` returns the port of the service when the node
    sends its request.
    """

    def __init__(
        self,
        version: Version,
        addr: str,
        discovery_id: str,
        port: Callable[[], int],
        network: RqliteNetwork,
        user: str = "",
    ):
        self._user = user
        self._version = version
        self._port = port
        self._network = network
        self._discovery_id = discovery_id
        self.addr = addr
        self.listed: list[str] = []
        self.has_asked = Event()
        self.answered = Event()

    def run(self) -> Outcome:
        """Start; return once the node leads, has joined or has exited.

        Raises AssertionError where rqlited would wait for ever.
        """
        try:
            status, reason, content = self._ask()
        except TimeoutError:
            raise AssertionError("no answer, for which rqlited waits for ever") from None
        except (OSError, HTTPException) as error:
            return _exit(repr(error))
        if status != 200:
            return _exit(f"{status} {reason}")
        try:
            self.listed = nodes_in(content)
        except ValueError as error:
            return _exit(str(error))
        self.answered.set()
        others = self._version.others(self.addr, self.listed)
        if not others:
            self._network.bootstrap(self.addr)
            return Outcome("leader")
        if self._network.join(self.addr, others):
            return Outcome("joined")
        return Outcome("exit 1", f"failed to join cluster at {others}")

    def run_supervised(self, starts: int = 10) -> Outcome:
        """Start, and restart after each exit with 1, `times` times at most, and not for ever."""
        patient_until = time.monotonic() + 6 * PATIENCE
        outcome = self.run()
        while outcome.kind == "exit 1" and (starts := starts - 1) > 0 and time.monotonic() < patient_until:
            outcome = self.run()
        return outcome

    def _ask(self) -> tuple[int, str, bytes]:
        port = self._port()
        with self._connected(port) as connection:
            connection.sendall(
                self._version.request(self.addr, self._discovery_id, f"127.0.0.1:{port}", user=self._user)
            )
            self.has_asked.set()
            response = HTTPResponse(connection)
            response.begin()
            return response.status, response.reason, response.read()

    def _connected(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), PATIENCE)


def run_all(nodes: Sequence[Node], *, supervised: bool = False) -> list[Outcome]:
    """Start all nodes at the same moment; return the outcome of each."""
    barrier = Barrier(len(nodes))

    def run(node: Node) -> Outcome:
        barrier.wait(PATIENCE)
        return node.run_supervised() if supervised else node.run()

    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(run, nodes))


def nodes_in(content: bytes) -> list[str]:
    """Return the list in a 200 answer, as Go's decoder reads it: missing or null members are empty.

    Raises ValueError where rqlited logs a JSON error.
    """
    document = json.loads(content)
    if document is None:
        return []
    if not isinstance(document, dict):
        raise ValueError(f"cannot unmarshal {type(document).__name__}")
    members = {name.lower(): value for name, value in document.items()}
    for name in ("created_at", "disco_id"):
        _text(members.get(name))
    nodes = members.get("nodes")
    if nodes is not None and not isinstance(nodes, list):
        raise ValueError("cannot unmarshal nodes")
    return [_text(node) for node in nodes or []]


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"cannot unmarshal {type(value).__name__} into string")
    return value or ""


def _exit(why: str) -> Outcome:
    return Outcome("exit 1", f"unable to determine join addresses: {why}")


def _bare(addr: str) -> str:
    return addr.removeprefix("http://").removeprefix("https://")
