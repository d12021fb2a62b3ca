"""Registered host names, resolved for those answers that need addresses."""

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
# A node that starts may get its name a moment later.
FAILED_SECONDS = 5.0
# RFC 8767 section 5 recommends both: how soon to try again once a refresh has failed, and one to
# three days for which the old addresses may serve. One, since an address that went to another
# cluster's node leads a joiner there.
RECHECK_SECONDS = 30.0
KEPT_SECONDS = 86_400.0
PATIENCE_SECONDS = 1.5
# A name of which nothing was heard for so long does not resolve.
SETTLED_SECONDS = 10.0
WARN_SECONDS = 60.0
AT_ONCE = 32
AT_ONCE_OF_ONE = 4
MOST = 10_000
MOST_WAITING = 1000
MOST_WAITING_OF_ONE = 100
UNRESOLVED = "a registered host name does not resolve and is left out of DNS answers"
KEPT = "a registered host name cannot be looked up again, its older addresses are used for up to a day"

Resolve = Callable[[str], "Deferred[Sequence[str]]"]


class ResolvedHost(msgspec.Struct, frozen=True, gc=False):
    """The addresses of a name; `at` is the clock time of the last successful look-up. They are
    fresh for a few seconds from then on, and kept for a day while later look-ups fail.

    `is_settled` is False for the first seconds of a look-up: there may be more a moment later.
    """

    ips: Sequence[str]
    at: float
    is_fresh: bool
    is_settled: bool


