"""A disk in memory that fills up, fails and crashes, and holds after a crash what a real one
might.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

SECTOR = 512


class Inode:
    """One file: what programs see of it, and what is on the platter."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = b""
        self.safe = b""
        self.clean = False


class ModelDisk:
    """The journal's FileSystem in memory.

    `room` is how many bytes may still be written before the disk, of `capacity` bytes, is full;
    `broken_syncs` are the counts of syncs (from 1) that fail, after which the pages are clean in
    memory and not on the disk, as on Linux; `before` is called with each operation's name, and may
    raise or crash.
    """

    def __init__(self) -> None:
        self.room: int | None = None
        self.capacity = 1 << 40
        self.looked = 0
        self.broken_syncs: set[int] = set()
        self.syncs = 0
        self.before: Callable[[str], None] = lambda operation: None
        self.locked: set[Path] = set()
        self._numbers = 0
        self._directories: dict[Path, int] = {}
        self._seen: dict[Path, Inode | None] = {}
        self._safe: dict[Path, Inode | None] = {}
        # Changes of names in order, each as one step; None is a removed name.
        self._unsynced: list[dict[Path, Inode | None]] = []

    def crash(self, random: Random) -> ModelDisk:
        """Return the disk as it may be found after a power cut.

        Of the names changed since their directory was synced the first few are kept; each sector of
        a file's unsynced bytes is kept, lost or left at zero, and the size is any that it had.
        """
        after = ModelDisk()
        after._numbers, after._directories = self._numbers, dict(self._directories)
        names = dict(self._safe)
        for change in self._unsynced[: random.randint(0, len(self._unsynced))]:
            _apply(names, change)
        copies: dict[int, Inode] = {}
        for path, inode in names.items():
            if inode is None:
                after._seen[path] = after._safe[path] = None
                continue
            copy = copies.setdefault(inode.number, Inode(inode.number))
            copy.seen = copy.safe = copy.safe or _torn(inode, random)
            after._seen[path] = after._safe[path] = copy
        return after

    def kill(self) -> ModelDisk:
        """Return the disk as it is found when only the process died: everything written is there,
        synced or not.
        """
        self.locked.clear()
        self.before = lambda operation: None
        return self

    # The FileSystem interface.

    def make_directory(self, path: Path) -> None:
        if path not in self._seen:
            self._numbers += 1
            self._directories[path] = self._numbers
            self._seen[path] = self._safe[path] = None

    def names(self, path: Path) -> list[str]:
        return [entry.name for entry in self._seen if entry.parent == path]

    def exists(self, path: Path) -> bool:
        return path in self._seen

    def create(self, path: Path) -> ModelHandle:
        self.before(f"create {path.name}")
        if path in self._seen:
            raise _error(errno.EEXIST, path)
        if self.room == 0:
            raise _error(errno.ENOSPC, path)
        self._numbers += 1
        inode = Inode(self._numbers)
        self._name(path, inode)
        return ModelHandle(self, inode, path)

    def open(self, path: Path) -> ModelHandle:
        return ModelHandle(self, self._inode(path), path)

    def read(self, path: Path) -> bytes:
        return self._inode(path).seen

    def lines(self, path: Path) -> Iterator[bytes]:
        return iter(self._inode(path).seen.splitlines(keepends=True))

    def drop_cache(self, path: Path) -> None:
        inode = self._inode(path)
        if inode.clean:
            inode.seen, inode.clean = inode.safe, False

    def size(self, path: Path) -> int:
        return len(self._inode(path).seen)

    def inode(self, path: Path) -> str:
        number = self._directories.get(path)
        return str(self._inode(path).number if number is None else number)

    def link_count(self, path: Path) -> int:
        return sum(inode is self._inode(path) for inode in self._seen.values())

    def link(self, path: Path, name: Path) -> None:
        self.before(f"link {name.name}")
        self._name(name, self._inode(path))

    def rename(self, path: Path, to: Path) -> None:
        self.before(f"rename {to.name}")
        inode = self._inode(path)
        # A rename is one step: both names change together or neither does.
        del self._seen[path]
        self._seen[to] = inode
        self._unsynced.append({path: None, to: inode})

    def remove(self, path: Path) -> None:
        self.before(f"remove {path.name}")
        self._inode(path)
        del self._seen[path]
        self._unsynced.append({path: None})

    def lock(self, path: Path) -> bool:
        self.before(f"lock {path.name}")
        if path in self.locked:
            return False
        self.locked.add(path)
        return True

    def space(self, path: Path) -> tuple[int, int]:
        self.looked += 1
        self.before(f"space {path.name}")
        return self.capacity if self.room is None else self.room, self.capacity

    def sync_directory(self, path: Path) -> None:
        self.before(f"sync_directory {path.name}")
        self._count_sync(path)
        for change in self._unsynced:
            if any(name.parent == path for name in change):
                _apply(self._safe, change)
        self._unsynced = [change for change in self._unsynced if all(name.parent != path for name in change)]

    # For tests that damage files.

    def replace(self, path: Path, content: bytes) -> None:
        """Put `content` into the file, durably and without regard to any limit."""
        if path not in self._seen:
            self._numbers += 1
            self._seen[path] = self._safe[path] = Inode(self._numbers)
        inode = self._inode(path)
        inode.seen = inode.safe = content

    def _name(self, path: Path, inode: Inode) -> None:
        self._seen[path] = inode
        self._unsynced.append({path: inode})

    def _inode(self, path: Path) -> Inode:
        inode = self._seen.get(path)
        if inode is None:
            raise _error(errno.ENOENT, path)
        return inode

    def _count_sync(self, path: Path) -> None:
        self.syncs += 1
        if self.syncs in self.broken_syncs:
            raise _error(errno.EIO, path)


class ModelHandle:
    """A file of a ModelDisk, open for appending."""

    def __init__(self, disk: ModelDisk, inode: Inode, path: Path) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path

    def write(self, data: bytes) -> None:
        self._disk.before(f"write {self._path.name}")
        room = self._disk.room
        fitting = data if room is None else data[:room]
        self._inode.seen += fitting
        if room is not None:
            self._disk.room = room - len(fitting)
        if len(fitting) < len(data):
            raise _error(errno.ENOSPC, self._path)

    def sync(self) -> None:
        self._disk.before(f"sync {self._path.name}")
        try:
            self._disk._count_sync(self._path)
        except OSError:
            self._inode.clean = True
            raise
        if not self._inode.clean:
            self._inode.safe = self._inode.seen

    def truncate(self, size: int) -> None:
        self._disk.before(f"truncate {self._path.name}")
        freed = len(self._inode.seen) - size
        self._inode.seen = self._inode.seen[:size]
        if self._disk.room is not None:
            self._disk.room += freed

    def close(self) -> None:
        pass


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def _apply(names: dict[Path, Inode | None], change: dict[Path, Inode | None]) -> None:
    for path, inode in change.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _torn(inode: Inode, random: Random) -> bytes:
    safe, seen = inode.safe, inode.seen
    if safe == seen or random.random() < 0.2:
        return safe
    size = random.choice((len(seen), random.randint(min(len(safe), len(seen)), max(len(safe), len(seen)))))
    sectors = []
    for start in range(0, size, SECTOR):
        source = random.choice((seen, safe, seen))
        sectors.append(source[start : start + SECTOR].ljust(min(SECTOR, size - start), b"\0"))
    return b"".join(sectors)[:size]
