"""Forgets IDs that never had a node: when this home's own are old, and what other homes said of
theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.expiry import ExpiryWatermarks, expiry_watermark
from rqdisco.core.records import Moment
from rqdisco.storage.memory import Store, metadata_change
from rqdisco.storage.wal.writer import Journal
from rqdisco.telemetry.events import Event, Events

EVERY_SECONDS = 60.0
# A millisecond of work, and then somebody else's turn: a million IDs take some forty seconds.
_LOOKS_AT_ONCE = 500
_BREATH = 0.02


class ExpirySweeper(Service):
    """Goes through all IDs when there is something to forget. With a `version_ages`, those that
    this daemon is the `owner` of are forgotten once they are old and `may_expire` says that it may
    decide about them; `is_deciding` tells whether something is decided about an ID right now. It
    looks `every` so many seconds.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        journal: Journal,
        watermarks: ExpiryWatermarks,
        owner: str,
        events: Events,
        now: Callable[[], Moment],
        *,
        version_ages: VersionAges | None,
        may_expire: Callable[[], bool] = lambda: True,
        is_deciding: Callable[[str], bool] = lambda _: False,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._clock = clock
        self._store = store
        self._journal = journal
        self._watermarks = watermarks
        self._owner = owner
        self._events = events
        self._now = now
        self._version_ages = version_ages
        self._may_expire = may_expire
        self._is_deciding = is_deciding
        self._every = every
        # What was swept by already; what was there at the start is not in the store any more.
        self._swept = watermarks.all
        # Up to where there was nothing to forget.
        self._passed_over = 0
        self._going: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._going = Deferred.fromCoroutine(self._go_on())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        going, self._going = self._going, None
        if going is not None:
            going.cancel()
        return going

    async def _go_on(self) -> None:
        while self.running:
            try:
                await self._round()
                await self._wait(self._every)
            except CancelledError:
                return

    async def _round(self) -> None:
        try:
            if self._version_ages is not None:
                # The journal says what a disk refuses, and it is no matter of minutes.
                with suppress(StoreUnavailable):
                    await self._expire(self._version_ages)
            await self._sweep()
        except CancelledError:
            raise
        except Exception:
            self._log.failure("unused IDs could not be looked for")

    async def _expire(self, version_ages: VersionAges) -> None:
        """Mark what is old of this home's own. Raises StoreUnavailable."""
        turned = version_ages.turn(self._now(), self._store.settled_version)
        if turned is not None:
            await self._keep(turned)
            version_ages.learn(turned)
        old = expiry_watermark(self._owner, version_ages.old(self._now()))
        if old.number <= max(self._watermarks.of(self._owner), self._passed_over) or not self._may_expire():
            return
        if not await self._would_cover(old):
            self._passed_over = old.number
        elif self._may_expire():
            await self._keep(old)
            self._watermarks.learn(old)

    async def _would_cover(self, note: Metadata) -> bool:
        """Whether a mark would be about any ID."""
        watermarks = ExpiryWatermarks([note])
        for keys in self._parts():
            found = ((key, self._store.rest(key)) for key in keys)
            if any(rest is not None and watermarks.cover_line(key, rest) for key, rest in found):
                return True
            await self._wait(_BREATH)
        return False

    async def _sweep(self) -> None:
        """Forget what the marks are about, if there are new ones."""
        watermarks = self._watermarks.all
        if watermarks == self._swept:
            return
        own = coordinator = 0
        # What is on its way to the disk is not among those that are looked at.
        is_whole = not any(self._watermarks.cover_line(each.key, each.rest) for each in self._store.pending)
        for keys in self._parts():
            gone = [key for key in keys if self._is_covered(key)]
            free = [key for key in gone if not self._is_deciding(key.decode())]
            # A grant that is on its way may come to nothing.
            is_whole = is_whole and len(free) == len(gone)
            if free:
                mine = self._tell(free)
                own, coordinator = own + mine, coordinator + len(free) - mine
                self._store.drop(free)
            await self._wait(_BREATH)
        if is_whole:
            self._swept = watermarks
        if own or coordinator:
            self._log.info("forgot IDs that never had a node", own=own, coordinator=coordinator)

    def _is_covered(self, key: bytes) -> bool:
        rest = self._store.rest(key)
        return rest is not None and self._watermarks.cover_line(key, rest)

    def _tell(self, gone: list[bytes]) -> int:
        """Note each of this home's own that is forgotten, and say how many those are."""
        records = [record for key in gone if (record := self._store.settled(key.decode())) is not None]
        own = [record.id for record in records if record.owner == self._owner]
        for discovery_id in own:
            self._events.publish(Event(kind="expiry", outcome="expired", id=discovery_id, logged=False))
        return len(own)

    def _parts(self) -> Iterator[list[bytes]]:
        """All IDs there are now, the oldest first, some at a time: to let go of a million at once
        takes a while.
        """
        keys = self._store.keys_after(0)
        keys.reverse()
        while keys:
            part = keys[-_LOOKS_AT_ONCE:]
            del keys[-_LOOKS_AT_ONCE:]
            yield part

    async def _keep(self, note: Metadata) -> None:
        await self._journal.append(metadata_change(note))

    async def _wait(self, seconds: float) -> None:
        clock: Any = self._clock
        await deferLater(clock, seconds)
