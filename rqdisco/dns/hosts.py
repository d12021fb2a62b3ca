"""Registered host names, resolved for those answers that need addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

FRESH_SECONDS = 10.0
FAILED_SECONDS = 5.0
PATIENCE_SECONDS = 1.5
WARN_SECONDS = 60.0
AT_ONCE = 8
MOST = 10_000

Resolve = Callable[[str], "Deferred[Sequence[str]]"]


class _Known(msgspec.Struct):
    """What the last look-up of a name gave, and until when that is taken for true."""

    ips: Sequence[str] = ()
    until: float = 0.0
    warned: float | None = None


class HostNames:
    """The addresses of host names, as the machine's own resolver tells, remembered for seconds.

    A name that does not resolve, or not in time, has none: a cluster is better served with one address less than with
    no answer. `resolve` fires with the addresses of a name, none where there are none, and may fail or never fire.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, resolve: Resolve) -> None:
        self._clock = clock
        self._resolve = resolve
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, list[Deferred[None]]] = {}
        self._turn = DeferredSemaphore(AT_ONCE)

    async def addresses(self, names: Sequence[str]) -> dict[str, Sequence[str]]:
        """The addresses of each of `names`; answers within 1.5 seconds."""
        stale = [name for name in dict.fromkeys(names) if not self._is_fresh(name)]
        if stale:
            waiting = gatherResults([self._wait_for(name) for name in stale])
            await waiting.addErrback(lambda _: None)
        return {name: self._ips(name) for name in dict.fromkeys(names)}

    def _is_fresh(self, name: str) -> bool:
        known = self._known.get(name)
        return known is not None and known.until > self._clock.seconds()

    def _ips(self, name: str) -> Sequence[str]:
        known = self._known.get(name)
        if known is not None and known.ips and self._is_fresh(name):
            return known.ips
        self._warn(name)
        return ()

    def _wait_for(self, name: str) -> Deferred[None]:
        """Fire when something is known of `name`, or patience ends; the look-up goes on for those who ask next."""
        waiter: Deferred[None] = Deferred(lambda waiter: waiter.callback(None))
        if name in self._asked:
            self._asked[name].append(waiter)
        else:
            self._asked[name] = [waiter]
            self._turn.run(self._resolve, name).addCallbacks(
                lambda ips: self._learn(name, ips), lambda _: self._learn(name, ())
            )
        return waiter if waiter.called else waiter.addTimeout(PATIENCE_SECONDS, self._clock, lambda value, _: value)

    def _learn(self, name: str, ips: Sequence[str]) -> None:
        if name not in self._known and len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        known = self._known.setdefault(name, _Known())
        known.ips = tuple(ips)
        known.until = self._clock.seconds() + (FRESH_SECONDS if ips else FAILED_SECONDS)
        for waiter in self._asked.pop(name):
            if not waiter.called:
                waiter.callback(None)

    def _warn(self, name: str) -> None:
        known = self._known.setdefault(name, _Known())
        now = self._clock.seconds()
        if known.warned is None or now - known.warned >= WARN_SECONDS:
            known.warned = now
            self._log.warn("a registered host name does not resolve and is left out of DNS answers", host=name)
