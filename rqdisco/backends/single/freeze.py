"""A daemon that an operator froze changes nothing, durably: its IDs are moved to another one.

The reason is metadata in the write-ahead log, so that it survives a crash.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rqdisco.backends.single.grants import Grants
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import AlreadyFrozen, Frozen, Undecided
from rqdisco.core.freezes import freeze_metadata, stored_reason
from rqdisco.storage.memory import metadata_change
from rqdisco.storage.wal.writer import Journal


class Freeze:
    """The freeze of the daemon `owner`, with its `reason`, None if it is not frozen. See
    `core.directory.Freezable`.
    """

    def __init__(self, journal: Journal, grants: Grants, owner: str, metadata: Sequence[Metadata] = ()) -> None:
        self._journal = journal
        self._grants = grants
        self._owner = owner
        self.reason = self._on_disk = stored_reason(metadata, owner)
        # The reasons of the freezes that the disk is writing.
        self._freezing: list[str] = []

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
        # From here on nothing is decided, so what was decided before is written before this.
        await self._write(reason)
        for discovery_id in list(self._grants.pending):
            await self._grants.finished(discovery_id)
        await self._journal.barrier()

    async def thaw(self) -> None:
        """See `Freezable.thaw`."""
        await self._write(None)

    def _write(self, reason: str | None) -> Deferred[None]:
        """Fire when the disk has the reason. Cancelling that does not change what is written."""
        writing = self._journal.append(metadata_change(freeze_metadata(self._owner, reason)))
        if reason is not None:
            self._freezing.append(reason)
            self.reason = self._freezing[0]
        answer: Deferred[None] = Deferred()
        writing.addBoth(self._written, reason).chainDeferred(answer)
        return answer

    def _written(self, outcome: Failure | None, reason: str | None) -> Failure | None:
        if reason is not None:
            self._freezing.remove(reason)
        if outcome is None:
            self._on_disk = reason
        self.reason = self._freezing[0] if self._freezing else self._on_disk
        return outcome
