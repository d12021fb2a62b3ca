"""Builds the storage of a daemon: the state directory, the records in memory and the write-ahead
log.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rqdisco.core.codec import Metadata, decode_stored_metadata
from rqdisco.core.directory import Directory
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Moment
from rqdisco.service.config import Config
from rqdisco.service.system import System
from rqdisco.service.wiring.backend import PeerParts
from rqdisco.service.worker_threads import RunInThread
from rqdisco.storage.backup import Backups
from rqdisco.storage.compaction_process import run_compaction
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.disk_reserve import Reserve
from rqdisco.storage.files import Disk, FileSystem
from rqdisco.storage.memory import Store
from rqdisco.storage.state_directory import open_state
from rqdisco.storage.wal.recovery import Recovered
from rqdisco.storage.wal.segments import SegmentWriter
from rqdisco.storage.wal.writer import SEGMENT_BYTES, InThread, Journal


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """An open state directory.

    `incarnation` identifies this daemon as an owner of IDs. `metadata` is what was stored beside
    the records. `now` returns the boot number and the milliseconds since that boot.
    """

    incarnation: str
    recovered: Recovered
    metadata: Sequence[Metadata]
    store: Store
    segments: SegmentWriter
    journal: Journal
    now: Callable[[], Moment]


class StoredDirectory(msgspec.Struct, frozen=True, kw_only=True):
    """The directory of a daemon that stores its records, and what concerns their owners.

    `has_pending_grant` reports whether a grant of an ID is pending, `revoke_stuck` tries once more
    to revoke grants that the disk refused to revoke. `watermarks` tell which IDs have expired;
    `may_expire` reports whether this daemon may expire IDs of its own now. `is_ownerless` reports
    whether the owner of an ID, given by its incarnation, is gone for good.
    """

    directory: Directory
    has_pending_grant: Callable[[str], bool]
    revoke_stuck: Callable[[], Coroutine[Any, Any, None]]
    watermarks: ExpiryWatermarks
    may_expire: Callable[[], bool]
    is_ownerless: Callable[[str], bool]
    peers: PeerParts | None = None


def open_storage(
    config: Config, system: System, fs: FileSystem, run_in_thread: InThread, segment_bytes: int = SEGMENT_BYTES
) -> Storage:
    """Lock and read the state directory, and prepare to append to its write-ahead log.

    `run_in_thread` runs the log's blocking calls. Raises a subclass of CannotStart.
    """
    data_dir = directory_of(config)
    incarnation, recovered = open_state(fs, data_dir, system.random)
    boot = recovered.boot_number(system.boot_id)
    store = Store(recovered.records, recovered.last_version)
    reserve = Reserve(fs, data_dir, config.disk_reserve, system.reactor.seconds)
    segments = SegmentWriter(fs, data_dir, recovered.position, boot, system.boot_id, reserve)
    return Storage(
        incarnation=incarnation,
        recovered=recovered,
        metadata=[decode_stored_metadata(key, rest) for key, rest in recovered.metadata.items()],
        store=store,
        segments=segments,
        journal=Journal(store, segments, run_in_thread, system.call_soon, system.fail, segment_bytes),
        now=lambda: Moment(boot, int(system.uptime() * 1000)),
    )


def directory_of(config: Config) -> Path:
    """Return the state directory, which is optional only where another engine stores the records."""
    assert config.data_dir is not None
    return config.data_dir


def build_compactor(config: Config, system: System, storage: Storage) -> Compactor:
    """Build the service that writes snapshots in a child process."""
    data_dir = directory_of(config)
    return Compactor(
        system.reactor,
        storage.journal,
        lambda through: run_compaction(system.reactor, data_dir, through),
        config.snapshot_every,
        changed=storage.recovered.changed,
    )


def build_backups(
    config: Config, system: System, storage: Storage, compactor: Compactor, run_in_thread: RunInThread
) -> Backups:
    """Build the maker of backups, which reads the disk by `run_in_thread`."""
    return Backups(
        Disk(),
        directory_of(config),
        storage.incarnation,
        compactor.compact_now,
        run_in_thread,
        system.reactor,
        system.wall_us,
    )
