"""Answers to DNS: looked up together, kept for a second, and served stale while etcd is away (E7).

A resolver may ask for the same name many times a second. DNS caches its answers anyway, so one that
is a second old is as good; `stale_seconds` lets older ones be served while etcd does not answer
(RFC 8767).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rqdisco.core.directory import Names
from rqdisco.core.errors import EtcdUnavailable, RequestRefused, StoreUnavailable
from rqdisco.core.views import View
from rqdisco.coroutines import run_in_background

T = TypeVar("T")
KEEP_SECONDS = 1.0
MAX_NAMES = 10_000
# A resolver that waits for longer than this asks another server (RFC 8767 section 5, client
# response timer).
_STALE_AFTER_SECONDS = 1.8
# While etcd is away, it is asked about a name so often (RFC 8767 section 5, failure recheck timer).
_RECHECK_SECONDS = 5.0


class _Kept(msgspec.Struct, Generic[T], frozen=True):
    """An answer, or the error that says that there is none, and when it was asked for."""

    at: float
    answer: T | RequestRefused


class CachedAnswers(Generic[T]):
    """The answers of `look_up`, by key."""

    def __init__(self, look_up: Callable[[str], Awaitable[T]], clock: IReactorTime, stale_seconds: float) -> None:
        self._look_up = look_up
        self._clock = clock
        self._stale_seconds = stale_seconds
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._asked: dict[str, list[Deferred[T]]] = {}
        self._failed_at: float | None = None

    async def get(self, key: str) -> T:
        """Return an answer that is at most a second old, or one that is older by `stale_seconds`
        while etcd does not answer.

        Raises RequestRefused as `look_up`, and StoreUnavailable.
        """
        now = self._clock.seconds()
        kept = self._kept.get(key)
        if kept is not None and now - kept.at < KEEP_SECONDS:
            return _answer(kept)
        is_usable = kept is not None and now - kept.at < KEEP_SECONDS + self._stale_seconds
        waiting: Deferred[T] = Deferred()
        asked = self._asked.get(key)
        if asked is None:
            self._asked[key] = [waiting]
            run_in_background(self._ask(key, now))
        else:
            asked.append(waiting)
        if kept is None or not is_usable:
            return await waiting
        if self._failed_at is not None and now - self._failed_at < _RECHECK_SECONDS and not waiting.called:
            waiting.addErrback(lambda failure: None)
            return _answer(kept)
        waiting.addTimeout(_STALE_AFTER_SECONDS, self._clock, lambda *_: Failure(EtcdUnavailable("etcd is slow")))
        try:
            return await waiting
        except StoreUnavailable:
            if self._clock.seconds() - kept.at >= KEEP_SECONDS + self._stale_seconds:
                raise
            return _answer(kept)

    async def _ask(self, key: str, now: float) -> None:
        outcome: T | Failure
        try:
            outcome = await self._look_up(key)
            self._keep(key, _Kept(now, outcome))
        except RequestRefused as refusal:
            outcome = Failure()
            self._keep(key, _Kept(now, refusal))
        except Exception:
            outcome = Failure()
            self._failed_at = now
        for waiting in self._asked.pop(key):
            if not waiting.called:
                waiting.callback(outcome)

    def _keep(self, key: str, kept: _Kept[T]) -> None:
        self._failed_at = None
        self._kept[key] = kept
        self._kept.move_to_end(key)
        # In the order of asking. A view may be large, so none stays that is of no more use.
        too_old = kept.at - KEEP_SECONDS - self._stale_seconds
        while len(self._kept) > MAX_NAMES or next(iter(self._kept.values())).at <= too_old:
            self._kept.popitem(last=False)


def _answer(kept: _Kept[T]) -> T:
    if isinstance(kept.answer, RequestRefused):
        raise kept.answer
    return kept.answer


class CachedNames:
    """The answers of a directory to DNS; `stale_seconds` is how long they are used while etcd does
    not answer.
    """

    def __init__(self, names: Names, clock: IReactorTime, stale_seconds: float) -> None:
        self._names = names
        self._ids = CachedAnswers(names.look_up, clock, stale_seconds)
        self._by_name = CachedAnswers(names.look_up_name, clock, stale_seconds)
        self._parents = CachedAnswers(names.has_subdomains, clock, stale_seconds)

    @property
    def index(self) -> int:
        return self._names.index

    async def look_up(self, discovery_id: str) -> View:
        return await self._ids.get(discovery_id)

    async def look_up_name(self, name: str) -> View:
        return await self._by_name.get(name)

    async def has_subdomains(self, name: str) -> bool:
        return await self._parents.get(name)