class HostNames:
    """The addresses of host names, by the machine's own resolver, remembered for seconds.

    `resolve` fires with the addresses of a name, none if there is no such name. It may fail or
    never fire: then the addresses that were found before are kept for up to a day (RFC 8767). A
    name that has none is left out, as a cluster is better served with one address less than with no
    answer, and `warning` is logged.

    Look-ups, questions that wait for them, and what is remembered are charged to the ID that needs
    them: IDs take turns, and the one that has most gives way first.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, resolve: Resolve, warning: str = UNRESOLVED, counts: LookupCounts | None = None
    ) -> None:
        self._clock = clock
        self._warning = warning
        self._resolve = resolve
        self._known = ResolutionCache(MOST)
        # By name, then by ID.
        self._asked: dict[str, dict[str, _LookUp]] = {}
        self._queue: FairQueue[_LookUp] = FairQueue(self._start, at_once=AT_ONCE, of_one=AT_ONCE_OF_ONE, most=MOST)
        self._waiting: Counter[str] = Counter()
        self._sampler = EventSampler(clock.seconds)
        self._counts = LookupCounts() if counts is None else counts
        self._throttle = LogThrottle(clock.seconds)

    async def addresses(self, discovery_id: str, names: Sequence[str]) -> dict[str, ResolvedHost]:
        """Return the addresses of each of `names`, within 1.5 seconds."""
        now = self._clock.seconds()
        known = {name: self._known.claim(discovery_id, name) for name in names}
        look_ups = {name: self._look_up(discovery_id, name) for name, each in known.items() if each.due <= now}
        await self._wait(discovery_id, list(look_ups.values()))
        return {name: self._found(discovery_id, name, each, look_ups.get(name)) for name, each in known.items()}

    def share(self, discovery_id: str, name: str) -> None:
        """Look `name` up for this ID too, if it is being looked up for another one, whose turn may
        come late.
        """
        if name in self._asked:
            self._look_up(discovery_id, name)

    def _found(self, discovery_id: str, name: str, before: CachedAddresses, look_up: _LookUp | None) -> ResolvedHost:
        # What was known at the question is not forgotten while others are waited for.
        known = self._known.get(name) or before
        now = self._clock.seconds()
        is_settled = look_up is None or look_up.has_ended or look_up.began + SETTLED_SECONDS <= now
        if not _is_kept(known, now):
            self._warn(discovery_id, name)
            return ResolvedHost((), -inf, False, is_settled)
        is_fresh = known.at + FRESH_SECONDS > now
        if not is_fresh:
            self._keep(name, now - known.at)
        return ResolvedHost(known.ips, known.at, is_fresh, is_settled)

    async def _wait(self, discovery_id: str, look_ups: Sequence[_LookUp]) -> None:
        """Wait for look-ups, unless too many questions do so already."""
        is_full = self._waiting.total() >= MOST_WAITING or self._waiting[discovery_id] >= MOST_WAITING_OF_ONE
        if is_full or not look_ups:
            return
        self._waiting[discovery_id] += 1
        try:
            for each in look_ups:
                await each.settled()
        finally:
            self._waiting[discovery_id] -= 1
            if not self._waiting[discovery_id]:
                del self._waiting[discovery_id]

    def _look_up(self, discovery_id: str, name: str) -> _LookUp:
        """The look-up of `name` that is under way for this ID, or a new one; it goes on for those
        who ask next.
        """
        asked = self._asked.setdefault(name, {})
        if discovery_id in asked:
            return asked[discovery_id]
        look_up = asked[discovery_id] = _LookUp(self._clock, discovery_id, name)
        dropped = self._queue.add(look_up)
        if dropped is not None:
            self._counts.outcomes["dropped"] += 1
            self._end(dropped)
        return look_up

    def _start(self, look_up: _LookUp) -> None:
        """It is the turn of a look-up."""
        looking = maybeDeferred(self._resolve, look_up.name)
        looking.addCallback(lambda ips: self._learn(look_up, ips))
        looking.addErrback(lambda _: self._fail(look_up))
        looking.addBoth(lambda _: self._queue.finished(look_up))

    def _learn(self, look_up: _LookUp, ips: Sequence[str]) -> None:
        usable = tuple(ip for ip in map(usable_ip, ips) if ip is not None)
        self._counts.outcomes["found" if usable else "absent"] += 1
        known, now = self._known.claim(look_up.discovery_id, look_up.name), self._clock.seconds()
        known.ips, known.at = usable, now
        known.due = now + (FRESH_SECONDS if usable else FAILED_SECONDS)
        for each in self._asked.pop(look_up.name, {}).values():
            self._queue.withdraw(each)
            each.end()

    def _fail(self, look_up: _LookUp) -> None:
        self._counts.outcomes["failed"] += 1
        if self._asked.get(look_up.name, {}).get(look_up.discovery_id) is not look_up:
            # Another look-up has found the name meanwhile.
            return
        known, now = self._known.claim(look_up.discovery_id, look_up.name), self._clock.seconds()
        known.due = now + (RECHECK_SECONDS if _is_kept(known, now) else FAILED_SECONDS)
        self._end(look_up)

    def _end(self, look_up: _LookUp) -> None:
        """A look-up has failed, or was dropped."""
        asked = self._asked.get(look_up.name, {})
        asked.pop(look_up.discovery_id, None)
        if not asked:
            self._asked.pop(look_up.name, None)
        look_up.end()

    def _keep(self, name: str, age: float) -> None:
        """Addresses of so many seconds ago are used: count it, and log it once a minute."""
        self._counts.kept += 1
        if self._throttle.is_due():
            self._log.warn(KEPT, host=name, age=round(age))

    def _warn(self, discovery_id: str, name: str) -> None:
        """Log, once a minute for each name, and not too often for each ID."""
        known, now = self._known.claim(discovery_id, name), self._clock.seconds()
        if now - known.warned < WARN_SECONDS:
            return
        left_out = self._sampler.sample(discovery_id, "")
        if left_out is not None:
            known.warned = now
            self._log.warn(self._warning, host=name, left_out=left_out)


class _LookUp:
    """A look-up of a name for one ID. It is waited for until patience ends, from when it began,
    whoever comes later.
    """

    def __init__(self, clock: IReactorTime, discovery_id: str, name: str) -> None:
        self.discovery_id = discovery_id
        self.name = name
        self.began = clock.seconds()
        self.has_ended = False
        self._waiting: list[Deferred[None]] | None = []
        self._patience = clock.callLater(PATIENCE_SECONDS, self._let_go)

    async def settled(self) -> None:
        """Return when the name is known, or patience has ended."""
        if self._waiting is not None:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter

    def end(self) -> None:
        """Nobody has to wait for it any more."""
        self.has_ended = True
        if self._patience.active():
            self._patience.cancel()
            self._let_go()

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(None)


def _is_kept(known: CachedAddresses, now: float) -> bool:
    """Whether there are addresses, and they are not too old."""
    return bool(known.ips) and known.at + KEPT_SECONDS > now
