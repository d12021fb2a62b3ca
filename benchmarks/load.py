"""Requests per second on 32 keep-alive connections, the cost of each, the same job in etcd, and the
floor: a server that does nothing.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.processes import (
    BenchmarkFailed,
    Client,
    Etcd,
    Floor,
    Measured,
    Rqdisco,
    busy_seconds,
    own_cpu_seconds,
    raw_answer,
)
from benchmarks.state import address, make_state

CONNECTIONS = 32
WARM_UP_SECONDS = 1.0
_SCRIPT = Path(__file__).with_name("requests.lua")
_SPREAD = Path(__file__).with_name("spread.lua")
_IDS = 24_000
_WARM_UP_IDS = 2_000
_NODES = 4
_MOST_REGISTRATIONS = 12_000

# Host and port of a server.
Place = tuple[str, int]


class Load(NamedTuple):
    """The results of one run of wrk, its cost to the daemon, and how many cores were busy with
    anything else meanwhile.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    disturbance: float


class Round(NamedTuple):
    """The runs against one daemon that was started for them."""

    registrations: Load
    lookups: Load


class EtcdRound(NamedTuple):
    """The runs against one etcd that was started for them."""

    transactions: Load
    puts: Load
    reads: Load


class CoreRound(NamedTuple):
    """One run of each kind against daemons that all rounds share."""

    registrations: Load
    lookups: Load
    floor: Load
    transactions: Load
    puts: Load
    reads: Load


def rqdisco_round(directory: Path, seconds: float) -> Round:
    """Measure registrations, each of an address that is new to its ID, then lookups of those
    IDs.
    """
    state = make_state(directory / "state", _IDS, nodes=0)
    with Rqdisco(state.directory, directory) as daemon:
        load = RqdiscoLoad(daemon, directory, state.ids)
        return Round(load.registrations(seconds), load.lookups(seconds))


def etcd_round(directory: Path, seconds: float) -> EtcdRound:
    """Measure what an etcd behind rqdisco's APIs would receive, a key for each node: transactions
    that do what a registration does, plain puts, and reads of one key.
    """
    with Etcd(directory) as daemon:
        load = EtcdLoad(daemon, directory, _IDS)
        return EtcdRound(load.transactions(seconds), load.puts(seconds), load.reads(seconds))


def floor_round(directory: Path, seconds: float) -> Load:
    """Measure registrations, as the static server answers them."""
    ids = etcd_ids("floor", _IDS)
    with Floor(directory, registration_answer(directory)) as daemon:
        return _floor_load(_bench(daemon, directory), ids, seconds)


def core_rounds(directory: Path, seconds: float, rounds: int) -> Iterator[CoreRound]:
    """Measure the main figures in turn, on daemons that are started once."""
    each_round = int(seconds * _MOST_REGISTRATIONS / _NODES)
    state = make_state(directory / "state", _WARM_UP_IDS + rounds * each_round, nodes=0)
    answer = registration_answer(directory / "sample")
    floor_ids = etcd_ids("floor", _WARM_UP_IDS)
    with (
        Rqdisco(state.directory, directory / "rqdisco") as rqdisco,
        Floor(directory / "floor", answer) as floor,
        Etcd(directory / "etcd") as etcd,
    ):
        ours = RqdiscoLoad(rqdisco, directory, state.ids)
        lowest = _bench(floor, directory)
        theirs = EtcdLoad(etcd, directory, _WARM_UP_IDS + rounds * each_round)
        for _ in range(rounds):
            yield CoreRound(
                registrations=ours.registrations(seconds),
                lookups=ours.lookups(seconds),
                floor=_floor_load(lowest, floor_ids, seconds),
                transactions=theirs.transactions(seconds),
                puts=theirs.puts(seconds),
                reads=theirs.reads(seconds),
            )


def registration_answer(directory: Path) -> bytes:
    """Return the answer to a registration that is the third of its ID, head included."""
    with Rqdisco(directory / "state", directory) as daemon:
        host, port = daemon.address()
        client = Client(host, port)
        discovery_id = client.ask("POST", "/")["disco_id"]
        client.close()
        return [raw_answer(host, port, each) for each in islice(registrations([discovery_id]), 3)][-1]


