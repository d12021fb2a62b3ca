"""A daemon that an operator froze changes nothing, durably: its IDs are moved to another one.

The reason is metadata in the write-ahead log, so that it survives a crash.
"""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.single.grants import Grants
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import AlreadyFrozen, Frozen, Undecided
from rqdisco.storage.memory import metadata_change
from rqdisco.storage.wal.writer import Journal

_KEY = "!frozen"


class Freeze:
    """The freeze of the daemon `owner`, with its reason. See `core.directory.Freezable`."""

    def __init__(self, journal: Journal, grants: Grants, owner: str, metadata: Sequence[Metadata] = ()) -> None:
        self._journal = journal
        self._grants = grants
        self._owner = owner
        stored = [each.content for each in metadata if each.id == _KEY and each.owner == owner]
        self.reason: str | None = next(filter(None, stored), None)

    def check(self, during: str | None = None) -> None:
        """Raise Frozen unless the daemon may change records now. An import `during` a freeze may
        only then change them; otherwise it raises Undecided.
        """
        if self.reason == during:
            return
        if self.reason is not None:
            raise Frozen(self.reason)
        raise Undecided("this daemon is not frozen for the import")

    async def freeze(self, reason: str) -> None:
        """See `Freezable.freeze`."""
        if self.reason not in (None, reason):
            raise AlreadyFrozen(str(self.reason))
        before, self.reason = self.reason, reason
        try:
            # From here on nothing is decided, so what was decided before is written before this.
            await self._write(reason)
        except Exception:
            self.reason = before
            raise
        # A thaw that was written before this may have ended meanwhile.
        self.reason = reason
        for discovery_id in list(self._grants.pending):
            await self._grants.finished(discovery_id)
        await self._journal.barrier()

    async def thaw(self) -> None:
        """See `Freezable.thaw`."""
        await self._write("")
        self.reason = None

    async def _write(self, reason: str) -> None:
        await self._journal.append(metadata_change(Metadata(id=_KEY, owner=self._owner, content=reason)))
