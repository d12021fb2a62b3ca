"""The freeze of a daemon for a migration, as every backend with a write-ahead log stores it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rqdisco.core.codec import Metadata

_KEY = "!frozen"


def freeze_metadata(owner: str, reason: str | None) -> Metadata:
    """Return the metadata of a freeze with this reason, or of a thaw."""
    return Metadata(id=_KEY, owner=owner, content=reason or "")


def stored_reason(metadata: Iterable[Metadata], owner: str) -> str | None:
    """Return the reason for which a daemon was frozen, None if it is not."""
    return next((each.content for each in metadata if each.id == _KEY and each.owner == owner and each.content), None)
