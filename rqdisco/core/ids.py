"""Discovery IDs: creation and syntax."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

_RANDOM_BYTES = 14
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
# Paths and names of the service itself, including those reserved for later.
RESERVED = frozenset(
    {"v1", "operator", "peers", "status", "healthz", "readyz", "metrics", "events", "static", "ns"}
    | {"openapi.json", "favicon.ico", "robots.txt"}
)

RandomBytes = Callable[[int], bytes]


def is_id(text: str) -> bool:
    """Report whether the text is a valid discovery ID."""
    return _ID.match(text) is not None


def may_be_named(text: str) -> bool:
    """Report whether an ID of that text may be created by name: through consul-kv, or by an
    import.
    """
    return is_id(text) and text.lower() not in RESERVED


def tag(incarnation: str) -> str:
    """Return the first 16 bits, in hex, of every ID created by `incarnation` (R1)."""
    return incarnation[:4]


def new_id(incarnation: str, random: RandomBytes) -> str:
    """Return a new discovery ID: a UUID of version 8 (RFC 9562 section 5.8) with the tag of its
    owner and 106 random bits.
    """
    value = int.from_bytes(bytes.fromhex(tag(incarnation)) + random(_RANDOM_BYTES), "big")
    value = value & ~(0xF << 76) | 8 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def is_uuid(text: str) -> bool:
    """Report whether a daemon or another discovery service may have created the ID, rather than a
    user named it.
    """
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def is_created_id(discovery_id: str) -> bool:
    """Report whether an ID has the form of those that daemons create."""
    try:
        parsed = uuid.UUID(discovery_id)
    except ValueError:
        return False
    return str(parsed) == discovery_id and parsed.version == 8
