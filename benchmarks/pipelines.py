"""The time of `/healthz` while one client pipelines expensive requests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import BenchmarkFailed, Client, Rqdisco
from benchmarks.report import percentile
from benchmarks.state import address, make_state

NODES = 1_000
IDS = 10_000
_BYTES = 25_000
_INTERVAL = 0.01
_SETTLE_SECONDS = 0.5
# Longer than any answer that a daemon gives at all.
_PATIENCE = 120.0


class Kind(NamedTuple):
    """A kind of request; its path may have `{id}` for the ID of many nodes."""

    name: str
    method: str
    path: str
    headers: str = ""
    body: bytes = b""
    is_operators: bool = False
    connections: int = 1


KINDS = (
    Kind("HEAD of a page", "HEAD", "/{id}", "Accept: text/html\r\n"),
    Kind("GET of a page", "GET", "/{id}", "Accept: text/html\r\n"),
    Kind("HEAD of a page on 10 connections", "HEAD", "/{id}", "Accept: text/html\r\n", connections=10),
    Kind("GET of a page on 10 connections", "GET", "/{id}", "Accept: text/html\r\n", connections=10),
    Kind("GET of a list", "GET", "/{id}"),
    Kind("registrations", "POST", "/{id}", body=json.dumps({"addr": address(1)}).encode()),
    Kind("exports", "GET", "/operator/export", is_operators=True),
    Kind("event streams", "GET", "/{id}/events"),
    Kind("the OpenAPI document", "GET", "/openapi.json"),
    Kind("404", "GET", "/unknown"),
    Kind("OPTIONS", "OPTIONS", "/{id}"),
    Kind("unknown methods", "BREW", "/{id}"),
    Kind("bad requests", "GET", "/{id}", "no header\r\n"),
)


class Pipelines(NamedTuple):
    """The 99th percentile of `/healthz` in milliseconds, by the name of the kind, and without
    any such client.
    """

    quiet_ms: float
    by_kind_ms: dict[str, float]

    @property
    def worst_ms(self) -> float:
        """Return that of the worst kind."""
        return max(self.by_kind_ms.values())


def pipelines_round(directory: Path, seconds: float) -> Pipelines:
    """Measure each kind for some seconds, on one daemon."""
    state = make_state(directory / "state", IDS)
    operators = directory / "operator.sock"
    with Rqdisco(state.directory, directory, f"--operator-socket={operators}") as daemon:
        host, port = daemon.address()
        crowded = state.ids[0]
        client = Client(host, port)
        for number in range(3, NODES):
            client.ask("POST", f"/{crowded}", {"addr": address(IDS * 3 + number)})
        client.close()
        quiet = _healthz_p99(host, port, seconds)
        by_kind = {}
        for kind in KINDS:
            place = str(operators) if kind.is_operators else f"{host}:{port}"
            with _pipelining(directory, place, kind.connections, _pipelined(kind, crowded)):
                time.sleep(_SETTLE_SECONDS)
                by_kind[kind.name] = _healthz_p99(host, port, seconds)
            _wait_for_answer(host, port)
    return Pipelines(quiet, by_kind)


@contextmanager
def _pipelining(directory: Path, place: str, connections: int, content: bytes) -> Iterator[None]:
    file = directory / "pipelined"
    file.write_bytes(content)
    script = str(Path(__file__).with_name("pipeliner.py"))
    command = [sys.executable, "-P", script, place, str(connections), str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield
        output = process.communicate(timeout=_PATIENCE)[0]
        if process.returncode != 0 or not json.loads(output)["sent"]:
            raise BenchmarkFailed("the client that pipelines has sent nothing")
    finally:
        process.kill()
        process.communicate()


def _pipelined(kind: Kind, discovery_id: str) -> bytes:
    """Return about `_BYTES` of requests."""
    length = f"Content-Length: {len(kind.body)}\r\n" if kind.body else ""
    head = f"{kind.method} {kind.path.format(id=discovery_id)} HTTP/1.1\r\nHost: localhost\r\n{kind.headers}{length}"
    one = f"{head}\r\n".encode() + kind.body
    return one * (_BYTES // len(one))


def _healthz_p99(host: str, port: int, seconds: float) -> float:
    """Return milliseconds. A request is due every 10 ms, and its time is counted from then on, so
    that a stall counts for each that falls into it.
    """
    connection = HTTPConnection(host, port, timeout=_PATIENCE)
    begun = due = time.monotonic()
    taken = []
    while due < begun + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        if time.monotonic() >= begun + seconds:
            # Those left have waited until now at least.
            taken.append(time.monotonic() - due)
        else:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise BenchmarkFailed(f"/healthz: {response.status}")
            taken.append(time.monotonic() - due)
        due += _INTERVAL
    connection.close()
    return 1e3 * percentile(taken, 0.99)


def _wait_for_answer(host: str, port: int) -> None:
    """Wait until the daemon has done what it was sent."""
    connection = HTTPConnection(host, port, timeout=_PATIENCE)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
    time.sleep(_SETTLE_SECONDS)
