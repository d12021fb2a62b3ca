"""Group commit: all changes that arrive while a batch is written go into the next one, with one
sync.

A thread writes the batch; everything else here runs on the reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.errors import StoreUnavailable
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.segments import JournalFailed, SegmentWriter

InThread = Callable[[Callable[[], int]], "Deferred[int]"]
Soon = Callable[[Callable[[], None]], object]

SEGMENT_BYTES = 16 << 20


class _Batch(msgspec.Struct):
    """Changes that are written together, and the Deferreds that wait for them."""

    changes: list[Change] = []
    waiting: list[Deferred[None]] = []


class Journal:
    """Make the store's changes durable, in the order they were put.

    `in_thread` runs a blocking call and fires with its result. `soon` runs a call in the next turn
    of the reactor, so that requests that arrive together share a batch. `failed` is called once,
    with the reason, when nothing can be acknowledged any more; the process must then end.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        segments: SegmentWriter,
        in_thread: InThread,
        soon: Soon,
        failed: Callable[[str], None],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._store = store
        self._segments = segments
        self._in_thread = in_thread
        self._soon = soon
        self._failed = failed
        self._segment_bytes = segment_bytes
        self._next = _Batch()
        self._writing: _Batch | None = None
        self._started = False
        self._broken: str | None = None
        self._between: list[Deferred[None]] = []
        self.refused: str | None = None
        # Whether callers are being told the result of a batch, one after the other, and calls that
        # follow once all know it.
        self.is_delivering = False
        self.on_delivered: list[Callable[[], None]] = []
        self.bytes_written = self.changes_written = self.batches_written = 0

    def append(self, *changes: Change) -> Deferred[None]:
        """Fire when the disk has `changes`, all or none. Each caller gets its own Deferred, and may
        cancel it.

        Fails with StoreUnavailable if the disk refuses them; the store is then as the disk is.
        """
        if self._broken is not None:
            self._store.discard()
            raise StoreUnavailable(self._broken)
        self._next.changes.extend(changes)
        return self._wait()

    def barrier(self) -> Deferred[None]:
        """Fire when the disk has every change put so far. Fails as `append` does."""
        if self._broken is not None:
            raise StoreUnavailable(self._broken)
        return self._wait()

    def seal(self) -> Deferred[int]:
        """End the current segment, between two batches; fire with the number of the newest sealed
        one.
        """
        return self._between_batches().addCallback(lambda _: self._segments.seal())

    async def close(self) -> None:
        """Write all changes, including those put meanwhile, and close the files."""
        while self._broken is None:
            with suppress(StoreUnavailable):
                await self._wait()
            if not self._next.changes:
                break
        await self.seal()

    def _wait(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._next.waiting.append(waiter)
        if not self._started:
            self._started = True
            self._soon(self._write)
        return waiter

    def _between_batches(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if self._writing is not None:
            self._between.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def _write_soon(self) -> None:
        self._soon(self._write)

    def _write(self) -> None:
        batch, self._next = self._next, _Batch()
        self._writing = batch
        if batch.changes:
            # Only the newest version of a record needs to reach the disk.
            lines = list({change.key: change.line for change in batch.changes}.values())
            self._in_thread(partial(self._commit, lines)).addCallbacks(self._written, self._not_written)
        else:
            self._written(0)

    def _commit(self, lines: list[bytes]) -> int:
        """Write a batch; runs in the thread. Return its bytes."""
        if self._segments.size > self._segment_bytes:
            self._segments.seal()
        self._segments.commit(lines)
        return sum(map(len, lines))

    def _written(self, size: int) -> None:
        assert self._writing is not None
        batch, self._writing = self._writing, None
        self.is_delivering = True
        self._store.settle(batch.changes)
        self.bytes_written += size
        if batch.changes:
            self.refused = None
            self.batches_written += 1
            self.changes_written += len(batch.changes)
        for waiter in batch.waiting:
            if not waiter.called:
                waiter.callback(None)
        self._continue()

    def _not_written(self, failure: Failure) -> None:
        """Undo the batch and all changes based on it."""
        assert self._writing is not None
        waiting = self._writing.waiting + self._next.waiting
        self._writing, self._next = None, _Batch()
        self.is_delivering = True
        self._store.discard()
        reason = self._explain(failure)
        for waiter in waiting:
            if not waiter.called:
                waiter.errback(StoreUnavailable(reason))
        self._continue()

    def _explain(self, failure: Failure) -> str:
        error = failure.value
        if isinstance(error, StoreUnavailable):
            if self.refused is None:
                self._log.warn("disk refuses writes: {reason}", reason=error.reason)
            self.refused = error.reason
            return error.reason
        self._broken = self.refused = "writing to the disk failed"
        if isinstance(error, JournalFailed):
            self._failed(str(error))
        else:
            self._log.failure("journal: writer failed", failure)
            self._failed(f"journal: {error}")
        return self._broken

    def _continue(self) -> None:
        """Run what waited for the end of the batch, and schedule the next one."""
        self.is_delivering = False
        for call in self.on_delivered:
            call()
        between, self._between = self._between, []
        for waiter in between:
            waiter.callback(None)
        self._started = bool(self._next.waiting)
        if self._started:
            # A turn later than possible: clients that have just been answered ask again, and share
            # the batch.
            self._soon(self._write_soon)
