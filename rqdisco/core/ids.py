"""Discovery IDs: how they are created, which names are valid, and the owner tag in them (R1)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable

# The random bytes of an ID.
ID_BYTES = 14
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
# Path segments and names that the service uses itself, or reserves for later.
RESERVED_IDS = frozenset(
    {"v1", "operator", "peers", "status", "healthz", "readyz", "metrics", "events", "static", "ns", "clusters", "help"}
    | {"openapi.json", "favicon.ico", "robots.txt"}
)

# How many hex digits name an incarnation where they are unambiguous: those of its owner tag.
SHORT_INCARNATION = 4

RandomBytes = Callable[[int], bytes]


def is_id(text: str) -> bool:
    """Report whether the text is a valid discovery ID."""
    return _ID.match(text) is not None


def is_valid_name(text: str) -> bool:
    """Report whether an ID with this name may be created by consul-kv or an import."""
    return is_id(text) and text.lower() not in RESERVED_IDS


def name_objection(text: str) -> str | None:
    """Return why no ID with this name may be created on request, None if one may.

    A name never has the form of the IDs that daemons make up, or one could be taken for the other.
    """
    if not is_id(text):
        return "use up to 64 letters, digits, dots, '-' and '_'"
    if not is_valid_name(text):
        return "reserved for the service's own paths"
    return "it has the form of the IDs that daemons make up" if is_uuid(text) else None


def owner_tag(incarnation_or_id: str) -> str:
    """Return the first 16 bits in hex, which an incarnation and every ID created by it share
    (R1).
    """
    return incarnation_or_id[:SHORT_INCARNATION]


def short_incarnations(incarnations: Iterable[str]) -> dict[str, str]:
    """Return the short form of each incarnation: the first hex digits, as many as tell all of them
    apart.
    """
    known = set(incarnations)
    length = max(map(len, known), default=0)
    while length > SHORT_INCARNATION and len({each[: length - 1] for each in known}) == len(known):
        length -= 1
    return {each: each[:length] for each in known}


def new_id(incarnation: str, random: RandomBytes) -> str:
    """Return a new discovery ID: a UUID of version 8 (RFC 9562 section 5.8) with the owner tag and
    106 random bits.
    """
    value = int.from_bytes(bytes.fromhex(owner_tag(incarnation)) + random(ID_BYTES), "big")
    value = value & ~(0xF << 76) | 8 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def is_uuid(text: str) -> bool:
    """Report whether the text is a UUID of any version, which a daemon or another discovery service
    creates and a user rarely chooses.
    """
    return _parse_uuid(text) is not None


def is_created_id(discovery_id: str) -> bool:
    """Report whether the ID has the form of those that daemons create with `new_id`."""
    parsed = _parse_uuid(discovery_id)
    return parsed is not None and str(parsed) == discovery_id and parsed.version == 8


def _parse_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
