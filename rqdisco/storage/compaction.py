"""Compaction of sealed journal segments into a new snapshot, in a child process: `python -m
rqdisco.storage.compaction`.

It reads the previous snapshot and the segments from the disk, so that the daemon does not stall.
"""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rqdisco.core.codec import join_record
from rqdisco.core.errors import CannotStart
from rqdisco.storage.files import Disk, FileSystem
from rqdisco.storage.snapshot import (
    NAME,
    PREVIOUS_NAME,
    SYNC_EVERY,
    SnapshotHeader,
    SnapshotReader,
    encode_snapshot,
    write_document,
)
from rqdisco.storage.wal.recovery import Recovered, replay, without_deleted
from rqdisco.storage.wal.segments import Position, segment_numbers, segment_path

# Held during compaction: the child of a daemon that was killed may still write the same file.
LOCK = "fold.lock"


def compact(fs: FileSystem, directory: Path, through: int) -> int:
    """Write a snapshot of the journal up to the sealed segment `through`; return its number of
    records, 0 if the snapshot has that segment already.

    The previous snapshot is kept, with the segments after it, so that a damaged snapshot can be
    replaced and the directory can be copied in any order. Raises a subclass of CannotStart, or
    OSError.
    """
    path, new = directory / NAME, directory / f"{NAME}.new"
    base = SnapshotReader(fs, path) if fs.exists(path) else None
    if base is not None and through <= base.header.segment:
        # Another process was faster: the daemon that started this one may be gone.
        return 0
    changes = _changes(fs, directory, base, through)
    header = SnapshotHeader(
        segment=through,
        crc=changes.position.crc,
        boot=changes.boot,
        boot_id=changes.boot_id,
        last_version=changes.last_version,
    )
    write_document(fs, new, encode_snapshot(header, _merged(base, changes.records | changes.metadata)))
    count = sum(1 for _ in SnapshotReader(fs, new).records())
    _put_in_place(fs, directory, new)
    _remove_segments(fs, directory, 0 if base is None else base.header.segment)
    return count


def _changes(fs: FileSystem, directory: Path, base: SnapshotReader | None, through: int) -> Recovered:
    """Return the newest version of each record that changed after `base`."""
    changes = Recovered(records={})
    if base is not None:
        header = base.header
        changes.position = Position(segment=header.segment + 1, crc=header.crc)
        changes.boot, changes.boot_id, changes.last_version = header.boot, header.boot_id, header.last_version
    replay(fs, directory, range(changes.position.segment, through + 1), changes)
    return changes


def _merged(base: SnapshotReader | None, changes: dict[bytes, bytes]) -> Iterator[bytes]:
    """Iterate over the records of `base` with `changes` applied, in the order of IDs."""
    changed = sorted(changes.items())
    unchanged = () if base is None else (item for item in base.records() if item[0] not in changes)
    return (join_record(key, rest) for key, rest in without_deleted(heapq.merge(unchanged, changed)))


def _put_in_place(fs: FileSystem, directory: Path, new: Path) -> None:
    """Rename the new snapshot; a snapshot.json exists at every moment, and the previous one."""
    path, previous, old = directory / NAME, directory / PREVIOUS_NAME, directory / f"{PREVIOUS_NAME}.old"
    if fs.exists(path):
        if fs.exists(previous):
            fs.rename(previous, old)
        fs.link(path, previous)
    fs.rename(new, path)
    fs.sync_directory(directory)
    if fs.exists(old):
        _remove_in_steps(fs, old)


def _remove_in_steps(fs: FileSystem, path: Path) -> None:
    """Remove a large file in steps, since freeing all of its blocks at once delays the journal's
    syncs.

    A file with other links is only unlinked: truncating it would damage a hard-linked backup.
    """
    if fs.link_count(path) > 1:
        fs.remove(path)
        return
    handle = fs.open(path)
    try:
        for size in range(fs.size(path) - SYNC_EVERY, 0, -SYNC_EVERY):
            handle.truncate(size)
            handle.sync()
    finally:
        handle.close()
    fs.remove(path)


def _remove_segments(fs: FileSystem, directory: Path, before: int) -> None:
    for number in segment_numbers(fs, directory):
        if number < before:
            fs.remove(segment_path(directory, number))


def main(arguments: list[str]) -> int:
    """Compact DIRECTORY up to segment NUMBER; return 1, with a line on stderr, if that fails."""
    directory, through = Path(arguments[0]), int(arguments[1])
    with suppress(OSError):
        os.nice(10)
    disk = Disk()
    try:
        if not disk.lock(directory / LOCK):
            print(f"{directory / LOCK}: another compaction is running", file=sys.stderr)
            return 1
        count = compact(disk, directory, through)
    except (CannotStart, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(count)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
