"""`GET /ID/events`: an ID's record as server-sent events (WHATWG HTML, section 9.2), now and
whenever it changes.

An event is the whole record, so a client that missed some needs only the last. It is encoded once,
however many clients watch, and its ID is a hash of its content: a client that reconnects with the
current event's ID is not sent that event again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from twisted.internet.task import LoopingCall

from rqdisco.core.errors import NoSuchID, TooManyWatchers
from rqdisco.core.ids import is_id
from rqdisco.core.views import View
from rqdisco.http.api.watchers import Check, WatchedID, Watcher
from rqdisco.http.context import HTTPContext
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response, StreamedResponse
from rqdisco.http.requests.runner import ApiRunner
from rqdisco.limits.traffic_budget import TrafficBudget
from rqdisco.security.tokens import Token

MAX_WATCHERS_PER_ID = 1000
HEARTBEAT_SECONDS = 15
# Of all events of a daemon.
BYTES_PER_SECOND = 16_000_000


class EventStreams:
    """All event streams of a daemon. `encode` returns the data of an event."""

    def __init__(self, context: HTTPContext, encode: Callable[[View], bytes]) -> None:
        self.directory = context.directory
        self.clock = context.clock
        self.budget = TrafficBudget(BYTES_PER_SECOND, context.clock.seconds)
        self.encode = encode
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

    async def find(self, discovery_id: str) -> View:
        """Return the record of an ID that one more client may watch. Raises NoSuchID,
        TooManyWatchers.
        """
        record = await self.directory.look_up(discovery_id)
        watched = self._watched.get(record.id)
        is_full = watched is not None and len(watched.watchers) >= MAX_WATCHERS_PER_ID
        if is_full or len(self) >= self._max_watchers:
            raise TooManyWatchers
        return record

    def begin(self, request: Request, record: View, check: Check) -> None:
        """Let a client watch an ID for as long as `check` does not raise."""
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
        # Neither probes nor the time that passes report changes, so each ID is refreshed once every
        # HEARTBEAT_SECONDS.
        for watched in list(self._watched.values())[slot::HEARTBEAT_SECONDS]:
            if self._probes_nodes or watched.changes_with_time:
                watched.refresh()


class EventsAPI(Api):
    """The event streams of one listener."""

    def __init__(self, streams: EventStreams, runner: ApiRunner, authorizer: Authorizer | None = None) -> None:
        super().__init__(runner, authorizer)
        self._streams = streams

    def check(self, variable: str | None = None) -> None:
        if variable is not None and not is_id(variable):
            raise NoSuchID(variable)

    async def follow(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Let a client watch an ID for as long as it has the right."""
        record = await self._streams.find(discovery_id)

        def check() -> None:
            self.admit(request, "read", discovery_id)

        return StreamedResponse(begin=lambda: self._streams.begin(request, record, check))
