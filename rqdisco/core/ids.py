"""Discovery IDs: minting them, and which texts may be one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

_RANDOM_BYTES = 14
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
# Paths and names of the service itself, those it may get later included.
RESERVED = frozenset(
    {"v1", "operator", "peers", "status", "healthz", "readyz", "metrics", "events", "static", "ns"}
    | {"openapi.json", "favicon.ico", "robots.txt"}
)

RandomBytes = Callable[[int], bytes]


def is_id(text: str) -> bool:
    """Whether there can be a discovery ID of that text."""
    return _ID.match(text) is not None


def may_be_named(text: str) -> bool:
    """Whether an ID of that text may come to be without being minted: through consul-kv, or by an
    import.
    """
    return is_id(text) and text.lower() not in RESERVED


def tag(incarnation: str) -> str:
    """The 16 bits, in hex, that every ID minted by `incarnation` begins with (R1)."""
    return incarnation[:4]


def new_id(incarnation: str, random: RandomBytes) -> str:
    """A new discovery ID: a UUID of version 8 (RFC 9562 section 5.8), the tag of its home and 106
    random bits.
    """
    value = int.from_bytes(bytes.fromhex(tag(incarnation)) + random(_RANDOM_BYTES), "big")
    value = value & ~(0xF << 76) | 8 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def is_uuid(text: str) -> bool:
    """Whether an ID may have been minted, here or by another discovery service, and not named by
    whoever uses it.
    """
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def is_created_id(discovery_id: str) -> bool:
    """Whether an ID has the form of those that daemons mint."""
    try:
        parsed = uuid.UUID(discovery_id)
    except ValueError:
        return False
    return str(parsed) == discovery_id and parsed.version == 8