class RqdiscoLoad:
    """Measures runs against one daemon, which holds `ids` without any nodes."""

    def __init__(self, daemon: Rqdisco, directory: Path, ids: list[str]) -> None:
        self._host, self._port = daemon.address()
        self._bench = Bench(daemon, self._host, self._port, directory)
        self._unused = ids[_WARM_UP_IDS:]
        self._used: list[str] = []
        self._rate = self._bench.run(registrations(ids[:_WARM_UP_IDS]), WARM_UP_SECONDS, once=True).rate

    def registrations(self, seconds: float) -> Load:
        """Measure registrations, each of an address that is new to its ID."""
        self._used, self._unused = _take(self._unused, self._rate, seconds)
        requests = islice(registrations(self._used), enough(self._rate, seconds))
        registered = self._bench.run(requests, seconds, once=True)
        check_registered(self._host, self._port, self._used, registered.rate * seconds)
        return registered

    def lookups(self, seconds: float) -> Load:
        """Measure lookups of the IDs of the last registrations."""
        requests = (request("GET", f"/{discovery_id}") for discovery_id in self._used)
        return self._bench.run(requests, seconds, once=False)


class EtcdLoad:
    """Measures runs against one etcd, for up to `count` IDs of each kind."""

    def __init__(self, daemon: Etcd, directory: Path, count: int) -> None:
        self._host, self._port = daemon.address()
        self._bench = Bench(daemon, self._host, self._port, directory)
        self._for_puts, self._for_transactions = etcd_ids("puts", count), etcd_ids("txns", count)
        self._used: list[str] = []
        first, self._for_puts = self._for_puts[:_WARM_UP_IDS], self._for_puts[_WARM_UP_IDS:]
        self._put_rate = self._bench.run(puts(first), WARM_UP_SECONDS, once=True).rate
        first, self._for_transactions = self._for_transactions[:_WARM_UP_IDS], self._for_transactions[_WARM_UP_IDS:]
        self._transaction_rate = self._bench.run(transactions(first), WARM_UP_SECONDS, once=True).rate

    def transactions(self, seconds: float) -> Load:
        """Measure puts of a new node's key with a range over its ID's keys, in one transaction."""
        used, self._for_transactions = _take(self._for_transactions, self._transaction_rate, seconds)
        requests = islice(transactions(used), enough(self._transaction_rate, seconds))
        done = self._bench.run(requests, seconds, once=True)
        check_in_etcd(self._host, self._port, used, done.rate * seconds)
        return done

    def puts(self, seconds: float) -> Load:
        """Measure puts of new nodes' keys."""
        self._used, self._for_puts = _take(self._for_puts, self._put_rate, seconds)
        done = self._bench.run(islice(puts(self._used), enough(self._put_rate, seconds)), seconds, once=True)
        check_in_etcd(self._host, self._port, self._used, done.rate * seconds)
        return done

    def reads(self, seconds: float) -> Load:
        """Measure linearizable reads of one key of each ID of the last puts."""
        keys = (etcd_key(each, address(index * 20)) for index, each in enumerate(self._used))
        requests = (request("POST", "/v3/kv/range", json.dumps({"key": key}).encode()) for key in keys)
        return self._bench.run(requests, seconds, once=False)


