"""Reads and reports of consul-kv's leader key per second, the cost of each, and reads of the same
keys from etcd.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import WARM_UP_SECONDS, Bench, Load, request
from benchmarks.processes import BenchmarkFailed, Client, Etcd, Rqdisco
from benchmarks.state import address, make_state

IDS = 1_000


class Round(NamedTuple):
    """The runs against one daemon that was started for them."""

    reports: Load
    reads: Load


def rqdisco_round(directory: Path, seconds: float) -> Round:
    """Measure leaders that repeat their reports, one for each ID, then reads of their values."""
    ids = make_state(directory / "state", IDS, nodes=0).ids
    with Rqdisco(directory / "state", directory) as daemon:
        host, port = daemon.address()
        bench = Bench(daemon, host, port, directory)
        bench.run(_reports(ids), WARM_UP_SECONDS, once=False)
        reports = bench.run(_reports(ids), seconds, once=False)
        reads = bench.run((request("GET", _path(discovery_id)) for discovery_id in ids), seconds, once=False)
        _check(ids, lambda client, discovery_id: client.ask("GET", _path(discovery_id))[0]["Value"], host, port)
    return Round(reports, reads)


def etcd_round(directory: Path, seconds: float) -> Load:
    """Measure reads of the same keys through the JSON gateway; linearizable, as is the default."""
    ids = [f"{number:08x}-aaaa-8bbb-9ccc-dddddddddddd" for number in range(IDS)]
    with Etcd(directory) as daemon:
        host, port = daemon.address()
        bench = Bench(daemon, host, port, directory)
        bench.run(_puts(ids), WARM_UP_SECONDS, once=False)
        ranges = (request("POST", "/v3/kv/range", json.dumps(_range(discovery_id)).encode()) for discovery_id in ids)
        reads = bench.run(ranges, seconds, once=False)
        _check(ids, _read_from_etcd, host, port)
    return reads


def _reports(ids: list[str]) -> Iterator[bytes]:
    for index, discovery_id in enumerate(ids):
        yield request("PUT", _path(discovery_id), _value(index).encode())


def _puts(ids: list[str]) -> Iterator[bytes]:
    for index, discovery_id in enumerate(ids):
        members = {**_range(discovery_id), "value": _base64(_value(index))}
        yield request("POST", "/v3/kv/put", json.dumps(members).encode())


def _path(discovery_id: str) -> str:
    return f"/v1/kv/{discovery_id}/leader"


def _range(discovery_id: str) -> dict[str, str]:
    return {"key": _base64(f"{discovery_id}/leader")}


def _value(index: int) -> str:
    """Return the leader's value, as rqlite 7 to 10 write it."""
    http, raft = address(index), address(index).replace(":4001", ":4002")
    return json.dumps({"id": "1", "api_addr": f"http://{http}", "addr": raft}, separators=(",", ":"))


def _read_from_etcd(client: Client, discovery_id: str) -> str:
    found = client.ask("POST", "/v3/kv/range", _range(discovery_id))
    return str(found["kvs"][0]["value"]) if "kvs" in found else ""


def _check(ids: list[str], read: Callable[[Client, str], str], host: str, port: int) -> None:
    """Raise BenchmarkFailed unless a sample of the keys has the values that were put."""
    client = Client(host, port)
    for index, discovery_id in islice(enumerate(ids), 0, None, 97):
        if (value := read(client, discovery_id)) != _base64(_value(index)):
            raise BenchmarkFailed(f"{discovery_id}: {value} in base64, and not {_value(index)}")
    client.close()


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
