"""`GET /ID/events`: an ID's record as server-sent events (WHATWG HTML, section 9.2), now and
whenever it changes.

An event is the whole record, so a client that missed some needs only the last. It is encoded once,
however many clients watch, and its ID is a hash of its content: a client that reconnects with the
current event's ID is not sent that event again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from twisted.internet.task import LoopingCall

from rqdisco.core.errors import NoSuchID, TooManyWatchers
from rqdisco.core.ids import RESERVED_IDS, is_id
from rqdisco.core.views import View
from rqdisco.http.api.watchers import Check, WatchedID, Watcher
from rqdisco.http.context import HTTPContext
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response
from rqdisco.http.requests.runner import ApiRunner, send, unsupported_method
from rqdisco.limits.traffic_budget import TrafficBudget

MAX_WATCHERS_PER_ID = 1000
HEARTBEAT_SECONDS = 15
# Of all events of a daemon.
BYTES_PER_SECOND = 16_000_000
_PATH = re.compile(rb"/+([^/%]+)/+events/*\Z")
_ROUTE = ("discovery", "/ID/events")


def watched_id(path: bytes) -> str | None:
    """Return the ID in the path of an event stream, None for other paths."""
    match = _PATH.match(path)
    discovery_id = None if match is None else match[1].decode("utf-8", "replace")
    return None if discovery_id in RESERVED_IDS else discovery_id


class EventStreams:
    """All event streams of a daemon. `encode` returns the data of an event."""

    def __init__(self, context: HTTPContext, runner: ApiRunner, encode: Callable[[View], bytes]) -> None:
        self.directory = context.directory
        self.clock = context.clock
        self.budget = TrafficBudget(BYTES_PER_SECOND, context.clock.seconds)
        self.encode = encode
        self._runner = runner
        self._max_watchers = context.limits.max_watchers
        self._probes_nodes = context.node_health is not None
        self._watched: dict[str, WatchedID] = {}
        self._numbers = itertools.count()
        # The watchers of one slot are sent a heartbeat in the same second.
        self._slots: list[set[Watcher]] = [set() for _ in range(HEARTBEAT_SECONDS)]
        self._ticks = 0
        self._heartbeat = LoopingCall(self._tick)
        self._heartbeat.clock = context.clock

    @property
    def watchers(self) -> list[Watcher]:
        """All watchers."""
        return [watcher for slot in self._slots for watcher in slot]

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def open(self, request: Request, authorizer: Authorizer | None = None) -> None:
        """Let a client watch the ID of its path for as long as `authorizer` admits it."""
        discovery_id = watched_id(request.path) or ""
        request.route = _ROUTE

        def check() -> None:
            if authorizer is not None:
                authorizer.admit(request, "read", discovery_id)

        result: list[View] = []

        def begin(response: Response, _: object) -> None:
            if result:
                self._begin(request, result[0], check)
            else:
                request.respond(response)

        send(request, self._runner.run(self._look_up(request, discovery_id, check, result)), begin)

    def refresh(self, discovery_id: str) -> None:
        """Send a new event if the encoded record changed, though the stored one may not have."""
        watched = self._watched.get(discovery_id)
        if watched is not None:
            watched.refresh()

    def watcher_left(self, watcher: Watcher, slot: int) -> None:
        """Remove a watcher."""
        self._slots[slot].discard(watcher)
        if not len(self) and self._heartbeat.running:
            self._heartbeat.stop()

    def last_watcher_left(self, discovery_id: str) -> None:
        """Remove an ID that has no watchers."""
        del self._watched[discovery_id]

    async def _look_up(self, request: Request, discovery_id: str, check: Check, result: list[View]) -> Response:
        """Append the record to `result`, or refuse the request."""
        check()
        if not is_id(discovery_id):
            raise NoSuchID(discovery_id)
        if request.method != b"GET":
            raise unsupported_method(request, "GET")
        record = await self.directory.look_up(discovery_id)
        watched = self._watched.get(record.id)
        is_full = watched is not None and len(watched.watchers) >= MAX_WATCHERS_PER_ID
        if is_full or len(self) >= self._max_watchers:
            raise TooManyWatchers
        result.append(record)
        return Response(200, b"")

    def _begin(self, request: Request, record: View, check: Check) -> None:
        watched = self._watched.get(record.id)
        if watched is None:
            watched = self._watched[record.id] = WatchedID(self, record)
        number = next(self._numbers)
        slot = number % HEARTBEAT_SECONDS
        watcher = Watcher(request, watched, check)
        watched.watchers[watcher] = slot
        self._slots[slot].add(watcher)
        if not self._heartbeat.running:
            self._heartbeat.start(1.0, now=False)
        # Clients whose streams end together do not reconnect together.
        watcher.begin(b"retry: %d\n\n" % (1000 + 37 * number % 2000))
        if request.connection.is_draining:
            watcher.end()

    def _tick(self) -> None:
        self._ticks += 1
        slot = self._ticks % HEARTBEAT_SECONDS
        for watcher in list(self._slots[slot]):
            watcher.send_heartbeat()
        if self._probes_nodes:
            # Probes report no changes, so each ID is refreshed once every HEARTBEAT_SECONDS.
            for watched in list(self._watched.values())[slot::HEARTBEAT_SECONDS]:
                watched.refresh()
