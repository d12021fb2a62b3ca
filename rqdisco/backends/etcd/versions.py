"""The versions of etcd that can be used."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_OLDEST = (3, 4, 0)
# They can lose or corrupt data. Sources: the changelogs of etcd 3.4 (3.4.22) and 3.5 (3.5.3, 3.5.6),
# and etcd's postmortem "v3.5 data inconsistency".
_INCONSISTENT = {(3, 4, 21), (3, 5, 0), (3, 5, 1), (3, 5, 2), (3, 5, 5)}


def objection(version: str) -> str | None:
    """Return why a version cannot be used, None if it can."""
    found = _NUMBERS.match(version)
    if found is None:
        return f"its version is {version!r}, which is not one of etcd's"
    numbers = tuple(map(int, found.groups()))
    if numbers < _OLDEST:
        return f"etcd {version} is too old, 3.4 or newer is needed"
    if numbers in _INCONSISTENT:
        return f"etcd {version} has a bug by which members come to hold different data, use a newer 3.4 or 3.5"
    return None
