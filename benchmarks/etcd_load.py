"""Registrations, lookups and grants per second through a stateless daemon, the same transactions
and reads sent to etcd directly, and the same registrations at a daemon with a journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.etcd_processes import DirectStore, EtcdDaemon, EtcdMembers, base64
from benchmarks.load import WARM_UP_SECONDS, Bench, Load, request
from benchmarks.processes import BenchmarkFailed, Client, Rqdisco
from benchmarks.state import addresses_of
from rqdisco.backends.etcd.etcd_record import encode

CONNECTIONS = 64
NODES = 3
# So many IDs are registered under in turn, so that no two requests for one are under way at once.
_IN_TURN = 256
# More registrations than are made in a second.
_PER_SECOND = 6_000
_DIRECT_PER_SECOND = 4_000
_JOURNAL_PER_SECOND = 12_000
_LEASE_SECONDS = 7_200
_GRANTS = Path(__file__).with_name("grants.lua")


class EtcdCost(NamedTuple):
    """A run of load, and the CPU time of all members of etcd for each request."""

    load: Load
    etcd_cpu_us: float

    @property
    def rate(self) -> float:
        return self.load.rate

    @property
    def cpu_us(self) -> float:
        """CPU time of the daemon."""
        return self.load.cpu_us


class LoadRound(NamedTuple):
    """The runs of one round. The CPU time of `direct` and `reads` is etcd's."""

    registrations: EtcdCost
    direct: Load
    journal: Load
    lookups: EtcdCost
    reads: Load
    grants: EtcdCost


class LoadRounds:
    """Measures rounds over daemons and members that are started once, and run already."""

    def __init__(self, etcd: EtcdMembers, daemon: EtcdDaemon, store: DirectStore, journal: Journal, seconds: float):
        self._etcd = etcd
        self._store = store
        self._seconds = seconds
        self._journal = journal
        self._daemon = daemon
        self._bench = Bench(daemon, *daemon.address(), journal.directory, CONNECTIONS)
        self._direct = Bench(etcd, *etcd.place, journal.directory, CONNECTIONS)
        # Leases for the keys that are written with a grant.
        self._leases = [int(store.ask("/v3/lease/grant", {"TTL": _LEASE_SECONDS})["ID"]) for _ in range(2)]
        self._register(WARM_UP_SECONDS)
        self._register_directly(WARM_UP_SECONDS)
        journal.register(WARM_UP_SECONDS)

    def round(self) -> LoadRound:
        """Measure each of them once."""
        seconds = self._seconds
        registered, used = self._register(seconds)
        direct = self._register_directly(seconds)
        journal = self._journal.register(seconds)
        lookups = self._with_etcd(
            lambda: self._bench.run((request("GET", f"/{each}") for each in used), seconds, once=False)
        )
        reads = self._direct.run(map(self._read, used), seconds, once=False)
        grants = self._with_etcd(lambda: self._bench.run_script(_GRANTS, seconds))
        self._etcd.check_leader()
        return LoadRound(registered, direct, journal, lookups, reads, grants)

    def _register(self, seconds: float) -> tuple[EtcdCost, list[str]]:
        ids = self._store.load(int(seconds * _PER_SECOND / NODES), nodes=0)
        cost = self._with_etcd(lambda: self._bench.run(registrations(ids), seconds, once=True))
        used = _complete(ids, cost.rate * seconds)
        check_registered(self._daemon.address(), used)
        return cost, used

    def _register_directly(self, seconds: float) -> Load:
        """Measure two requests for each registration; return the rate of registrations."""
        ids = self._store.load(int(seconds * _DIRECT_PER_SECOND / NODES), nodes=0)
        done = self._direct.run(self._transactions(ids), seconds, once=True)
        used = _complete(ids, done.rate * seconds / 2)
        for index, each in islice(enumerate(used), 0, None, 97):
            if self._store.value(self._store.keys.id(each)) != encode(self._store.record(index, each, NODES)):
                raise BenchmarkFailed(f"the record of {each} in etcd is not the one that was written")
        return done._replace(rate=done.rate / 2, cpu_us=done.cpu_us * 2)

    def _with_etcd(self, run: Callable[[], Load]) -> EtcdCost:
        used = self._etcd.cpu_seconds()
        load = run()
        return EtcdCost(load, (self._etcd.cpu_seconds() - used) * 1e6 / (load.rate * self._seconds))

    def _read(self, discovery_id: str) -> bytes:
        return _post("/v3/kv/range", {"key": base64(self._store.keys.id(discovery_id))})

    def _transactions(self, ids: list[str]) -> Iterator[bytes]:
        """Yield what a daemon sends for each registration: a read of the keys of its ID, and a
        transaction, which compares versions, since these are known beforehand.
        """
        keys = self._store.keys
        for index, number in _order(ids):
            each = ids[index]
            ranges = [_range(key) for key in (keys.id(each), keys.window(each), keys.answer(each))]
            record = self._store.record(index, each, number + 1)
            puts = [_put(keys.id(each), encode(record))]
            if number == 0:
                nonce = record.grant_nonce.encode()
                for key, lease in zip((keys.answer(each), keys.window(each)), self._leases, strict=True):
                    puts.append(_put(key, nonce, lease))
            yield _post("/v3/kv/txn", {"success": ranges})
            yield _post("/v3/kv/txn", {
                "compare": [_version(keys.id(each), number + 1), _version(keys.meta, 1)],
                "success": puts,
                "failure": [*ranges, _range(keys.meta)],
            })  # fmt: skip


