"""Who this daemon is: its incarnation (R1)."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import msgspec

from rqdisco.codec import Malformed, decode_versioned
from rqdisco.errors import CopiedState, DamagedState
from rqdisco.ids import RandomBytes
from rqdisco.journal.files import FileSystem

NAME = "identity.json"
FORMAT = "rqdisco identity"
VERSION = 1
_INCARNATION = re.compile(r"[0-9a-f]{16}\Z")
_REMEDY = "restore the file, or remove it to go on as a new incarnation (see docs/operations.md)"


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that makes a state directory one daemon's own.

    `incarnation` is 64 random bits in hex, made with a fresh state directory; `inode` is that of this very file, so
    that a copy, which has another, is noticed; `crc` is the CRC-32 of both.
    """

    format: str
    version: int
    incarnation: str
    inode: str
    crc: str

    @property
    def is_whole(self) -> bool:
        """Whether it says what was written."""
        return bool(_INCARNATION.match(self.incarnation)) and self.crc == _crc(self.incarnation, self.inode)


def establish(fs: FileSystem, directory: Path, random: RandomBytes) -> tuple[Identity, bool]:
    """The identity of `directory`, and whether it was made just now. A directory without one is a new incarnation.

    Raises DamagedState, UnknownFormat, CopiedState; OSError if a new identity cannot be written.
    """
    path = directory / NAME
    if fs.exists(path):
        return _read(fs, path), False
    temporary = path.with_name(NAME + ".new")
    if fs.exists(temporary):
        fs.remove(temporary)
    handle = fs.create(temporary)
    try:
        incarnation, inode = random(8).hex(), fs.inode(temporary)
        identity = Identity(
            format=FORMAT, version=VERSION, incarnation=incarnation, inode=inode, crc=_crc(incarnation, inode)
        )
        handle.write(msgspec.json.encode(identity) + b"\n")
        handle.sync()
    finally:
        handle.close()
    fs.rename(temporary, path)
    fs.sync_directory(directory)
    return identity, True


def _read(fs: FileSystem, path: Path) -> Identity:
    content = fs.read(path)
    try:
        identity = decode_versioned(content, Identity, FORMAT, VERSION, path)
    except Malformed as error:
        raise DamagedState(f"{path}: {error}; {_REMEDY}") from None
    if not identity.is_whole:
        raise DamagedState(f"{path}: the CRC does not match; {_REMEDY}")
    if identity.inode != fs.inode(path) or fs.names_of(path) > 1:
        raise CopiedState(
            f"{path}: this state directory is a copy; if the original will never run again, remove this file to go on"
            " as a new incarnation (see docs/operations.md)"
        )
    return identity


def _crc(incarnation: str, inode: str) -> str:
    return f"{zlib.crc32(f'{incarnation} {inode}'.encode()):08x}"
