"""Group commit: every change that waits while a batch is being written goes into the next one, and
one sync serves all.

The batch is written by a thread; everything else here runs on the reactor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.errors import StoreUnavailable
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.segments import JournalFailed, SegmentWriter

InThread = Callable[[Callable[[], Any]], "Deferred[Any]"]
Soon = Callable[[Callable[[], None]], Any]

SEGMENT_BYTES = 16 << 20


class _Batch:
    """What goes to the disk in one go, and who waits for it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.waiting: list[Deferred[None]] = []


class Journal:
    """Makes the store's changes durable, in the order they were put.

    `in_thread` runs a blocking call and fires with its result, `soon` runs a call once the reactor
    is through with what it has at hand, so that what arrives together shares a batch. `failed` is
    told, once, why nothing can be acknowledged any more; the process must then end. `on_writing` is
    told of changes that are being handed to the disk, and whether that took the last ones; it
    returns what is to be written with them.
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
        self.on_writing: Callable[[Sequence[Change], bool], Sequence[Change]] | None = None
        self.bytes_written = self.changes_written = self.batches_written = 0

    def append(self, *changes: Change) -> Deferred[None]:
        """Fire when the disk has `changes`, all or none. Each caller has a Deferred of its own, and
        may cancel it.

        Fails with StoreUnavailable if the disk refuses it; the store is then as the disk is.
        """
        if self._broken is not None:
            self._store.discard()
            raise StoreUnavailable(self._broken)
        self._next.changes.extend(changes)
        return self._wait()

    def barrier(self) -> Deferred[None]:
        """Fire when the disk has every change that was put before. Fails as `append` does."""
        if self._broken is not None:
            raise StoreUnavailable(self._broken)
        return self._wait()

    def seal(self) -> Deferred[int]:
        """End the segment that is being written; fire with the newest that will not change any
        more.
        """
        return self._between_batches().addCallback(lambda _: self._segments.seal())

    async def close(self) -> None:
        """Flush, with all that is put on the way, and let go of the files."""
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

    def _write(self) -> None:
        batch, self._next = self._next, _Batch()
        self._writing = batch
        if batch.changes:
            if self.on_writing is not None:
                batch.changes.extend(self.on_writing(batch.changes, self.refused is None))
            # Of one record that changed several times only the newest state needs to reach the
            # disk.
            lines = list({change.key: change.line for change in batch.changes}.values())
            self._in_thread(lambda: self._commit(lines)).addCallbacks(self._written, self._not_written)
        else:
            self._written(0)

    def _commit(self, lines: list[bytes]) -> int:
        """Runs in the thread."""
        if self._segments.size > self._segment_bytes:
            self._segments.seal()
        self._segments.commit(lines)
        return sum(map(len, lines))

    def _written(self, size: int) -> None:
        assert self._writing is not None
        batch, self._writing = self._writing, None
        self._store.settle(batch.changes)
        self.bytes_written += size
        if batch.changes:
            self.refused = None
            self.batches_written += 1
            self.changes_written += len(batch.changes)
        for waiter in batch.waiting:
            if not waiter.called:
                waiter.callback(None)
        self._go_on()

    def _not_written(self, failure: Failure) -> None:
        """Undo the batch and all that was built upon it."""
        assert self._writing is not None
        waiting = self._writing.waiting + self._next.waiting
        self._writing, self._next = None, _Batch()
        self._store.discard()
        reason = self._explain(failure)
        for waiter in waiting:
            if not waiter.called:
                waiter.errback(StoreUnavailable(reason))
        self._go_on()

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

    def _go_on(self) -> None:
        between, self._between = self._between, []
        for waiter in between:
            waiter.callback(None)
        self._started = bool(self._next.waiting)
        if self._started:
            self._soon(self._write)
