"""Who watches an ID, and what they are sent."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, RequestRefused, StoreUnavailable
from rqdisco.core.views import View

# What changes within this time after an event goes along in the next one.
PAUSE_SECONDS = 0.1
_AT_ONCE = 100
_BEAT = b":\n\n"

# Raises RequestRefused where a client may not watch any more.
Check = Callable[[], None]


class Streams(Protocol):
    """What an ID that is being watched asks of those who have all of them."""

    directory: Directory
    clock: IReactorTime

    @property
    def encode(self) -> Callable[[View], bytes]:
        """Returns the data of an event."""

    def left(self, watcher: Watcher, slot: int) -> None:
        """A watcher is gone."""

    def forget(self, discovery_id: str) -> None:
        """The last watcher of an ID is gone."""


@implementer(IPushProducer)
class Watcher:
    """One client; `has` is the name of the last event that it was sent, `check` tells whether it
    may still watch.

    Nothing is kept for a client that does not read: once it goes on it gets what there is then. One
    that has not gone on from one heartbeat to the next is cut off.
    """

    def __init__(self, request: Any, topic: Topic, check: Check) -> None:
        self._request = request
        self._check = check
        self._topic = topic
        self._is_paused = self._was_paused = False
        self.has = request.getHeader(b"last-event-id") or b""
        self.is_gone = False

    def begin(self, hello: bytes) -> None:
        """Send from now on."""
        request = self._request
        request.stream = self
        request.notifyFinish().addErrback(lambda _: self._leave())
        request.registerProducer(self, True)
        request.write(hello)
        self.show()

    def show(self) -> None:
        """Send what there is, unless the client has it."""
        if not (self.is_gone or self._is_paused or self.has == self._topic.name):
            self.has = self._topic.name
            self._request.write(self._topic.event)

    def beat(self) -> None:
        """Show the client that the connection is alive."""
        try:
            self._check()
        except RequestRefused:
            self.end()
            return
        if self._is_paused and self._was_paused:
            self._request.transport.abortConnection()
        else:
            self._was_paused = self._is_paused
            if not self._is_paused:
                self._request.write(_BEAT)

    def end(self) -> None:
        """Let the client go; it comes back if it wants more."""
        if not self.is_gone:
            self._leave()
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = self._was_paused = False
        self.show()

    def stopProducing(self) -> None:
        self._is_paused = True

    def _leave(self) -> None:
        if not self.is_gone:
            self.is_gone = True
            self._topic.leave(self)


class Topic:
    """An ID that is being watched: its newest event, and who is to get it."""

    _log = Logger()

    def __init__(self, streams: Streams, record: View) -> None:
        self._streams = streams
        self._clock = streams.clock
        self._id = record.id
        self.watchers: dict[Watcher, int] = {}
        self._due: deque[Watcher] = deque()
        self._asking: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._sending: IDelayedCall | None = None
        self._last = self._clock.seconds() - PAUSE_SECONDS
        self.name = self.event = b""
        self._encode(record)
        self._stop = streams.directory.watch(self._id, self.look_again)

    def leave(self, watcher: Watcher) -> None:
        """A watcher is gone; with the last one all ends."""
        self._streams.left(watcher, self.watchers.pop(watcher))
        if not self.watchers:
            self._stop()
            for timer in (self._timer, self._sending):
                if timer is not None:
                    timer.cancel()
            self._timer = self._sending = None
            if self._asking is not None:
                self._asking.cancel()
            self._streams.forget(self._id)

    def look_again(self) -> None:
        """There may be something new."""
        if self._timer is None and self._asking is None:
            wait = self._last + PAUSE_SECONDS - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, wait), self._ask)

    def _ask(self) -> None:
        self._timer, self._last = None, self._clock.seconds()
        self._asking = asking = Deferred.fromCoroutine(self._look())
        asking.addErrback(self._failed)
        if asking.called:
            self._asking = None

    async def _look(self) -> None:
        try:
            record = await self._streams.directory.look_up(self._id)
        except (NoSuchID, StoreUnavailable):
            # It expired, and nothing is held of it. Who comes back is told so, or that its home
            # does not answer.
            for watcher in list(self.watchers):
                watcher.end()
            return
        self._asking = None
        self._encode(record)
        if self.watchers:
            self._due = deque(self.watchers)
            if self._sending is None:
                self._send()

    def _failed(self, failure: Any) -> None:
        self._asking = None
        if self.watchers:
            # Its own daemon shows what it has without asking anybody, so this is a fault of ours.
            self._log.failure("cannot show an ID to its watchers", failure, discovery_id=self._id)

    def _encode(self, record: View) -> None:
        data = self._streams.encode(record)
        name = hashlib.blake2b(data, digest_size=9).hexdigest().encode()
        if name != self.name:
            self.name, self.event = name, b"id: %b\ndata: %b\n\n" % (name, data)

    def _send(self) -> None:
        """Send to some watchers, and to the rest once others had their turn."""
        self._sending = None
        for _ in range(min(_AT_ONCE, len(self._due))):
            self._due.popleft().show()
        if self._due and self.watchers:
            self._sending = self._clock.callLater(0, self._send)
