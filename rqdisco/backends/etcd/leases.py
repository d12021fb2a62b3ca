"""Leases by which keys expire on etcd's clock; one is shared by all keys of about a second (E3)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred

from rqdisco.backends.etcd.client import EtcdClient
from rqdisco.backends.etcd.failures import EtcdFailure, NotApplied, unavailable
from rqdisco.coroutines import run_in_background


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A lease. It exists for its time to live from `requested_at` on, or longer."""

    id: int
    requested_at: float


class SharedLeases:
    """Leases of `ttl` seconds. One is used for new keys for `reuse` seconds. `now` returns seconds of
    a clock that goes on while the machine is suspended, as etcd's does.
    """

    def __init__(self, client: EtcdClient, now: Callable[[], float], ttl: int, reuse: float = 1.0) -> None:
        self.ttl = ttl
        self._client = client
        self._now = now
        self._reuse = reuse
        self._current: Lease | None = None
        self._waiting: list[Deferred[Lease]] = []

    async def get(self) -> Lease:
        """Return a lease that was requested less than `reuse` seconds ago. Raises
        StoreUnavailable.
        """
        current = self._current
        if current is not None and self._now() - current.requested_at < self._reuse:
            return current
        waiting: Deferred[Lease] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            # In the background: others still need it if this request is cancelled.
            run_in_background(self._request())
        return await waiting

    def age(self, lease: Lease) -> float:
        """Return how many seconds ago a lease was requested."""
        return self._now() - lease.requested_at

    def discard(self, lease: Lease | None) -> None:
        """Use a lease no more, which etcd does not know."""
        if lease is not None and self._current is lease:
            self._current = None

    async def _request(self) -> None:
        requested_at = self._now()
        try:
            granted = await self._client.grant_lease(self.ttl)
        except Exception as error:
            # Whatever it is: later requests must ask again.
            failure = error if isinstance(error, EtcdFailure) else NotApplied(f"no lease: {error!r}")
            for waiting in self._take_waiting():
                waiting.errback(unavailable(failure))
            if failure is error:
                return
            raise
        self._current = lease = Lease(granted.id, requested_at)
        for waiting in self._take_waiting():
            waiting.callback(lease)

    def _take_waiting(self) -> list[Deferred[Lease]]:
        waiting, self._waiting = self._waiting, []
        return [each for each in waiting if not each.called]
