"""Registered host names, resolved for those answers that need addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.resolving.places import usable_ip

FRESH_SECONDS = 10.0
FAILED_SECONDS = 5.0
PATIENCE_SECONDS = 1.5
WARN_SECONDS = 60.0
AT_ONCE = 8
MOST = 10_000
MOST_WAITING = 1000
UNRESOLVED = "a registered host name does not resolve and is left out of DNS answers"

Resolve = Callable[[str], "Deferred[Sequence[str]]"]


class _Known(msgspec.Struct):
    """What the last look-up of a name gave, and until when that is taken for true."""

    ips: Sequence[str] = ()
    until: float = 0.0
    warned: float | None = None


class HostNames:
    """The addresses of host names, as the machine's own resolver tells, remembered for seconds.

    A name that does not resolve, or not in time, has none: a cluster is better served with one address less than with
    no answer. `resolve` fires with the addresses of a name, none where there are none, and may fail or never fire;
    `warning` is what the log says then.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, resolve: Resolve, warning: str = UNRESOLVED) -> None:
        self._clock = clock
        self._warning = warning
        self._resolve = resolve
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, _LookUp] = {}
        self._turn = DeferredSemaphore(AT_ONCE)
        self._waiting = 0

    async def addresses(self, names: Sequence[str]) -> dict[str, Sequence[str]]:
        """The addresses of each of `names`; answers within 1.5 seconds."""
        # What is known now is not forgotten while others are waited for.
        known = {name: self._fresh(name) for name in names}
        asked = [self._look_up(name) for name, found in known.items() if found is None]
        if asked and self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                for each in asked:
                    await each.settled()
            finally:
                self._waiting -= 1
        return {name: self._ips(name, found or self._fresh(name)) for name, found in known.items()}

    def _fresh(self, name: str) -> _Known | None:
        known = self._known.get(name)
        return known if known is not None and known.until > self._clock.seconds() else None

    def _ips(self, name: str, known: _Known | None) -> Sequence[str]:
        if known is not None and known.ips:
            return known.ips
        self._warn(name)
        return ()

    def _look_up(self, name: str) -> _LookUp:
        """The look-up of `name` that is under way, or a new one; it goes on for those who ask next."""
        if name in self._asked:
            return self._asked[name]
        asked = _LookUp(self._clock)
        if len(self._asked) < MOST:
            self._asked[name] = asked
            self._turn.run(self._resolve, name).addCallbacks(
                lambda ips: self._learn(name, ips), lambda _: self._learn(name, ())
            )
        else:
            asked.end()
        return asked

    def _learn(self, name: str, ips: Sequence[str]) -> None:
        known = self._entry(name)
        known.ips = tuple(ip for ip in map(usable_ip, ips) if ip is not None)
        known.until = self._clock.seconds() + (FRESH_SECONDS if known.ips else FAILED_SECONDS)
        self._asked.pop(name).end()

    def _warn(self, name: str) -> None:
        known = self._entry(name)
        now = self._clock.seconds()
        if known.warned is None or now - known.warned >= WARN_SECONDS:
            known.warned = now
            self._log.warn(self._warning, host=name)

    def _entry(self, name: str) -> _Known:
        """What is kept of `name`, which is forgotten last now."""
        known = self._known[name] = self._known.pop(name) if name in self._known else _Known()
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        return known


class _LookUp:
    """A look-up under way. It is waited for until patience ends, from when it began, whoever comes later."""

    def __init__(self, clock: IReactorTime) -> None:
        self._waiting: list[Deferred[None]] | None = []
        self._patience = clock.callLater(PATIENCE_SECONDS, self._let_go)

    async def settled(self) -> None:
        """Return when the name is known, or patience has ended."""
        if self._waiting is not None:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter

    def end(self) -> None:
        """The name is known."""
        if self._patience.active():
            self._patience.cancel()
            self._let_go()

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(None)