class Journal:
    """A daemon with a journal, which holds `ids` without nodes."""

    def __init__(self, daemon: Rqdisco, directory: Path, ids: list[str]) -> None:
        self.directory = directory
        self._place = daemon.address()
        self._bench = Bench(daemon, *self._place, directory, CONNECTIONS)
        self._unused = ids

    def register(self, seconds: float) -> Load:
        """Measure registrations under IDs that have no nodes."""
        count = journal_ids(seconds)
        ids, self._unused = self._unused[:count], self._unused[count:]
        done = self._bench.run(registrations(ids), seconds, once=True)
        check_registered(self._place, _complete(ids, done.rate * seconds))
        return done


def journal_ids(seconds: float) -> int:
    """Return how many IDs a daemon with a journal needs for registrations of so many seconds."""
    return int(seconds * _JOURNAL_PER_SECOND / NODES)


def registrations(ids: list[str]) -> Iterator[bytes]:
    """Yield registrations of three nodes for each ID, those of one ID far from each other."""
    for index, number in _order(ids):
        body = json.dumps({"addr": addresses_of(index)[number]}).encode()
        yield request("POST", f"/{ids[index]}", body)


def check_registered(place: tuple[str, int], ids: list[str]) -> None:
    """Raise BenchmarkFailed unless a sample of the IDs lists what was registered."""
    client = Client(*place)
    for index in range(0, len(ids), 97):
        nodes = client.ask("GET", f"/{ids[index]}")["nodes"]
        if nodes != addresses_of(index):
            raise BenchmarkFailed(f"{ids[index]}: {nodes}, and not {addresses_of(index)}")
    client.close()


def _complete(ids: list[str], registered: float) -> list[str]:
    """Return the IDs that have all their nodes after so many registrations."""
    return ids[: int(registered / (_IN_TURN * NODES)) * _IN_TURN]


def _order(ids: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the index of each ID and the number of its node, in the order of registrations."""
    for start in range(0, len(ids), _IN_TURN):
        for number in range(NODES):
            for index in range(start, min(start + _IN_TURN, len(ids))):
                yield index, number


def _post(path: str, document: object) -> bytes:
    return request("POST", path, json.dumps(document, separators=(",", ":")).encode())


def _range(key: bytes) -> dict[str, object]:
    return {"request_range": {"key": base64(key)}}


def _put(key: bytes, value: bytes, lease: int = 0) -> dict[str, object]:
    return {"request_put": {"key": base64(key), "value": base64(value), **({"lease": lease} if lease else {})}}


def _version(key: bytes, version: int) -> dict[str, object]:
    return {"key": base64(key), "target": "VERSION", "version": version, "result": "EQUAL"}
