"""`GET /ID/events`: an ID's record as server-sent events (WHATWG HTML, section 9.2), now and
whenever it changes.

An event is the whole record, so who missed some needs only the last. It is encoded once, whatever
the number of watchers, and named after its content: who comes back with the name of what there is
gets nothing again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, TooManyWatchers
from rqdisco.core.ids import RESERVED, is_id
from rqdisco.core.leaders import Leaders
from rqdisco.core.views import View
from rqdisco.http.api.watchers import Check, Topic, Watcher
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_watched, not_seen
from rqdisco.http.requests.responses import MethodNotAllowed, Response
from rqdisco.http.requests.runner import ApiRunner, method_of, send, write
from rqdisco.probes.node_health import NodeHealth
from rqdisco.telemetry.answer_history import AnswerHistory

MOST_PER_ID = 1000
MOST_WATCHERS = 2000
HEARTBEAT_SECONDS = 15
_PATH = re.compile(rb"/+([^/%]+)/+events/*\Z")
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # Proxies are to pass on what comes when it comes.
    (b"x-accel-buffering", b"no"),
)
_ROUTE = ("discovery", "/ID/events")


def watched_id(path: bytes) -> str | None:
    """The ID whose events are at a path, None if it is no such path."""
    match = _PATH.match(path)
    discovery_id = None if match is None else match[1].decode("utf-8", "replace")
    return None if discovery_id in RESERVED else discovery_id


class EventStreams:
    """All watchers of a daemon, of whom there are `most` at most."""

    def __init__(
        self,
        directory: Directory,
        runner: ApiRunner,
        history: AnswerHistory,
        clock: IReactorTime,
        most: int = MOST_WATCHERS,
        node_health: NodeHealth | None = None,
        two_leaders: Callable[[str], Leaders | None] = lambda _: None,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self._runner = runner
        self._history = history
        self._most = most
        self._node_health = node_health
        self._two_leaders = two_leaders
        self._topics: dict[str, Topic] = {}
        self._numbers = itertools.count()
        # Those of one slot hear a heartbeat in the same second.
        self._slots: list[set[Watcher]] = [set() for _ in range(HEARTBEAT_SECONDS)]
        self._beats = 0
        self._heart = LoopingCall(self._beat)
        self._heart.clock = clock

    @property
    def watchers(self) -> list[Watcher]:
        """All of them."""
        return [watcher for slot in self._slots for watcher in slot]

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def open(self, request: Any, authorizer: Authorizer | None = None) -> None:
        """Let a client watch the ID of its path, as long as `authorizer` admits it."""
        discovery_id = watched_id(request.path) or ""
        request.route = _ROUTE

        def check() -> None:
            if authorizer is not None:
                authorizer.admit(request, "read", discovery_id)

        found: list[View] = []

        def begin(answer: Response, _: Any) -> None:
            if found:
                self._begin(request, found[0], check)
            else:
                write(answer, request)

        send(request, self._runner.answer(self._look(request, discovery_id, check, found)), begin)

    def encode(self, record: View) -> bytes:
        """The data of an event."""
        heard = self._history.first(record.id, [node.addr for node in record.nodes])
        orphaned = not self.directory.is_owner_of(record)
        seen = not_seen if self._node_health is None else self._node_health.status
        two = self._two_leaders(record.id)
        return encode_watched(record, orphaned=orphaned, heard=heard, seen=seen, two_leaders=two)

    def look_again(self, discovery_id: str) -> None:
        """What is shown of an ID may be another now, though its record is not."""
        topic = self._topics.get(discovery_id)
        if topic is not None:
            topic.look_again()

    def left(self, watcher: Watcher, slot: int) -> None:
        """A watcher is gone."""
        self._slots[slot].discard(watcher)
        if not len(self) and self._heart.running:
            self._heart.stop()

    def forget(self, discovery_id: str) -> None:
        """The last watcher of an ID is gone."""
        del self._topics[discovery_id]

    async def _look(self, request: Any, discovery_id: str, check: Check, found: list[View]) -> Response:
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
        return Response(200, b"")

    def _begin(self, request: Any, record: View, check: Check) -> None:
        topic = self._topics.get(record.id)
        if topic is None:
            topic = self._topics[record.id] = Topic(self, record)
        number = next(self._numbers)
        slot = number % HEARTBEAT_SECONDS
        watcher = Watcher(request, topic, check)
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
        if self._node_health is not None:
            # Probes tell nobody what they find, so it is looked at now and then: at each ID in its
            # turn.
            for topic in list(self._topics.values())[self._beats % HEARTBEAT_SECONDS :: HEARTBEAT_SECONDS]:
                topic.look_again()
