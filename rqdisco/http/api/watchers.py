"""The watchers of an ID and the events that they are sent."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, RequestRefused, StoreUnavailable
from rqdisco.core.judgement import changes_with_time
from rqdisco.core.views import View
from rqdisco.http.requests.costs import event_cost
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response
from rqdisco.limits.traffic_budget import TrafficBudget

# Changes within this time after an event are sent together in the next one; where events are large
# or watchers many, within a longer one.
PAUSE_SECONDS = 0.25
# An event stream outlives a store that is unavailable: it is asked again after this time.
_RETRY_SECONDS = 2.0
# An event is sent to this many watchers in one turn of the reactor, or to fewer if it is large.
_SENT_PER_TURN = 100
_BYTES_PER_TURN = 1 << 20
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    # Tells proxies not to buffer.
    (b"x-accel-buffering", b"no"),
)
_HEARTBEAT = b":\n\n"

# Raises RequestRefused if a client may no longer watch.
Check = Callable[[], None]


class Streams(Protocol):
    """The interface of the collection of watched IDs to each of them."""

    directory: Directory
    clock: IReactorTime
    budget: TrafficBudget

    @property
    def encode(self) -> Callable[[View], bytes]:
        """Returns the data of an event."""

    def watcher_left(self, watcher: Watcher, slot: int) -> None:
        """Remove a watcher."""

    def last_watcher_left(self, discovery_id: str) -> None:
        """Remove an ID that has no watchers."""


@implementer(IPushProducer)
class Watcher:
    """One client. `last_event_id` is the ID of the last event that it was sent; `check` raises if
    it may no longer watch.

    Nothing is buffered for a client that does not read: once it resumes it is sent the current
    event. A client that has not resumed between two heartbeats is cut off.
    """

    def __init__(self, request: Request, watched: WatchedID, check: Check) -> None:
        self._request = request
        self._check = check
        self._watched = watched
        self._is_paused = self._was_paused = False
        self.last_event_id = request.header(b"last-event-id") or b""
        self.is_gone = False

    def begin(self, preamble: bytes) -> None:
        """Start to send."""
        request = self._request
        request.stream = self
        request.start(Response(200, preamble, headers=_HEADERS, content_type=b"text/event-stream"))
        request.on_abandoned(self._leave)
        request.register_producer(self)
        self.send_event()

    def send_event(self) -> None:
        """Send the current event, unless the client has it."""
        if not (self.is_gone or self._is_paused or self.last_event_id == self._watched.event_id):
            self.last_event_id = self._watched.event_id
            self._request.write(self._watched.event)
            self._request.charge(event_cost(len(self._watched.event)))

    def send_heartbeat(self) -> None:
        """Show the client that the connection is alive; end it if the client may no longer watch or
        does not read.
        """
        try:
            self._check()
        except RequestRefused:
            self.end()
            return
        if self._is_paused and self._was_paused:
            self._request.connection.abort()
        else:
            self._was_paused = self._is_paused
            if not self._is_paused:
                self._request.write(_HEARTBEAT)

    def end(self) -> None:
        """Finish the response; the client reconnects if it wants more."""
        if not self.is_gone:
            self._leave()
            self._request.finish()

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = self._was_paused = False
        self.send_event()

    def stopProducing(self) -> None:
        self._is_paused = True

    def _leave(self) -> None:
        if not self.is_gone:
            self.is_gone = True
            self._watched.remove(self)


class WatchedID:
    """An ID that has watchers: its current event, and who has yet to be sent it."""

    _log = Logger()

    def __init__(self, streams: Streams, record: View) -> None:
        self._streams = streams
        self._clock = streams.clock
        self._id = record.id
        self.watchers: dict[Watcher, int] = {}
        self._unsent: deque[Watcher] = deque()
        self._lookup: Deferred[None] | None = None
        # Whether the record may have changed since the lookup began.
        self._is_outdated = False
        self._timer: IDelayedCall | None = None
        self._sending: IDelayedCall | None = None
        self._pause_ends = self._clock.seconds()
        self.event_id = self.event = b""
        # Whether the verdict may change although nothing else does.
        self.changes_with_time = False
        self._encode(record)
        self._stop_watching = streams.directory.watch(self._id, self.refresh)

    def remove(self, watcher: Watcher) -> None:
        """Remove a watcher; clean up after the last one."""
        self._streams.watcher_left(watcher, self.watchers.pop(watcher))
        if not self.watchers:
            self._stop_watching()
            for timer in (self._timer, self._sending):
                if timer is not None:
                    timer.cancel()
            self._timer = self._sending = None
            if self._lookup is not None:
                self._lookup.cancel()
            self._streams.last_watcher_left(self._id)

    def refresh(self) -> None:
        """Look up the record soon: it may have changed."""
        if self._lookup is not None:
            self._is_outdated = True
        elif self._timer is None:
            wait = self._pause_ends - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, wait), self._start_lookup)

    def _start_lookup(self) -> None:
        self._timer, self._is_outdated = None, False
        self._pause_ends = self._clock.seconds() + PAUSE_SECONDS
        self._lookup = lookup = Deferred.fromCoroutine(self._look_up())
        lookup.addErrback(self._log_failure).addCallback(self._lookup_ended)

    def _lookup_ended(self, _: None) -> None:
        self._lookup = None
        if self._is_outdated and self.watchers:
            self.refresh()

    async def _look_up(self) -> None:
        try:
            record = await self._streams.directory.look_up(self._id)
        except NoSuchID:
            # The ID expired. A client that reconnects gets 404.
            for watcher in list(self.watchers):
                watcher.end()
            return
        except StoreUnavailable:
            # etcd has no quorum, or this daemon has no copy and the owner does not answer.
            self._is_outdated, self._pause_ends = True, self._clock.seconds() + _RETRY_SECONDS
            return
        if self._encode(record) and self.watchers:
            size = len(self.event) * len(self.watchers)
            self._pause_ends = self._clock.seconds() + self._streams.budget.pause(self._id, size, PAUSE_SECONDS)
            self._unsent = deque(self.watchers)
            if self._sending is None:
                self._send()

    def _log_failure(self, failure: Failure) -> None:
        if self.watchers:
            # What may go wrong is handled above, so this is a bug.
            self._log.failure("lookup for watchers failed", failure, discovery_id=self._id)

    def _encode(self, record: View) -> bool:
        """Encode the event; report whether it is a new one."""
        data = self._streams.encode(record)
        self.changes_with_time = changes_with_time(record)
        event_id = hashlib.blake2b(data, digest_size=9).hexdigest().encode()
        if event_id == self.event_id:
            return False
        self.event_id, self.event = event_id, b"id: %b\ndata: %b\n\n" % (event_id, data)
        return True

    def _send(self) -> None:
        """Send to some watchers now, to the others in later turns of the reactor."""
        self._sending = None
        most = max(1, min(_SENT_PER_TURN, _BYTES_PER_TURN // len(self.event)))
        for _ in range(min(most, len(self._unsent))):
            self._unsent.popleft().send_event()
        if self._unsent and self.watchers:
            self._sending = self._clock.callLater(0, self._send)
