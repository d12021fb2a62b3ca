"""Convert discovery IDs to DNS labels and back.

Most IDs can be looked up as they are. DNS does not tell capitals from small letters, bounds a label
to 63 octets, and Go's resolver refuses labels with '-' at either end. An ID with any of these also
has an *escaped* form.
"""

from __future__ import annotations

import base64
import re

from rqdisco.core.host_ports import is_host_name

MAX_LABEL = 63
_ESCAPED = "x--"
_PLAIN_LABEL = re.compile(r"(?!x--)[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
# The name of a node's address, below the ID.
NODE_LABEL = re.compile(r"n-([0-9a-f]{8}|[0-9a-f]{32})\Z")

# 255 octets less the longest prefix: `n-` with an IPv6 address and the escaped form of the longest
# ID.
_LONGEST_ZONE = 110


def is_zone_name(text: str) -> bool:
    """Report whether `text` can name a zone and leaves room for the names below it."""
    return len(text) <= _LONGEST_ZONE and is_host_name(text)


def to_dns_labels(discovery_id: str) -> str:
    """Return the labels to put before the zone: the ID itself if every resolver accepts it, else
    its escaped form. No two IDs have the same labels.
    """
    labels = discovery_id.split(".")
    if all(map(_PLAIN_LABEL.match, labels)) and not NODE_LABEL.match(labels[0]):
        return discovery_id
    return _escape(discovery_id)


def from_escaped_labels(labels: str) -> str | None:
    """Return the ID of an escaped form, in which case does not count; None if the labels are not an
    escaped form.
    """
    lower = labels.lower()
    if not lower.startswith(_ESCAPED):
        return None
    text = lower.removeprefix(_ESCAPED).replace(".", "").upper()
    try:
        discovery_id = base64.b32decode(text + "=" * (-len(text) % 8)).decode()
    except ValueError:
        return None
    # Each ID has one escaped form: surplus bits, or other label boundaries, would make more.
    return discovery_id if discovery_id and _escape(discovery_id) == lower else None


def _escape(discovery_id: str) -> str:
    text = _ESCAPED + base64.b32encode(discovery_id.encode()).decode().rstrip("=").lower()
    return ".".join(text[start : start + MAX_LABEL] for start in range(0, len(text), MAX_LABEL))
