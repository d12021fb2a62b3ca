"""Resolution of registered host names, for answers and probes that need addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.core.host_ports import usable_ip
from rqdisco.limits.event_sampler import EventSampler
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.probes.resolution.cache import CachedAddresses, ResolutionCache
from rqdisco.probes.resolution.fair_queue import FairQueue
from rqdisco.telemetry.counters import LookupCounts

FRESH_SECONDS = 10.0
# A starting node may get its name a moment later.
FAILED_SECONDS = 5.0
# RFC 8767 section 5 recommends both: how soon to retry after a failed refresh, and to serve stale
# addresses for one to three days. One day, since an address that now belongs to another cluster's
# node leads a joining node there.
RECHECK_SECONDS = 30.0
STALE_SECONDS = 86_400.0
MAX_WAIT_SECONDS = 1.5
# A name without a result for this long does not resolve.
SETTLED_SECONDS = 10.0
WARN_SECONDS = 60.0
MAX_LOOKUPS = 32
MAX_LOOKUPS_PER_ID = 4
# Cached names, counted for each ID, and waiting lookups.
CAPACITY = 10_000
MAX_WAITING = 1000
MAX_WAITING_PER_ID = 100
UNRESOLVED_WARNING = "registered host name does not resolve and is omitted from DNS answers"
STALE_WARNING = "lookup of registered host name fails, stale addresses are used for up to a day"

Resolve = Callable[[str], "Deferred[Sequence[str]]"]


class ResolvedHost(msgspec.Struct, frozen=True, gc=False):
    """The addresses of a name. They are fresh for 10 seconds, and used for a day while lookups
    fail.
    """

    ips: Sequence[str]
    # When the last lookup succeeded, in seconds of the clock.
    at: float
    is_fresh: bool
    # False during the first seconds of a lookup, whose result may still arrive.
    is_settled: bool


class HostNames:
    """Resolves and caches host names.

    `resolve` fires with the addresses of a name, none if the name does not exist. If it fails or
    never fires, stale addresses are used for up to a day (RFC 8767). A name without addresses has
    an empty result, since a cluster is better served with one address less than with no answer, and
    `warning` is logged.

    Lookups, requests that wait for them, and cache entries are charged to the ID that needs them.
    IDs take turns, and the ID with the most entries is evicted first.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        resolve: Resolve,
        warning: str = UNRESOLVED_WARNING,
        counts: LookupCounts | None = None,
    ) -> None:
        self._clock = clock
        self._warning = warning
        self._resolve = resolve
        self._cache = ResolutionCache(CAPACITY)
        # By name, then by ID.
        self._lookups: dict[str, dict[str, _Lookup]] = {}
        self._queue: FairQueue[_Lookup] = FairQueue(
            self._start, max_running=MAX_LOOKUPS, max_running_per_id=MAX_LOOKUPS_PER_ID, capacity=CAPACITY
        )
        self._waiting: Counter[str] = Counter()
        self._sampler = EventSampler(clock.seconds)
        self._counts = LookupCounts() if counts is None else counts
        self._throttle = LogThrottle(clock.seconds)

    async def addresses(self, discovery_id: str, names: Sequence[str]) -> dict[str, ResolvedHost]:
        """Return the addresses of each of `names`, within 1.5 seconds."""
        now = self._clock.seconds()
        cached = {name: self._cache.claim(discovery_id, name) for name in names}
        lookups = {name: self._look_up(discovery_id, name) for name, each in cached.items() if each.due <= now}
        await self._wait(discovery_id, list(lookups.values()))
        return {name: self._result(discovery_id, name, each, lookups.get(name)) for name, each in cached.items()}

    def share(self, discovery_id: str, name: str) -> None:
        """Look up `name` for this ID too if another ID is looking it up, whose turn may come
        late.
        """
        if name in self._lookups:
            self._look_up(discovery_id, name)

    def _result(self, discovery_id: str, name: str, before: CachedAddresses, lookup: _Lookup | None) -> ResolvedHost:
        # The entry may have been evicted while the lookup was waited for.
        cached = self._cache.get(name) or before
        now = self._clock.seconds()
        is_settled = lookup is None or lookup.has_ended or lookup.started + SETTLED_SECONDS <= now
        if not _is_usable(cached, now):
            self._warn_unresolved(discovery_id, name)
            return ResolvedHost((), -inf, False, is_settled)
        is_fresh = cached.at + FRESH_SECONDS > now
        if not is_fresh:
            self._count_stale(name, now - cached.at)
        return ResolvedHost(cached.ips, cached.at, is_fresh, is_settled)

    async def _wait(self, discovery_id: str, lookups: Sequence[_Lookup]) -> None:
        """Wait for lookups, unless too many requests already wait."""
        is_full = self._waiting.total() >= MAX_WAITING or self._waiting[discovery_id] >= MAX_WAITING_PER_ID
        if is_full or not lookups:
            return
        self._waiting[discovery_id] += 1
        try:
            for each in lookups:
                await each.settled()
        finally:
            self._waiting[discovery_id] -= 1
            if not self._waiting[discovery_id]:
                del self._waiting[discovery_id]

    def _look_up(self, discovery_id: str, name: str) -> _Lookup:
        """Return the running lookup of `name` for this ID, or start one. It continues after the
        request that started it.
        """
        lookups = self._lookups.setdefault(name, {})
        if discovery_id in lookups:
            return lookups[discovery_id]
        lookup = lookups[discovery_id] = _Lookup(self._clock, discovery_id, name)
        dropped = self._queue.add(lookup)
        if dropped is not None:
            self._counts.outcomes["dropped"] += 1
            self._end(dropped)
        return lookup

    def _start(self, lookup: _Lookup) -> None:
        resolving = maybeDeferred(self._resolve, lookup.name)
        resolving.addCallback(lambda ips: self._succeed(lookup, ips))
        resolving.addErrback(lambda _: self._fail(lookup))
        resolving.addBoth(lambda _: self._queue.finished(lookup))

    def _succeed(self, lookup: _Lookup, ips: Sequence[str]) -> None:
        usable = tuple(ip for ip in map(usable_ip, ips) if ip is not None)
        self._counts.outcomes["found" if usable else "absent"] += 1
        cached, now = self._cache.claim(lookup.discovery_id, lookup.name), self._clock.seconds()
        cached.ips, cached.at = usable, now
        cached.due = now + (FRESH_SECONDS if usable else FAILED_SECONDS)
        for each in self._lookups.pop(lookup.name, {}).values():
            self._queue.withdraw(each)
            each.end()

    def _fail(self, lookup: _Lookup) -> None:
        self._counts.outcomes["failed"] += 1
        if self._lookups.get(lookup.name, {}).get(lookup.discovery_id) is not lookup:
            # Another lookup has succeeded meanwhile.
            return
        cached, now = self._cache.claim(lookup.discovery_id, lookup.name), self._clock.seconds()
        cached.due = now + (RECHECK_SECONDS if _is_usable(cached, now) else FAILED_SECONDS)
        self._end(lookup)

    def _end(self, lookup: _Lookup) -> None:
        """End a lookup that failed or was dropped."""
        lookups = self._lookups.get(lookup.name, {})
        lookups.pop(lookup.discovery_id, None)
        if not lookups:
            self._lookups.pop(lookup.name, None)
        lookup.end()

    def _count_stale(self, name: str, age: float) -> None:
        """Count the use of addresses that are `age` seconds old, and log it once a minute."""
        self._counts.kept += 1
        if self._throttle.is_due():
            self._log.warn(STALE_WARNING, host=name, age=round(age))

    def _warn_unresolved(self, discovery_id: str, name: str) -> None:
        """Log once a minute per name, at a limited rate per ID."""
        cached, now = self._cache.claim(discovery_id, name), self._clock.seconds()
        if now - cached.warned < WARN_SECONDS:
            return
        suppressed = self._sampler.sample(discovery_id, "")
        if suppressed is not None:
            cached.warned = now
            self._log.warn(self._warning, host=name, suppressed=suppressed)


class _Lookup:
    """A lookup of a name for one ID. Requests wait for it until 1.5 seconds after it started."""

    def __init__(self, clock: IReactorTime, discovery_id: str, name: str) -> None:
        self.discovery_id = discovery_id
        self.name = name
        self.started = clock.seconds()
        self.has_ended = False
        self._waiting: list[Deferred[None]] | None = []
        self._timer = clock.callLater(MAX_WAIT_SECONDS, self._release)

    async def settled(self) -> None:
        """Wait until the lookup has ended or timed out."""
        if self._waiting is not None:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter

    def end(self) -> None:
        """Mark the lookup as ended and release the requests that wait for it."""
        self.has_ended = True
        if self._timer.active():
            self._timer.cancel()
            self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(None)


def _is_usable(cached: CachedAddresses, now: float) -> bool:
    """Report whether there are addresses that are not too old."""
    return bool(cached.ips) and cached.at + STALE_SECONDS > now
