"""The time of a good registration under each flood of `tests/integration/test_floods.py`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import HOST, BenchmarkFailed, Client, Rqdisco
from benchmarks.report import percentile
from benchmarks.state import address, make_state
from tests.integration.test_floods import FLOODS

CROWD = 200
_PROJECT = Path(__file__).parents[1]
_LISTEN = f"tcp:0:interface={HOST}:backlog=1000"
# The good nodes connect from these in turn: one address has ports for 28,000 connections a minute.
_GOOD = tuple((f"127.0.77.{number}", 0) for number in range(1, 65))
_NODES = 4
_IDS = 80_000
_SETTLE_SECONDS = 1.0
_PATIENCE = 60.0


class Flooded(NamedTuple):
    """The 99th percentile of good registrations in milliseconds, under a flood and just before
    it.
    """

    before_p99_ms: float
    p99_ms: float

    @property
    def p99_ratio(self) -> float:
        """Return how many times longer the 99th percentile is under the flood."""
        return self.p99_ms / self.before_p99_ms


def flood_names() -> list[str]:
    """Return a name for each flood, in their order."""
    return [f"{kind} x {number:,}{'' if source == '-' else ' by one client'}" for kind, number, source in FLOODS]


def floods_round(directory: Path, seconds: float) -> list[Flooded]:
    """Measure each flood for some seconds, and as long before it, on one daemon."""
    least = max(number for _, number, _ in FLOODS) + 1000
    if (most := resource.getrlimit(resource.RLIMIT_NOFILE)[1]) < least:
        raise BenchmarkFailed(f"no more than {most} files may be open, and not {least}: raise `ulimit -Hn`")
    state = make_state(directory / "state", _IDS, nodes=0)
    with Rqdisco(state.directory, directory, f"--listen=haproxy:{_LISTEN}", "--open", listen=_LISTEN) as daemon:
        (host, port), (_, proxied) = daemon.addresses()
        crowded, good = state.ids[0], _registrations(state.ids[1:])
        client = Client(host, port)
        for number in range(CROWD):
            client.ask("POST", f"/{crowded}", {"addr": f"host-{number}.example.com:4001"})
        client.close()
        _measure(host, port, good, seconds)
        results = []
        for kind, number, source in FLOODS:
            before = _measure(host, port, good, seconds)
            with _flood(kind, port if source == "-" else proxied, number, source, crowded):
                time.sleep(_SETTLE_SECONDS)
                during = _measure(host, port, good, seconds)
            results.append(Flooded(1e3 * percentile(before, 0.99), 1e3 * percentile(during, 0.99)))
            time.sleep(_SETTLE_SECONDS)
        return results


@contextmanager
def _flood(kind: str, port: int, number: int, source: str, path: str) -> Iterator[None]:
    arguments = (kind, str(port), str(number), source, path)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.floods", *arguments],
        cwd=_PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"begun\n":
            raise BenchmarkFailed(f"the flood {arguments} has not begun")
        yield
        outcomes: dict[str, int] = json.loads(process.communicate(timeout=_PATIENCE)[0])
        print(f"    {kind} x {number:,}: {outcomes}", file=sys.stderr, flush=True)
    finally:
        process.kill()
        process.communicate()


def _registrations(ids: list[str]) -> Iterator[tuple[str, str]]:
    """Yield IDs and addresses that are new to them, a few to each."""
    for index in count():
        yield ids[index // _NODES], address(index)


def _measure(host: str, port: int, good: Iterator[tuple[str, str]], seconds: float) -> list[float]:
    """Return the seconds of each registration: a node connects, registers and is answered."""
    end = time.monotonic() + seconds
    taken: list[float] = []
    while (begun := time.monotonic()) < end:
        discovery_id, addr = next(good)
        connection = HTTPConnection(host, port, timeout=_PATIENCE, source_address=_GOOD[len(taken) % len(_GOOD)])
        connection.request("POST", f"/{discovery_id}", json.dumps({"addr": addr}))
        response = connection.getresponse()
        response.read()
        taken.append(time.monotonic() - begun)
        connection.close()
        if response.status != 200:
            raise BenchmarkFailed(f"a good registration was answered {response.status} {response.reason}")
    return taken
