"""A background task that deletes unused IDs: those that never had a node.

It raises the expiry watermark (`core.expiry`) of this daemon's own IDs as these grow old, and
deletes all IDs that the watermark of their owner covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.expiry import ExpiryWatermarks, expiry_watermark
from rqdisco.core.records import Moment
from rqdisco.coroutines import LoopService
from rqdisco.storage.memory import Store, metadata_change
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.events import Event, Events

INTERVAL_SECONDS = 60.0
# A millisecond of work in each turn of the reactor: a million IDs take some forty seconds.
_IDS_PER_TURN = 500
_PAUSE_SECONDS = 0.02


class OwnIDs(msgspec.Struct, frozen=True, kw_only=True):
    """The rules for expiring the IDs of `owner`, this daemon.

    With `version_ages` they are deleted once they are old by `now`, if `may_expire` allows
    decisions about them. An ID for which `has_pending_grant` holds is kept.
    """

    owner: str
    now: Callable[[], Moment]
    version_ages: VersionAges | None
    may_expire: Callable[[], bool]
    has_pending_grant: Callable[[str], bool]


class ExpirySweeper(LoopService):
    """Every `interval` seconds, goes through all IDs if a watermark has risen."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        journal: Journal,
        watermarks: ExpiryWatermarks,
        events: Events,
        own: OwnIDs,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._clock = clock
        self._store = store
        self._journal = journal
        self._watermarks = watermarks
        self._events = events
        self._own = own
        self._interval = interval
        # The watermarks of the last complete sweep; recovery applied the first ones.
        self._swept_watermarks = watermarks.all
        # The highest watermark that would not have deleted anything.
        self._useless_watermark = 0

    async def run(self) -> None:
        while self.running:
            try:
                await self._expire_and_sweep()
                await deferLater(self._clock, self._interval)
            except CancelledError:
                return

    async def _expire_and_sweep(self) -> None:
        try:
            if self._own.version_ages is not None:
                # The journal logs what the disk refuses; the next round tries again.
                with suppress(StoreUnavailable):
                    await self._expire(self._own.version_ages)
            await self._sweep()
        except CancelledError:
            raise
        except Exception:
            self._log.failure("expiry of unused IDs failed")

    async def _expire(self, version_ages: VersionAges) -> None:
        """Raise the watermark of this daemon's own IDs. Raises StoreUnavailable."""
        advanced = version_ages.advance(self._own.now(), self._store.settled_version)
        if advanced is not None:
            await self._journal.append(metadata_change(advanced))
            version_ages.learn(advanced)
        watermark = expiry_watermark(self._own.owner, version_ages.newest_aged(self._own.now()))
        if (
            watermark.number <= max(self._watermarks.of(self._own.owner), self._useless_watermark)
            or not self._own.may_expire()
        ):
            return
        if not await self._would_delete(watermark):
            self._useless_watermark = watermark.number
        elif self._own.may_expire():
            await self._journal.append(metadata_change(watermark))
            self._watermarks.learn(watermark)

    async def _would_delete(self, watermark: Metadata) -> bool:
        """Report whether a watermark covers any ID."""
        watermarks = ExpiryWatermarks([watermark])
        for keys in self._batches():
            if any(self._is_covered(key, watermarks) for key in keys):
                return True
            await deferLater(self._clock, _PAUSE_SECONDS)
        return False

    async def _sweep(self) -> None:
        """Delete the IDs that the watermarks cover, if one has risen since the last sweep."""
        watermarks = self._watermarks.all
        if watermarks == self._swept_watermarks:
            return
        own = others = 0
        # Pending changes are not among the keys below.
        is_complete = not any(self._watermarks.covers_line(each.key, each.rest) for each in self._store.pending)
        for keys in self._batches():
            covered = [key for key in keys if self._is_covered(key, self._watermarks)]
            deleted = [key for key in covered if not self._own.has_pending_grant(key.decode())]
            # A pending grant may be revoked, and its ID deleted in the next sweep.
            is_complete = is_complete and len(deleted) == len(covered)
            if deleted:
                count = self._report_own(deleted)
                own, others = own + count, others + len(deleted) - count
                self._store.drop(deleted)
            await deferLater(self._clock, _PAUSE_SECONDS)
        if is_complete:
            self._swept_watermarks = watermarks
        if own or others:
            self._log.info("unused IDs deleted", own=own, others=others)

    def _is_covered(self, key: bytes, watermarks: ExpiryWatermarks) -> bool:
        rest = self._store.rest(key)
        return rest is not None and watermarks.covers_line(key, rest)

    def _report_own(self, deleted: list[bytes]) -> int:
        """Report an event for each of this daemon's own IDs; return their number."""
        records = [record for key in deleted if (record := self._store.settled(key.decode())) is not None]
        own = [record.id for record in records if record.owner == self._own.owner]
        for discovery_id in own:
            self._events.publish(Event(kind="expiry", outcome="expired", id=discovery_id, logged=False))
        return len(own)

    def _batches(self) -> Iterator[list[bytes]]:
        """Iterate over all IDs, the oldest first, in batches: handling, or freeing, a million at
        once would block the reactor.
        """
        keys = self._store.keys_after(0)
        keys.reverse()
        while keys:
            batch = keys[-_IDS_PER_TURN:]
            del keys[-_IDS_PER_TURN:]
            yield batch
