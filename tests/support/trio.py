"""Three peer daemons, each in a separate process."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import randrange
from typing import Any

from tests.support.process import DaemonProcess

KEY = "c2l4dGVlbiBieXRlcyBhcmUgZW5vdWdoIGhlcmU="
NAMES = "abc"


def own_address() -> str:
    """Return a HOST:PORT where nobody listens; a peer needs its own address before it starts.

    Any process may take a port of 127.0.0.1 in the meantime, even for a connection.
    """
    with socket.socket() as taken:
        taken.bind((f"127.{randrange(1, 255)}.{randrange(256)}.{randrange(1, 255)}", 0))
        host, port = taken.getsockname()
        return f"{host}:{port}"


class Trio:
    """Three daemons, each with one other as its seed and started with the options `always`, and how
    to restart them.

    `states` are state directories outside `directory`, `addresses` where peers reach each, and
    `starts` what starts a daemon of that name where it is not `start`.
    """

    def __init__(
        self,
        start: Callable[..., DaemonProcess],
        directory: Path,
        *always: str,
        states: Mapping[str, Path] | None = None,
        addresses: Mapping[str, str] | None = None,
        starts: Mapping[str, Callable[..., DaemonProcess]] | None = None,
    ) -> None:
        self._directory = directory
        self._always = always
        self._states = {name: directory / name for name in NAMES} | dict(states or {})
        self._starts = dict.fromkeys(NAMES, start) | dict(starts or {})
        self._addresses = addresses or {name: own_address() for name in NAMES}
        (directory / "keys").write_text(f"{KEY}\n")
        self.daemons: dict[str, DaemonProcess] = {}
        self._started: list[DaemonProcess] = []
        self.start_all()

    @property
    def complaints(self) -> list[Any]:
        """The faults that any daemon logged of itself so far."""
        return [
            complaint for daemon in self._started for complaint in (*daemon.complaints, *daemon.stderr.splitlines())
        ]

    def start(self, name: str, *options: str) -> DaemonProcess:
        """Start one; return when it listens."""
        self.daemons[name] = self._starts[name](self.state(name), *self.options(name), *options)
        self._started.append(self.daemons[name])
        return self.daemons[name]

    def start_all(self) -> None:
        """Start all at once; return when they agree on the members."""
        with ThreadPoolExecutor(len(NAMES)) as pool:
            list(pool.map(self.start, NAMES))
        self.daemons = {name: self.daemons[name] for name in NAMES}
        for daemon in self.daemons.values():
            daemon.wait_for("peers agree", count=3)

    def restart_all(self) -> None:
        """Stop all, and start them; they then hold the same records."""
        for daemon in self.daemons.values():
            daemon.terminate()
        self.start_all()

    def start_duplicate(self, name: str, state: Path) -> DaemonProcess:
        """Start another daemon of that name, reachable at a different address."""
        return self._starts[name](state, *self.options(name, own_address(), self.socket(f"{name}-duplicate")))

    def options(self, name: str, address: str | None = None, operator: Path | None = None) -> tuple[str, ...]:
        """Return the options of one."""
        host, _, port = (address or self._addresses[name]).partition(":")
        return (
            f"--name={name}",
            f"--peer-listen=tcp:{port}:interface={host}",
            f"--advertise=http://{host}:{port}",
            f"--peer={self.url('a' if name != 'a' else 'b')}",
            f"--peer-keys={self._directory / 'keys'}",
            f"--operator-socket={operator or self.socket(name)}",
            *self._always,
        )

    def state(self, name: str) -> Path:
        """Return the state directory of one."""
        return self._states[name]

    def socket(self, name: str) -> Path:
        """Return the operator socket of one."""
        return self._directory / f"{name}.sock"

    def url(self, name: str) -> str:
        """Return the URL at which peers reach one."""
        return f"http://{self._addresses[name]}"

    def register(self, name: str, discovery_id: str, addr: str) -> tuple[int, list[str]]:
        """Register a node at one; return the status and the answered list, if any."""
        reply = self.daemons[name].request("POST", f"/{discovery_id}", {"addr": addr})
        return reply.status, reply.document.get("nodes", [])

    def lists(self, discovery_id: str) -> list[list[str]]:
        """Return what each daemon lists."""
        return [daemon.nodes(discovery_id) for daemon in self.daemons.values()]

    def explain(self, name: str, discovery_id: str) -> Any:
        """Return the operator's explanation of an ID at one."""
        return json.loads(ask_operator(self.socket(name), f"/{discovery_id}?explain=1"))


def incarnation_of(state: Path) -> str:
    """Return the incarnation of a state directory."""
    incarnation: str = json.loads((state / "identity.json").read_bytes())["incarnation"]
    return incarnation


def ask_operator(path: Path, of: str) -> bytes:
    """Return the body of the answer on an operator socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"GET {of} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2]
