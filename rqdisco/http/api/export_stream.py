"""The response to an export: written as fast as the client reads, a few records at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.core.directory import Directory
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.exports import ExportEncoder
from rqdisco.core.records import Record
from rqdisco.http.requests.costs import export_cost
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response

_log = Logger()


@implementer(IPushProducer)
class ExportStream:
    """Writes an export as fast as the client reads it, a few records at a time. `done` fires at its
    end, or when the client is gone.
    """

    def __init__(self, request: Request, directory: Directory, clock: IReactorTime) -> None:
        self._request = request
        self._directory = directory
        self._clock = clock
        self._pages: AsyncIterator[Sequence[Record]] | None = None
        self._encoder = ExportEncoder(0)
        self._next: IDelayedCall | None = None
        self._is_busy = self._is_paused = self._is_done = False
        self.done: Deferred[None] = Deferred()

    def begin(self) -> None:
        """Start to write."""
        self._request.start(Response(200, b""))
        self._request.on_abandoned(self._end)
        self._request.register_producer(self)
        if not self._is_paused:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        self._is_paused = False
        if self._next is None and not self._is_busy and not self._is_done:
            self._next = self._clock.callLater(0, self._write_next)

    def pauseProducing(self) -> None:
        self._is_paused = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def stopProducing(self) -> None:
        self.pauseProducing()

    def _write_next(self) -> None:
        self._next, self._is_busy = None, True
        Deferred.fromCoroutine(self._next_part()).addCallbacks(self._write, self._fail)

    async def _next_part(self) -> bytes | None:
        """Return the next part of the document; None when only its end is left."""
        if self._pages is None:
            self._encoder = ExportEncoder(await self._directory.count())
            self._pages = self._directory.records()
            return self._encoder.header()
        page = await anext(self._pages, None)
        return None if page is None else b"".join(map(self._encode, page))

    def _encode(self, record: Record) -> bytes:
        return self._encoder.record(record, is_ownerless=not self._directory.has_owner(record))

    def _write(self, part: bytes | None) -> None:
        self._is_busy = False
        if self._is_done:
            return
        if part is not None:
            if part:
                self._request.write(part)
            self._request.charge(export_cost(len(part)))
            if not self._is_paused:
                self.resumeProducing()
            return
        self._end()
        self._request.write(self._encoder.footer())
        self._request.finish()

    def _fail(self, failure: Failure) -> None:
        """Leave the document without its end, which shows the client that it is incomplete."""
        if failure.check(StoreUnavailable) and isinstance(failure.value, StoreUnavailable):
            _log.warn("export ended early: {reason}", reason=failure.value.reason)
        else:
            _log.failure("export failed", failure)
        self._end()
        self._request.connection.abort()

    def _end(self) -> None:
        self._is_done = True
        self.pauseProducing()
        if not self.done.called:
            self.done.callback(None)
