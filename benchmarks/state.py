"""State directories of any size, made by the project's own code without running the daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rqdisco.core.codec import encode_record
from rqdisco.core.ids import new_id
from rqdisco.core.records import Grant, Node, Record
from rqdisco.storage.files import Disk
from rqdisco.storage.identity import load_identity
from rqdisco.storage.snapshot import NAME, SnapshotHeader, encode_snapshot
from rqdisco.storage.wal.segments import DIRECTORY

_CREATED_AT = 1_795_000_000_123_456


class State(NamedTuple):
    """A state directory and the IDs in it, sorted."""

    directory: Path
    ids: list[str]


def address(number: int) -> str:
    """Return an address as nodes advertise it, a different one for each of 2**24 numbers."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:4001"


def addresses_of(index: int, nodes: int = 3) -> list[str]:
    """Return what `make_state` registered under the ID of that index."""
    return [address(index * nodes + number) for number in range(nodes)]


def make_state(directory: Path, count: int, nodes: int = 3) -> State:
    """Make a snapshot of `count` IDs with `nodes` nodes each, the first of which was granted."""
    fs = Disk()
    fs.make_directory(directory / DIRECTORY)
    owner = load_identity(fs, directory, os.urandom)[0].incarnation
    # No two records of an owner have one version, and all are newer than the existing ones.
    version = time.time_ns() // 1_000_000
    ids = sorted({new_id(owner, os.urandom) for _ in range(count)})
    header = SnapshotHeader(segment=0, crc=0, boot=1, boot_id="an earlier boot", last_version=version + count)
    handle = fs.create(directory / NAME)
    try:
        for part in encode_snapshot(header, _lines(ids, owner, version, nodes)):
            handle.write(part)
        handle.sync()
    finally:
        handle.close()
    fs.sync_directory(directory)
    return State(directory, ids)


def _lines(ids: list[str], owner: str, version: int, nodes: int) -> Iterator[bytes]:
    for index, discovery_id in enumerate(ids):
        registered = tuple(Node(addr=addr) for addr in addresses_of(index, nodes))
        yield encode_record(
            Record(
                id=discovery_id,
                owner=owner,
                version=version + index,
                created_at=_CREATED_AT,
                nodes=registered,
                grant=Grant(addr=registered[0].addr, boot=1, at=12_345_678) if registered else None,
            )
        )
