"""Requests per second on 32 keep-alive connections, the cost of each, and the same kind of writes
into etcd.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.processes import BenchmarkFailed, Client, Etcd, Process, Rqdisco
from benchmarks.state import State, address, make_state

CONNECTIONS = 32
WARM_UP_SECONDS = 1.0
_SCRIPT = Path(__file__).with_name("requests.lua")
_IDS = 24_000
_WARM_UP_IDS = 2_000
_NODES = 4


class Load(NamedTuple):
    """The results of one run of wrk, and its cost to the daemon."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


class Round(NamedTuple):
    """The runs against one daemon that was started for them."""

    registrations: Load
    lookups: Load


def rqdisco_round(directory: Path, seconds: float) -> Round:
    """Measure registrations, each of an address that is new to its ID, then lookups of those
    IDs.
    """
    state = make_state(directory / "state", _IDS, nodes=0)
    with Rqdisco(state.directory, directory) as daemon:
        host, port = daemon.address()
        bench = Bench(daemon, host, port, directory)
        spare, ids = state.ids[:_WARM_UP_IDS], state.ids[_WARM_UP_IDS:]
        warm = bench.run(registrations(spare), WARM_UP_SECONDS, once=True)
        used = ids[: max(1, int(warm.rate * seconds / _NODES))]
        registered = bench.run(islice(registrations(used), enough(warm.rate, seconds)), seconds, once=True)
        _check_registered(host, port, used, registered.rate * seconds)
        lookups = bench.run((request("GET", f"/{discovery_id}") for discovery_id in used), seconds, once=False)
    return Round(registered, lookups)


def etcd_round(directory: Path, seconds: float) -> Load:
    """Measure puts of one key for each node, as an etcd behind rqdisco's APIs would receive
    them.
    """
    state = State(directory, [f"{number:08x}-aaaa-8bbb-9ccc-dddddddddddd" for number in range(_IDS)])
    with Etcd(directory) as daemon:
        host, port = daemon.address()
        bench = Bench(daemon, host, port, directory)
        spare, ids = state.ids[:_WARM_UP_IDS], state.ids[_WARM_UP_IDS:]
        warm = bench.run(puts(spare), WARM_UP_SECONDS, once=True)
        used = ids[: max(1, int(warm.rate * seconds / _NODES))]
        return bench.run(islice(puts(used), enough(warm.rate, seconds)), seconds, once=True)


class Bench:
    """Runs wrk against one daemon."""

    def __init__(self, daemon: Process, host: str, port: int, directory: Path) -> None:
        self._daemon = daemon
        self._url = f"http://{host}:{port}"
        self._file = directory / "requests"

    def run(self, requests: Iterable[bytes], seconds: float, *, once: bool) -> Load:
        """Send `requests`, in order, for `seconds`; `once` for requests of which none may be
        repeated.

        Raises BenchmarkFailed if there are too few of those, or if any answer is not 200.
        """
        with self._file.open("wb") as file:
            for request in requests:
                file.write(request + b"\0")
        used = self._daemon.cpu_seconds()
        done = self._wrk(seconds, "once" if once else "over and over")
        used = self._daemon.cpu_seconds() - used
        if done["refused"] or done["failed"] or done["repeated"] or not done["requests"]:
            raise BenchmarkFailed(f"not every answer was 200, or there were too few requests: {done}")
        return Load(
            rate=done["requests"] / done["seconds"],
            p50_ms=done["p50_ms"],
            p99_ms=done["p99_ms"],
            cpu_us=used * 1e6 / done["requests"],
        )

    def _wrk(self, seconds: float, mode: str) -> dict[str, Any]:
        options = ["--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds:.0f}s"]
        command = ["wrk", *options, "--script", str(_SCRIPT), self._url, "--", str(self._file), mode]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        try:
            result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise BenchmarkFailed(f"wrk: {finished.stdout}{finished.stderr}") from None
        return result


def enough(rate: float, seconds: float) -> int:
    """Return more requests than are sent even if the daemon becomes faster than before."""
    return int(3 * rate * seconds) + 1000


def registrations(ids: list[str]) -> Iterator[bytes]:
    """Yield one registration for each ID, then another one for each, and so on: 20 times."""
    for number in range(20):
        for index, discovery_id in enumerate(ids):
            body = json.dumps({"addr": address(index * 20 + number)}).encode()
            yield request("POST", f"/{discovery_id}", body)


def puts(ids: list[str]) -> Iterator[bytes]:
    for number in range(20):
        for index, discovery_id in enumerate(ids):
            addr = address(index * 20 + number)
            key, value = f"rqdisco/{discovery_id}/{addr}", json.dumps({"addr": addr})
            members = {"key": b64encode(key.encode()).decode(), "value": b64encode(value.encode()).decode()}
            yield request("POST", "/v3/kv/put", json.dumps(members).encode())


def request(method: str, path: str, body: bytes | None = None) -> bytes:
    """Return a request in the form for `Bench.run`."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _check_registered(host: str, port: int, ids: list[str], requests: float) -> None:
    """Raise BenchmarkFailed unless a sample of the IDs lists what was registered."""
    client = Client(host, port)
    least = int(requests / len(ids) - 0.1)
    for index in islice(count(0, 97), len(ids) // 97):
        expected = [address(index * 20 + number) for number in range(20)]
        nodes = client.ask("GET", f"/{ids[index]}")["nodes"]
        if len(nodes) < least or nodes != expected[: len(nodes)]:
            raise BenchmarkFailed(f"{ids[index]}: {nodes}, and not {expected[:least]} at least")
    client.close()
