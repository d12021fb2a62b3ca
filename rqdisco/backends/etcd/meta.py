"""The state of the whole store, in one key that every transaction compares."""

from __future__ import annotations

import re

import msgspec

from rqdisco.core.codec import UNREADABLE, Malformed
from rqdisco.core.errors import UnknownFormat

FORMAT = 1
_STORE_ID = re.compile(r"[0-9a-f]{16}\Z")
_encode = msgspec.json.Encoder().encode


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The format of the keys; the random ID of the store, which is the owner of its IDs; the epoch,
    which is raised after a backup was restored (E8); and the reason why nothing may be changed, if
    the store is frozen for a migration.
    """

    format: int
    store_id: str
    epoch: int
    frozen: str = ""


def encode_meta(meta: Meta) -> bytes:
    """Encode the state of the store."""
    return _encode(meta)


def decode_meta(value: bytes, where: str) -> Meta:
    """Decode the state of the store. Raises Malformed; UnknownFormat, which names `where`, if a
    newer release wrote it.
    """
    try:
        # A newer format may have other fields.
        version = msgspec.json.decode(value, type=_Version).format
        if version > FORMAT:
            raise UnknownFormat(f"{where}: format {version} is newer than this release reads, run a newer one")
        meta = msgspec.json.decode(value, type=Meta)
    except UNREADABLE as error:
        raise Malformed(f"{where}: {error}") from None
    if not _STORE_ID.match(meta.store_id):
        raise Malformed(f"{where}: store_id is not 16 hex digits")
    return meta


class _Version(msgspec.Struct):
    format: int
