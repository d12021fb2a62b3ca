"""Measure stateless daemons apart from load: the delay of events at another daemon, the writes to
etcd of formed clusters, the requests of an idle daemon, and a million IDs.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benchmarks.etcd_processes import DirectStore, EtcdDaemon, EtcdMembers, Written
from benchmarks.processes import BenchmarkFailed, Client
from benchmarks.report import percentile
from benchmarks.stall import Probing
from benchmarks.state import address, addresses_of

_WATCHED = 50
_REST_SECONDS = 0.02
_SETTLE_SECONDS = 1.0
_PATIENCE = 30.0
_BYTES = 1 << 16
CLUSTERS = 20
_FORM_SECONDS = 0.5
# A lease of 30 s, and what etcd takes to revoke it.
_WINDOW_SECONDS = 34.0
_REPORT_SECONDS = 10.0
LOOKUPS = 5_000
_TAIL = 200


class Delay(NamedTuple):
    """From sending a registration to one daemon until a watcher of another one has its event."""

    p50_ms: float
    p99_ms: float


class Healthy(NamedTuple):
    """The costs of healthy clusters: the writes of etcd per cluster and hour, and the requests and
    CPU time per second of an idle daemon.
    """

    revisions: float
    entries: float
    log_bytes: float
    idle_requests: float
    idle_cpu_ms: float


class Formed(NamedTuple):
    """The writes of etcd for one cluster of three nodes, from its first node until its windows close."""

    revisions: float
    entries: float
    log_bytes: float


class Million(NamedTuple):
    """One start of a daemon over many IDs in etcd, and its memory after lookups and an export."""

    ready_s: float
    first_answer_s: float
    added_mib: float
    export_s: float


class _Watchers:
    """Connections that watch one ID each, and the last bytes that each has received."""

    def __init__(self, stack: ExitStack, place: tuple[str, int], ids: list[str]) -> None:
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._received: dict[socket.socket, bytes] = {}
        self._connections = [self._open(stack, place, each) for each in ids]
        for number in range(len(ids)):
            self.wait(number, b"\ndata: ")

    def wait(self, number: int, text: bytes) -> None:
        """Return as soon as that watcher has received this text."""
        begun, connection = time.monotonic(), self._connections[number]
        while text not in self._received[connection]:
            if time.monotonic() - begun > _PATIENCE:
                last = self._received[connection]
                raise BenchmarkFailed(f"a watcher has not received {text!r} after {_PATIENCE} s, but {last!r}")
            for key, _ in self._selector.select(_PATIENCE):
                data = key.data.recv(_BYTES)
                if not data:
                    raise BenchmarkFailed("a watcher was let go")
                self._received[key.data] = (self._received[key.data] + data)[-_BYTES:]

    def _open(self, stack: ExitStack, place: tuple[str, int], discovery_id: str) -> socket.socket:
        connection = stack.enter_context(socket.create_connection(place, timeout=_PATIENCE))
        connection.sendall(f"GET /{discovery_id}/events HTTP/1.1\r\nHost: {place[0]}\r\n\r\n".encode())
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self._received[connection] = b""
        return connection


def delay_round(
    store: DirectStore, first: tuple[str, int], second: tuple[str, int], directory: Path, seconds: float
) -> Delay:
    """Register through the first daemon, with a watcher at the second one, while 100 other requests
    a second arrive at the first.
    """
    ids, others = store.load(_WATCHED, nodes=1), store.load(1_000, nodes=1)
    taken = []
    with ExitStack() as stack:
        watchers = _Watchers(stack, second, ids)
        probing = stack.enter_context(Probing(*first, others, directory))
        client = Client(*first)
        # Changes that follow within a quarter of a second are one event.
        time.sleep(_SETTLE_SECONDS)
        end = time.monotonic() + seconds
        for number in count():
            begun = time.monotonic()
            if begun > end:
                break
            watched = number % len(ids)
            addr = f"10.240.{number >> 8}.{number & 255}:4001"
            client.ask("POST", f"/{ids[watched]}", {"addr": addr})
            watchers.wait(watched, addr.encode())
            taken.append(time.monotonic() - begun)
            time.sleep(_REST_SECONDS)
        client.close()
        probing.finish()
    return Delay(1e3 * percentile(taken, 0.5), 1e3 * percentile(taken, 0.99))


def legacy_clusters(etcd: EtcdMembers, place: tuple[str, int], number: int) -> Formed:
    """Form clusters whose nodes register, which is all they ever do."""
    before = etcd.written()
    client = Client(*place)
    for index in range(number):
        discovery_id = client.ask("POST", "/")["disco_id"]
        for addr in addresses_of(index):
            client.ask("POST", f"/{discovery_id}", {"addr": addr})
        time.sleep(_FORM_SECONDS)
    client.close()
    return _formed(etcd, before, number)


def consul_clusters(etcd: EtcdMembers, place: tuple[str, int], names: list[str]) -> Formed:
    """Form clusters by consul-kv: the first node wins the claim, and reports itself as leader."""
    before = etcd.written()
    client = Client(*place)
    for index, name in enumerate(names):
        if client.ask("PUT", f"{_path(name)}?cas=0", _leader(index)) is not True:
            raise BenchmarkFailed(f"the claim of {name} was lost")
        client.ask("PUT", _path(name), _leader(index))
        time.sleep(_FORM_SECONDS)
    client.close()
    return _formed(etcd, before, len(names))


def healthy_round(
    etcd: EtcdMembers, place: tuple[str, int], idle: EtcdDaemon, names: list[str], seconds: float
) -> Healthy:
    """Have the leader of each cluster report itself every 10 s, while another daemon is idle."""
    client = Client(*place)
    before, cpu, asked = etcd.written(), idle.cpu_seconds(), idle.requests()
    begun = time.monotonic()
    for number in range(int(seconds * len(names) / _REPORT_SECONDS)):
        time.sleep(max(0.0, begun + number * _REPORT_SECONDS / len(names) - time.monotonic()))
        index = number % len(names)
        if client.ask("PUT", _path(names[index]), _leader(index)) is not True:
            raise BenchmarkFailed("a report was refused")
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    passed = time.monotonic() - begun
    written = etcd.written().since(before)
    each = 3600 / passed / len(names)
    client.close()
    return Healthy(
        revisions=written.revisions * each,
        entries=written.entries * each,
        log_bytes=written.log_bytes * each,
        idle_requests=(idle.requests() - asked) / passed,
        idle_cpu_ms=1e3 * (idle.cpu_seconds() - cpu) / passed,
    )


def million_round(etcd: EtcdMembers, store: DirectStore, ids: list[str], empty: int, directory: Path) -> Million:
    """Start a daemon over these IDs; then look some up, and export all."""
    socket_path = directory / "operator"
    with EtcdDaemon(etcd, directory, "--operator-socket", str(socket_path), prefix=store.prefix) as daemon:
        place = daemon.wait_until_ready()
        ready = time.monotonic() - daemon.started
        client = Client(*place)
        index = len(ids) * 2 // 3
        if client.ask("GET", f"/{ids[index]}")["nodes"] != addresses_of(index):
            raise BenchmarkFailed("a record is not the one that was written")
        first = time.monotonic() - daemon.started
        for number in range(LOOKUPS):
            client.ask("GET", f"/{ids[number * 7919 % len(ids)]}")
        client.close()
        begun = time.monotonic()
        exported = export(socket_path, directory / "export.json")
        taken = time.monotonic() - begun
        if exported != len(ids):
            raise BenchmarkFailed(f"{exported} of {len(ids)} IDs were exported")
        return Million(ready, first, (daemon.resident_bytes() - empty) / 2**20, taken)


def empty_bytes(etcd: EtcdMembers, directory: Path) -> int:
    """Return the memory of a daemon over a store with one ID, after its first answers."""
    store = DirectStore(etcd, f"/empty{directory.name}/")
    ids = store.load(1, nodes=3)
    store.close()
    with EtcdDaemon(etcd, directory, prefix=store.prefix) as daemon:
        client = Client(*daemon.wait_until_ready())
        client.ask("GET", f"/{ids[0]}")
        client.close()
        resident: int = daemon.resident_bytes()
    return resident


def export(operator: Path, to: Path) -> int:
    """Export all IDs by the command line; return how many there are."""
    command = [str(Path(sys.executable).with_name("rqdisco")), "export", "--url", f"unix:{operator}", "-o", str(to)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if finished.returncode:
        raise BenchmarkFailed(f"rqdisco export: {finished.stderr}")
    with to.open("rb") as file:
        file.seek(-min(_TAIL, to.stat().st_size), os.SEEK_END)
        end: bytes = file.read()
        counted: list[bytes] = re.findall(rb'"count":(\d+)', end)
    if not counted:
        raise BenchmarkFailed("an export without an end")
    return int(counted[-1])


def _formed(etcd: EtcdMembers, before: Written, number: int) -> Formed:
    time.sleep(_WINDOW_SECONDS)
    written = etcd.written().since(before)
    return Formed(written.revisions / number, written.entries / number, written.log_bytes / number)


def _path(name: str) -> str:
    return f"/v1/kv/{name}/leader"


def _leader(index: int) -> dict[str, str]:
    http = address(3 * index)
    return {"id": "1", "api_addr": f"http://{http}", "addr": http.replace(":4001", ":4002")}
