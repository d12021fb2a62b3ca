"""The identity of a daemon: its incarnation (R1)."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import msgspec

from rqdisco.core.codec import Malformed, decode_versioned
from rqdisco.core.errors import CannotStart, CopiedState, DamagedState
from rqdisco.core.ids import RandomBytes
from rqdisco.storage.files import FileSystem

NAME = "identity.json"
FORMAT = "rqdisco identity"
# 2: with the directory it was created in.
VERSION = 2
_INCARNATION = re.compile(r"[0-9a-f]{16}\Z")
_MANUAL = "see docs/operations.md"
_OWNERLESS = "its IDs are then ownerless: they list and join nodes, and none can bootstrap a cluster"
_REMEDY = f"restore the file, or remove it to go on as a new incarnation; {_OWNERLESS} ({_MANUAL})"


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that identifies the state directory of one daemon.

    `incarnation` is 64 random bits in hex, created with the state directory. `inode` is that of
    this file, so that a copy, which has another one, is detected. `directory` is the inode of the
    directory it was created in; since directories have no hard links, it tells the original from a
    hard-linked copy. Version 1 does not have it. `crc` is the CRC-32 of these.
    """

    format: str
    version: int
    incarnation: str
    inode: str
    directory: str = ""
    crc: str

    @property
    def is_intact(self) -> bool:
        """Report whether the content is valid and matches the CRC."""
        return (
            is_incarnation(self.incarnation)
            and bool(self.directory) == (self.version > 1)
            and self.crc == _crc(self.incarnation, self.inode, self.directory)
        )


def is_incarnation(text: str) -> bool:
    """Report whether a text is 64 bits in hex."""
    return bool(_INCARNATION.match(text))


def load_identity(fs: FileSystem, directory: Path, random: RandomBytes) -> tuple[Identity, bool]:
    """Return the identity of `directory`, and whether it is new. A directory without one gets a new
    incarnation.

    Raises DamagedState, UnknownFormat, CopiedState; OSError if a new identity cannot be written.
    """
    path = directory / NAME
    if fs.exists(path):
        return _read(fs, path), False
    return create_identity(fs, directory, random(8).hex()), True


def create_identity(fs: FileSystem, directory: Path, incarnation: str) -> Identity:
    """Make `directory` the state directory of `incarnation`, durably. Raises OSError."""
    path = directory / NAME
    temporary = path.with_name(NAME + ".new")
    if fs.exists(temporary):
        fs.remove(temporary)
    handle = fs.create(temporary)
    try:
        inode, place = fs.inode(temporary), fs.inode(directory)
        identity = Identity(
            format=FORMAT,
            version=VERSION,
            incarnation=incarnation,
            inode=inode,
            directory=place,
            crc=_crc(incarnation, inode, place),
        )
        handle.write(msgspec.json.encode(identity) + b"\n")
        handle.sync()
    finally:
        handle.close()
    fs.rename(temporary, path)
    fs.sync_directory(directory)
    return identity


def is_original(fs: FileSystem, directory: Path, incarnation: str) -> bool:
    """Report whether `directory` is the one that `incarnation` runs on, and no copy of it; False if
    it cannot be read.
    """
    try:
        return fs.exists(directory / NAME) and _read(fs, directory / NAME).incarnation == incarnation
    except (CannotStart, OSError):
        return False


def _read(fs: FileSystem, path: Path) -> Identity:
    content = fs.read(path)
    try:
        identity = decode_versioned(content, Identity, FORMAT, VERSION, path)
    except Malformed as error:
        raise DamagedState(f"{path}: {error}; {_REMEDY}") from None
    if not identity.is_intact:
        raise DamagedState(f"{path}: the CRC does not match; {_REMEDY}")
    why = _why_copied(fs, path, identity)
    if why is not None:
        raise CopiedState(f"{path}: {why} ({_MANUAL})")
    return identity


def _why_copied(fs: FileSystem, path: Path, identity: Identity) -> str | None:
    """Return why this may not be the directory that the identity was created in, and what to do;
    None if it is.

    The number of links matters only for a file of version 1, which does not name its directory.
    """
    names, place = fs.link_count(path), fs.inode(path.parent)
    if identity.inode != fs.inode(path):
        what = "this file was put back from a copy" if identity.directory == place else "this state directory is a copy"
        return (
            f"{what}: run the original; if that will never run again, remove this file to go on as a new incarnation;"
            f" {_OWNERLESS}"
        )
    if not identity.directory and names > 1:
        return (
            f"the file has {names} names, as after a hard-linked backup, and was written by a release that did not"
            " store its directory: remove it from the backup, never from the original, whose IDs would be ownerless"
        )
    if identity.directory in ("", place):
        return None
    number = identity.directory.partition(".")[0]
    if names > 1:
        return (
            f"this state directory is a hard-linked copy: the file has {names} names and was made in another directory"
            f" (inode {number}): run the daemon on that one; to restore the copy, remove the file from it;"
            f" {_OWNERLESS}"
        )
    return (
        f"the file was made in another directory (inode {number}), and was moved from there or is left of a"
        " hard-linked copy: move all files back to where they were, if they were moved; otherwise remove this one to go"
        f" on as a new incarnation; {_OWNERLESS}"
    )


def _crc(*values: str) -> str:
    return f"{zlib.crc32(' '.join(filter(None, values)).encode()):08x}"
