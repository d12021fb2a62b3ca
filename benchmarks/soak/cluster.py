"""The three daemons of a soak: their addresses and resources, and how they are broken and
repaired.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import NAMES, Peers
from benchmarks.processes import HOST, BenchmarkFailed, Client, Rqdisco
from benchmarks.state import State, addresses_of, make_state

ZONE = "disco.example"
_SMALL_DISK = "size=192m"
_SNAPSHOT_SECONDS = 60
_PATIENCE = 180.0


class Where(NamedTuple):
    """The address of one daemon."""

    http: tuple[str, int]
    dns: tuple[str, int]


class Cluster:
    """A context manager. The daemon `small`, if any, has its state on a small disk of its own,
    which needs root.
    """

    def __init__(self, directory: Path, ids: int) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.small: str | None = None
        self._filler: Path | None = None
        states = {name: directory / name / "state" for name in NAMES}
        self._mount(states["c"], "c")
        self.made: dict[str, State] = {name: make_state(states[name], ids // len(NAMES)) for name in NAMES}
        self._states = states
        self.peers = Peers(directory, states, self._options)
        self.where: dict[str, Where] = {}
        self.started: dict[str, float] = {}
        self.complaints: Counter[str] = Counter()

    def __enter__(self) -> Cluster:
        self._stack.enter_context(self.peers)
        for name in NAMES:
            self.peers.start(name, relayed=False)
        for name in NAMES:
            self._listens(name)
        self.wait_until_held(sum(len(state.ids) for state in self.made.values()))
        return self

    def __exit__(self, *exception: object) -> None:
        self.resume("a")
        self._stack.close()

    def _options(self, name: str) -> list[str]:
        return [
            f"--operator-socket={self._directory / name}.sock",
            f"--dns={HOST}:0",
            f"--dns-zone={ZONE}",
            "--dns-rate=0",
            f"--snapshot-every={_SNAPSHOT_SECONDS}",
        ]

    def _mount(self, at: Path, name: str) -> None:
        at.mkdir(parents=True)
        if os.getuid() == 0:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", _SMALL_DISK, "tmpfs", str(at)], check=False)
            if mounted.returncode == 0:
                self.small, self._filler = name, at / "filler"
                self._stack.callback(subprocess.run, ["umount", "--lazy", str(at)], check=False)

    def _listens(self, name: str) -> None:
        event = self.peers.daemons[name].wait_for_event("listening")
        ports = {kind: int(event[kind][0].rpartition(":")[2]) for kind in ("endpoints", "dns")}
        self.where[name] = Where((HOST, ports["endpoints"]), (HOST, ports["dns"]))
        self.started[name] = time.monotonic()

    def daemon(self, name: str) -> Rqdisco:
        """Return the current process of this daemon."""
        return self.peers.daemons[name]

    def kill(self, name: str) -> None:
        """Send SIGKILL."""
        daemon = self.daemon(name)
        if not daemon.is_running:
            raise BenchmarkFailed(f"{name} has ended by itself: {daemon.events()[-5:]}")
        daemon.kill()
        self._note_complaints(name)

    def restart(self, name: str) -> None:
        """Start it again; return when it listens."""
        self.peers.start(name, relayed=False)
        self._listens(name)

    def stop(self, name: str) -> None:
        """Send SIGSTOP."""
        os.kill(self.daemon(name).pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Send SIGCONT."""
        with suppress(KeyError, ProcessLookupError):
            os.kill(self.daemon(name).pid, signal.SIGCONT)

    def fill(self) -> None:
        """Leave no room on the small disk."""
        assert self._filler is not None
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"x" * 65536):
                pass

    def make_room(self) -> None:
        """Free room on the small disk."""
        assert self._filler is not None
        self._filler.unlink()

    def _note_complaints(self, name: str) -> None:
        for event in self.daemon(name).events():
            if event.get("level") in ("error", "critical"):
                self.complaints[f"{name}: {event['event'].splitlines()[0][:100]}"] += 1

    def finish(self) -> None:
        """Record the complaints of all daemons."""
        for name in NAMES:
            self._note_complaints(name)

    def wait_until_held(self, count: int) -> None:
        """Return when every daemon holds this many IDs."""
        begun = time.monotonic()
        for name in NAMES:
            client = Client(*self.where[name].http)
            while client.ask("GET", "/")["ids"] < count:
                if time.monotonic() - begun > _PATIENCE:
                    raise BenchmarkFailed(f"{name} does not hold {count} IDs after {_PATIENCE} s")
                time.sleep(0.1)
            client.close()

    def preloaded(self) -> dict[str, list[str]]:
        """Return the state at the beginning: the addresses of each ID."""
        return {
            discovery_id: addresses_of(index)
            for state in self.made.values()
            for index, discovery_id in enumerate(state.ids)
        }

    def export(self, name: str) -> bytes:
        """Return everything that a daemon holds, from its operator socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(f"{self._directory / name}.sock")
            connection.sendall(b"GET /operator/export HTTP/1.0\r\nConnection: close\r\n\r\n")
            parts = []
            while part := connection.recv(1 << 20):
                parts.append(part)
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
        if not head.split(b" ", 2)[1] == b"200" or not body.endswith(b"}\n"):
            raise BenchmarkFailed(f"{name}: no whole export")
        return body