class Bench:
    """Runs wrk against one daemon."""

    def __init__(self, daemon: Measured, host: str, port: int, directory: Path, connections: int = CONNECTIONS) -> None:
        self._daemon = daemon
        self._connections = connections
        self._url = f"http://{host}:{port}"
        self._file = directory / "requests"

    def run(self, requests: Iterable[bytes], seconds: float, *, once: bool) -> Load:
        """Send `requests`, in order, for `seconds`; `once` for requests of which none may be
        repeated.

        Raises BenchmarkFailed if there are too few of those, or if any answer is not 200.
        """
        _write(self._file, requests)
        return self._measure(seconds, _SCRIPT, str(self._file), "once" if once else "over and over")

    def run_spread(self, places: Sequence[Place], requests: Sequence[Iterable[bytes]], seconds: float) -> Load:
        """Send to each place its requests, in order, for `seconds`; as `run` where none may be
        repeated. The connections are shared equally.
        """
        arguments = []
        for number, ((host, port), some) in enumerate(zip(places, requests, strict=True)):
            file = self._file.with_name(f"{self._file.name}-{number}")
            _write(file, some)
            arguments += [host, str(port), str(file)]
        return self._measure(seconds, _SPREAD, *arguments, threads=len(places))

    def run_script(self, script: Path, seconds: float) -> Load:
        """Send what a script makes up, for `seconds`. Raises BenchmarkFailed if any answer is not
        200.
        """
        return self._measure(seconds, script)

    def _measure(self, seconds: float, script: Path, *arguments: str, threads: int = 1) -> Load:
        used, own, busy = self._daemon.cpu_seconds(), own_cpu_seconds(), busy_seconds()
        done = self._wrk(seconds, script, arguments, threads)
        used, own, busy = self._daemon.cpu_seconds() - used, own_cpu_seconds() - own, busy_seconds() - busy
        if done["refused"] or done["failed"] or done["repeated"] or not done["requests"]:
            raise BenchmarkFailed(f"not every answer was 200, or there were too few requests: {done}")
        return Load(
            rate=done["requests"] / done["seconds"],
            p50_ms=done["p50_ms"],
            p99_ms=done["p99_ms"],
            cpu_us=used * 1e6 / done["requests"],
            disturbance=max(0.0, busy - used - own) / done["seconds"],
        )

    def _wrk(self, seconds: float, script: Path, arguments: tuple[str, ...], threads: int) -> dict[str, Any]:
        options = ["--threads", str(threads), "--connections", str(self._connections), "--duration", f"{seconds:.0f}s"]
        command = ["wrk", *options, "--script", str(script), self._url, "--", *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        try:
            result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise BenchmarkFailed(f"wrk: {finished.stdout}{finished.stderr}") from None
        return result


def _write(file: Path, requests: Iterable[bytes]) -> None:
    with file.open("wb") as out:
        for request in requests:
            out.write(request + b"\0")


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
    """Yield puts of one key for each node, in the order of `registrations`."""
    for _, members in _new_keys(ids):
        yield request("POST", "/v3/kv/put", json.dumps(members).encode())


def transactions(ids: list[str]) -> Iterator[bytes]:
    """Yield what a registration does, in the order of `registrations`: put the node's key and read
    all keys of its ID.
    """
    for discovery_id, members in _new_keys(ids):
        operations = [{"requestPut": members}, {"requestRange": _all_keys(discovery_id)}]
        yield request("POST", "/v3/kv/txn", json.dumps({"success": operations}).encode())


def etcd_ids(kind: str, count: int) -> list[str]:
    """Return IDs as long as rqdisco's, different ones for each kind of four letters or more."""
    return [f"{number:08x}-{kind[:4]}-8bbb-9ccc-dddddddddddd" for number in range(count)]


def etcd_key(discovery_id: str, addr: str) -> str:
    """Return the key of a node, in base64."""
    return _base64(f"rqdisco/{discovery_id}/{addr}")


def _new_keys(ids: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for number in range(20):
        for index, discovery_id in enumerate(ids):
            addr = address(index * 20 + number)
            yield discovery_id, {"key": etcd_key(discovery_id, addr), "value": _base64(json.dumps({"addr": addr}))}


def _all_keys(discovery_id: str) -> dict[str, str]:
    """Return the range of an ID's keys: "0" follows "/"."""
    return {"key": etcd_key(discovery_id, ""), "range_end": _base64(f"rqdisco/{discovery_id}0")}


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _bench(daemon: Floor, directory: Path) -> Bench:
    host, port = daemon.address()
    return Bench(daemon, host, port, directory)


def _floor_load(bench: Bench, ids: list[str], seconds: float) -> Load:
    bench.run(registrations(ids[:100]), WARM_UP_SECONDS, once=False)
    return bench.run(registrations(ids[:_WARM_UP_IDS]), seconds, once=False)


def _take(unused: list[str], rate: float, seconds: float) -> tuple[list[str], list[str]]:
    """Return as many IDs as get about `_NODES` nodes each at this rate, and those that are left."""
    count = max(1, int(rate * seconds / _NODES))
    if not unused:
        raise BenchmarkFailed("there are too few IDs for this rate")
    return unused[:count], unused[count:]


def request(method: str, path: str, body: bytes | None = None) -> bytes:
    """Return a request in the form for `Bench.run`."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def check_registered(host: str, port: int, ids: list[str], requests: float, query: str = "") -> None:
    """Raise BenchmarkFailed unless a sample of the IDs lists what was registered."""
    client = Client(host, port)
    least = int(requests / len(ids) - 0.1)
    for index in islice(count(0, 97), len(ids) // 97):
        expected = [address(index * 20 + number) for number in range(20)]
        nodes = client.ask("GET", f"/{ids[index]}{query}")["nodes"]
        if len(nodes) < least or nodes != expected[: len(nodes)]:
            raise BenchmarkFailed(f"{ids[index]}: {nodes}, and not {expected[:least]} at least")
    client.close()


def check_in_etcd(host: str, port: int, ids: list[str], requests: float) -> None:
    """Raise BenchmarkFailed unless a sample of the IDs has the keys that were put."""
    client = Client(host, port)
    least = int(requests / len(ids) - 0.1)
    for discovery_id in ids[::97]:
        found = int(client.ask("POST", "/v3/kv/range", _all_keys(discovery_id)).get("count", 0))
        if found < least:
            raise BenchmarkFailed(f"{discovery_id}: {found} keys, and not {least} at least")
    client.close()
