"""The processes of the etcd backend: stateless daemons, three members of etcd and what these count;
and records that are written to etcd directly.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from benchmarks.processes import HOST, BenchmarkFailed, Client, EtcdSet, Rqdisco, free_ports
from benchmarks.state import addresses_of
from rqdisco.backends.etcd.etcd_record import EtcdRecord
from rqdisco.backends.etcd.etcd_record import encode as encode_record
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.messages import Txn, TxnOperation, encode, prefix_end, put_op
from rqdisco.backends.etcd.meta import FORMAT, Meta, encode_meta
from rqdisco.core.ids import new_id
from rqdisco.core.records import NO_BOOT, Grant, Node

# Requests of all clients come from one address.
UNLIMITED = ("--create-rate=0", "--client-rate=0", "--dns-rate=0")
_QUOTA = {"quota-backend-bytes": str(8 << 30)}
_CREATED_AT = 1_795_000_000_123_456
_VERSION = _CREATED_AT // 1000
# etcd allows a transaction and one nested in it 128 operations together, and 1.5 MiB.
_OPERATIONS, _NESTED = 100, 20
_PATIENCE = 60.0
_SENT = "rqdisco_etcd_requests_total{"
_WAL = re.compile(r"^etcd_disk_wal_write_bytes_total (\S+)$", re.MULTILINE)


class EtcdMembers(EtcdSet):
    """Three members of etcd; the leader is the first endpoint of every daemon, and is used
    directly.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, _QUOTA)
        self._leader: tuple[str, int] | None = None
        self._endpoints: list[str] = []

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the leader."""
        if self._leader is None:
            self._leader = self.leader().address()
        return self._leader

    def endpoints(self) -> list[str]:
        """Return the URLs of all members, that of the leader first."""
        if not self._endpoints:
            # A look at its health is an entry of etcd's log.
            places = sorted((member.address() for member in self.members), key=lambda place: place != self.place)
            self._endpoints = [f"http://{host}:{port}" for host, port in places]
        return self._endpoints

    def check_leader(self) -> None:
        """Raise BenchmarkFailed if another member leads by now."""
        if self.leader().address() != self.place:
            raise BenchmarkFailed("etcd changed its leader in the meantime")

    def written(self) -> Written:
        """Return what was written so far."""
        client = Client(*self.place)
        status = client.ask("POST", "/v3/maintenance/status", {})
        client.close()
        wal = _WAL.search(_get(f"{self.endpoints()[0]}/metrics"))
        if wal is None:
            raise BenchmarkFailed("etcd does not report the bytes of its log")
        return Written(
            int(status["header"]["revision"]), int(status["raftIndex"]), float(wal[1]), int(status["dbSizeInUse"])
        )


class Written(NamedTuple):
    """The writes of an etcd cluster so far: revisions of keys, entries of the Raft log, bytes of the
    log at one member, and bytes of the database in use.
    """

    revisions: int
    entries: int
    log_bytes: float
    database_bytes: int

    def since(self, before: Written) -> Written:
        """Return the difference."""
        return Written(
            self.revisions - before.revisions,
            self.entries - before.entries,
            self.log_bytes - before.log_bytes,
            self.database_bytes - before.database_bytes,
        )


class EtcdDaemon(Rqdisco):
    """A stateless daemon."""

    def __init__(self, etcd: EtcdMembers, directory: Path, *options: str, prefix: str = "/rqdisco/") -> None:
        urls = (f"--etcd={url}" for url in etcd.endpoints())
        (self._metrics_port,) = free_ports(1)
        metrics = f"--metrics-listen=tcp:{self._metrics_port}:interface={HOST}"
        super().__init__(None, directory, *urls, f"--etcd-prefix={prefix}", metrics, *UNLIMITED, *options)

    def wait_until_ready(self) -> tuple[str, int]:
        """Return host and port, as soon as it grants."""
        self.wait_until_granting(*self.address())
        return self.address()

    def requests(self) -> float:
        """Return how many requests it has sent to etcd, by its own count."""
        lines = _get(f"http://{HOST}:{self._metrics_port}/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(_SENT))

    def wait_until_granting(self, host: str, port: int) -> None:
        """Return as soon as it grants."""
        since = time.monotonic()
        while not _grants(host, port):
            self.check_running(since, _PATIENCE)
            time.sleep(0.002)


class DirectStore:
    """The store under a prefix, which is written to etcd without a daemon."""

    def __init__(self, etcd: EtcdMembers, prefix: str) -> None:
        self._client = Client(*etcd.place)
        self.prefix = prefix
        self.keys = EtcdKeys(prefix)
        self.store_id = os.urandom(8).hex()
        self.ask("/v3/kv/put", {
            "key": base64(self.keys.meta),
            "value": base64(encode_meta(Meta(format=FORMAT, store_id=self.store_id, epoch=1))),
        })  # fmt: skip

    def ask(self, path: str, document: object) -> Any:
        """Send a request to the leader of etcd."""
        return self._client.ask("POST", path, document)

    def record(self, index: int, discovery_id: str, nodes: int) -> EtcdRecord:
        """Return the record of the ID of that index as it is when `nodes` nodes have registered."""
        listed = addresses_of(index, 3)[:nodes]
        nonces = {addr: f"{index:08x}{number:08x}" for number, addr in enumerate(listed)}
        nonce = nonces[listed[-1]] if listed else f"{index:016x}"
        return EtcdRecord(
            id=discovery_id,
            owner=self.store_id,
            version=_VERSION + nodes,
            created_at=_CREATED_AT,
            nodes=tuple(Node(addr=addr) for addr in listed),
            grant=Grant(addr=listed[0], boot=NO_BOOT, at=_VERSION, host="@d661bbb7ed208980") if listed else None,
            last_nonce=nonce,
            grant_nonce=nonces[listed[0]] if listed else "",
            node_nonces=nonces,
            epoch=1,
        )

    def load(self, count: int, nodes: int) -> list[str]:
        """Write records of this many new IDs; return these, sorted."""
        ids = sorted({new_id(self.store_id, os.urandom) for _ in range(count)})
        operations = (
            put_op(self.keys.id(each), encode_record(self.record(index, each, nodes))) for index, each in enumerate(ids)
        )
        transactions, is_waiting = _transactions(operations), False
        while inner := list(islice(transactions, _NESTED)):
            body = encode(Txn(success=tuple(TxnOperation(request_txn=each) for each in inner)))
            if is_waiting:
                self._finish_load()
            self._client.start("POST", "/v3/kv/txn", body)
            is_waiting = True
        if is_waiting:
            self._finish_load()
        return ids

    def count(self) -> int:
        """Return the number of IDs."""
        ids = self.keys.ids
        asked = {"key": base64(ids), "range_end": base64(prefix_end(ids)), "count_only": True}
        return int(self.ask("/v3/kv/range", asked).get("count", 0))

    def value(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        found = self.ask("/v3/kv/range", {"key": base64(key)}).get("kvs", [])
        return b64decode(found[0]["value"]) if found else None

    def close(self) -> None:
        self._client.close()

    def _finish_load(self) -> None:
        answer = self._client.finish("a load of records")
        if not answer.get("succeeded"):
            raise BenchmarkFailed(f"etcd did not take records: {answer}")


def base64(value: bytes) -> str:
    """Return bytes as etcd's gateway takes them."""
    return b64encode(value).decode()


def _transactions(operations: Iterable[TxnOperation]) -> Iterator[Txn]:
    operations = iter(operations)
    while some := tuple(islice(operations, _OPERATIONS)):
        yield Txn(success=some)


def _grants(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz?grant=1")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _get(url: str) -> str:
    with urlopen(url, timeout=_PATIENCE) as response:
        content: bytes = response.read()
    return content.decode()
