"""Folding sealed journal segments into a new snapshot, in a process of its own: `python -m
rqdisco.storage.compaction`.

The daemon does not stall for it: the previous snapshot is on disk already, so nothing has to be
taken out of the daemon's memory.
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
from rqdisco.storage.snapshot import NAME, PREVIOUS_NAME, SnapshotHeader, SnapshotReader, encode_snapshot
from rqdisco.storage.wal.recovery import Recovered, replay, wanted
from rqdisco.storage.wal.segments import Position, segment_numbers, segment_path

# Held while folding: a child whose daemon was killed may still be writing the file that the next
# one would.
LOCK = "fold.lock"
_SYNC_EVERY = 4 << 20


def compact(fs: FileSystem, directory: Path, through: int) -> int:
    """Make a snapshot of all that the journal says up to the sealed segment `through`; return how
    many records.

    Does nothing, and returns 0, where the snapshot there is has that segment already.

    The snapshot before it is kept beside it, with the segments that lead from the one to the other,
    so that a damaged snapshot can be replaced and a directory can be copied in any order. Raises
    CannotStart's kinds, OSError.
    """
    path, new = directory / NAME, directory / f"{NAME}.new"
    base = SnapshotReader(fs, path) if fs.exists(path) else None
    if base is not None and through <= base.header.segment:
        # Somebody was faster: this process outlived the daemon that began it, say.
        return 0
    changes = _changes(fs, directory, base, through)
    header = SnapshotHeader(
        segment=through,
        crc=changes.position.crc,
        boot=changes.boot,
        boot_id=changes.boot_id,
        last_version=changes.last_version,
    )
    _write(fs, new, encode_snapshot(header, _merged(base, changes.records | changes.notes)))
    count = sum(1 for _ in SnapshotReader(fs, new).records())
    _put_in_place(fs, directory, new)
    _remove_segments(fs, directory, 0 if base is None else base.header.segment)
    return count


def _changes(fs: FileSystem, directory: Path, base: SnapshotReader | None, through: int) -> Recovered:
    """What changed after `base`, the newest state of each ID only."""
    changes = Recovered(records={})
    if base is not None:
        header = base.header
        changes.position = Position(segment=header.segment + 1, crc=header.crc)
        changes.boot, changes.boot_id, changes.last_version = header.boot, header.boot_id, header.last_version
    replay(fs, directory, range(changes.position.segment, through + 1), changes)
    return changes


def _merged(base: SnapshotReader | None, changes: dict[bytes, bytes]) -> Iterator[bytes]:
    """The records of `base` with `changes` put in, in the order of IDs."""
    changed = sorted(changes.items())
    kept = () if base is None else (item for item in base.records() if item[0] not in changes)
    return (join_record(key, rest) for key, rest in wanted(heapq.merge(kept, changed)))


def _write(fs: FileSystem, path: Path, parts: Iterator[bytes]) -> None:
    if fs.exists(path):
        fs.remove(path)
    handle = fs.create(path)
    try:
        unsynced = 0
        for part in parts:
            handle.write(part)
            # A large file written back in one go at the end would hold up the journal's own syncs.
            if (unsynced := unsynced + len(part)) > _SYNC_EVERY:
                handle.sync()
                unsynced = 0
        handle.sync()
    except BaseException:
        fs.remove(path)
        raise
    finally:
        handle.close()


def _put_in_place(fs: FileSystem, directory: Path, new: Path) -> None:
    """There is a snapshot.json at every moment, and the one before it under its own name."""
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
    """Remove a large file without holding up the journal's syncs, as freeing all of its blocks at
    once does.

    One that has another name, in a hard-linked backup, only loses this one: to cut it would cut the
    backup.
    """
    if fs.names_of(path) > 1:
        fs.remove(path)
        return
    handle = fs.open(path)
    try:
        for size in range(fs.size(path) - _SYNC_EVERY, 0, -_SYNC_EVERY):
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
    """Fold DIRECTORY up to segment NUMBER; 1 and one line on stderr if that fails."""
    directory, through = Path(arguments[0]), int(arguments[1])
    with suppress(OSError):
        os.nice(10)
    disk = Disk()
    try:
        if not disk.lock(directory / LOCK):
            print(f"{directory / LOCK}: another fold is under way", file=sys.stderr)
            return 1
        count = compact(disk, directory, through)
    except (CannotStart, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(count)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
