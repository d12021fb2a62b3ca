"""`GET /ID/events`: an ID's record as server-sent events (WHATWG HTML, section 9.2), now and whenever it changes.

An event is the whole record, so who missed some needs only the last. It is encoded once, whatever the number of
watchers, and named after its content: who comes back with the name of what there is gets nothing again.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rqdisco.directory import Directory
from rqdisco.errors import NoSuchID, RequestRefused, TooManyWatchers
from rqdisco.ids import RESERVED, is_id
from rqdisco.observability.told import ToldLog
from rqdisco.probing.outlook import Outlook
from rqdisco.records import Record
from rqdisco.web.requests.answers import Answer, MethodNotAllowed
from rqdisco.web.requests.documents import encode_watched
from rqdisco.web.requests.gate import Gate
from rqdisco.web.requests.handling import Handling, method_of, send, write

MOST_PER_ID = 1000
MOST_WATCHERS = 2000
HEARTBEAT_SECONDS = 15
# What changes within this time after an event goes along in the next one.
PAUSE_SECONDS = 0.1
_AT_ONCE = 100
_PATH = re.compile(rb"/+([^/%]+)/+events/*\Z")
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # Proxies are to pass on what comes when it comes.
    (b"x-accel-buffering", b"no"),
)
_BEAT = b":\n\n"
_ROUTE = ("discovery", "/ID/events")

# Raises RequestRefused where a client may not watch any more.
Check = Callable[[], None]


def watched_id(path: bytes) -> str | None:
    """The ID whose events are at a path, None if it is no such path."""
    match = _PATH.match(path)
    discovery_id = None if match is None else match[1].decode("utf-8", "replace")
    return None if discovery_id in RESERVED else discovery_id


@implementer(IPushProducer)
class _Watcher:
    """One client; `has` is the name of the last event that it was sent, `check` tells whether it may still watch.

    Nothing is kept for a client that does not read: once it goes on it gets what there is then. One that has not gone
    on from one heartbeat to the next is cut off.
    """

    def __init__(self, request: Any, topic: _Topic, check: Check) -> None:
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


class _Topic:
    """An ID that is being watched: its newest event, and who is to get it."""

    _log = Logger()

    def __init__(self, streams: EventStreams, record: Record) -> None:
        self._streams = streams
        self._clock = streams.clock
        self._id = record.id
        self.watchers: dict[_Watcher, int] = {}
        self._due: deque[_Watcher] = deque()
        self._asking: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._sending: IDelayedCall | None = None
        self._last = self._clock.seconds() - PAUSE_SECONDS
        self.name = self.event = b""
        self._encode(record)
        self._stop = streams.directory.watch(self._id, self.look_again)

    def leave(self, watcher: _Watcher) -> None:
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
        except NoSuchID:
            # It expired. Who comes back is told so.
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

    def _encode(self, record: Record) -> None:
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


class EventStreams:
    """All watchers of a daemon, of whom there are `most` at most."""

    def __init__(
        self,
        directory: Directory,
        handling: Handling,
        told: ToldLog,
        clock: IReactorTime,
        most: int = MOST_WATCHERS,
        outlook: Outlook | None = None,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self._handling = handling
        self._told = told
        self._most = most
        self._outlook = outlook
        self._topics: dict[str, _Topic] = {}
        self._numbers = itertools.count()
        # Those of one slot hear a heartbeat in the same second.
        self._slots: list[set[_Watcher]] = [set() for _ in range(HEARTBEAT_SECONDS)]
        self._beats = 0
        self._heart = LoopingCall(self._beat)
        self._heart.clock = clock

    @property
    def watchers(self) -> list[_Watcher]:
        """All of them."""
        return [watcher for slot in self._slots for watcher in slot]

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def open(self, request: Any, gate: Gate | None = None) -> None:
        """Let a client watch the ID of its path, as long as `gate` admits it."""
        discovery_id = watched_id(request.path) or ""
        request.route = _ROUTE

        def check() -> None:
            if gate is not None:
                gate.admit(request, "read", discovery_id)

        found: list[Record] = []

        def begin(answer: Answer, _: Any) -> None:
            if found:
                self._begin(request, found[0], check)
            else:
                write(answer, request)

        send(request, self._handling.answer(self._look(request, discovery_id, check, found)), begin)

    def encode(self, record: Record) -> bytes:
        """The data of an event."""
        heard = self._told.first(record.id, [node.addr for node in record.nodes])
        orphaned = not self.directory.is_home_of(record)
        if self._outlook is None:
            return encode_watched(record, orphaned=orphaned, heard=heard)
        return encode_watched(record, orphaned=orphaned, heard=heard, seen=self._outlook.seen)

    def left(self, watcher: _Watcher, slot: int) -> None:
        """A watcher is gone."""
        self._slots[slot].discard(watcher)
        if not len(self) and self._heart.running:
            self._heart.stop()

    def forget(self, discovery_id: str) -> None:
        """The last watcher of an ID is gone."""
        del self._topics[discovery_id]

    async def _look(self, request: Any, discovery_id: str, check: Check, found: list[Record]) -> Answer:
        """Have what is to be watched in `found`, or refuse."""
        check()
        if not is_id(discovery_id):
            raise NoSuchID(discovery_id)
        if request.method != b"GET":
            raise MethodNotAllowed(f'unsupported method "{method_of(request)}"', "GET")
        record = await self.directory.look_up(discovery_id)
        topic = self._topics.get(record.id)
        if len(self) >= self._most or (topic is not None and len(topic.watchers) >= MOST_PER_ID):
            raise TooManyWatchers
        found.append(record)
        return Answer(200, b"")

    def _begin(self, request: Any, record: Record, check: Check) -> None:
        topic = self._topics.get(record.id)
        if topic is None:
            topic = self._topics[record.id] = _Topic(self, record)
        number = next(self._numbers)
        slot = number % HEARTBEAT_SECONDS
        watcher = _Watcher(request, topic, check)
        topic.watchers[watcher] = slot
        self._slots[slot].add(watcher)
        if not self._heart.running:
            self._heart.start(1.0, now=False)
        for name, value in _HEADERS:
            request.setHeader(name, value)
        # Those who are let go together do not come back together.
        watcher.begin(b"retry: %d\n\n" % (1000 + 37 * number % 2000))
        if getattr(request.site, "is_draining", False):
            watcher.end()

    def _beat(self) -> None:
        self._beats += 1
        for watcher in list(self._slots[self._beats % HEARTBEAT_SECONDS]):
            watcher.beat()
        if self._outlook is not None:
            # Probes tell nobody what they find, so it is looked at now and then: at each ID in its turn.
            for topic in list(self._topics.values())[self._beats % HEARTBEAT_SECONDS :: HEARTBEAT_SECONDS]:
                topic.look_again()
