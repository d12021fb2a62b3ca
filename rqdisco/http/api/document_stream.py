"""Responses that are large documents, exports and backups: written as fast as the client reads,
a part at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.core.directory import Directory
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.export_encoder import ExportEncoder
from rqdisco.http.requests.costs import export_cost
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response

_log = Logger()


async def export_parts(directory: Directory) -> AsyncIterator[bytes]:
    """Iterate over the parts of an export, of a few records each. Raises StoreUnavailable."""
    encoder = ExportEncoder(await directory.count())
    yield encoder.header()
    async for page in directory.records():
        yield b"".join(encoder.record(each, is_ownerless=not directory.has_owner(each)) for each in page)
    yield encoder.footer()


@implementer(IPushProducer)
class DocumentStream:
    """Writes the `parts` of a document as fast as the client reads them. `done` fires at its end, or
    when the client is gone.
    """

    def __init__(self, request: Request, parts: AsyncIterator[bytes], clock: IReactorTime) -> None:
        self._request = request
        self._parts = parts
        self._clock = clock
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
        """Return the next part, None at the end."""
        return await anext(self._parts, None)

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
        self._request.finish()

    def _fail(self, failure: Failure) -> None:
        """Leave the document without its end, which shows the client that it is incomplete."""
        if failure.check(StoreUnavailable) and isinstance(failure.value, StoreUnavailable):
            _log.warn("export or backup ended early: {reason}", reason=failure.value.reason)
        else:
            _log.failure("export or backup failed", failure)
        self._end()
        self._request.connection.abort()

    def _end(self) -> None:
        self._is_done = True
        self.pauseProducing()
        if not self.done.called:
            self.done.callback(None)
