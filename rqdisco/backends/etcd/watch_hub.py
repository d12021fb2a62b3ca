"""Watches of single IDs, for event streams: few streams from etcd, each for many IDs (E7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.backends.etcd.client import EtcdClient
from rqdisco.backends.etcd.failures import EtcdFailure
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.messages import WatchCreate, WatchResponse
from rqdisco.backends.etcd.watch_connection import Watch
from rqdisco.coroutines import run_in_background

Changed = Callable[[], None]
# IDs that are watched within this time share a stream.
_GATHER_SECONDS = 0.02
_IDS_PER_STREAM = 500
_RETRY_SECONDS = 1.0
# A member that hangs keeps its streams open and silent, so it is asked for its state so often.
_CHECK_SECONDS = 5.0


class WatchHub:
    """Calls back whenever a watched record may have changed, at any daemon.

    `jitter` returns a factor around 1, so that daemons do not come back to etcd all at once.
    """

    def __init__(self, client: EtcdClient, keys: EtcdKeys, clock: IReactorTime, jitter: Callable[[], float]) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._jitter = jitter
        self._watchers: dict[bytes, list[Changed]] = {}
        self._new: list[bytes] = []
        self._streams: list[_WatchStream] = []
        self._timer: IDelayedCall | None = None
        self._check_timer: IDelayedCall | None = None
        self._is_stopped = False

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def add(self, discovery_id: str, changed: Changed) -> Callable[[], None]:
        """Call `changed` from now on. Return a function that ends that; further calls do nothing."""
        key = self._keys.id(discovery_id)
        watchers = self._watchers.setdefault(key, [])
        watchers.append(changed)
        if len(watchers) == 1:
            self._new.append(key)
            self._start_soon(_GATHER_SECONDS)

        def end() -> None:
            watchers = self._watchers.get(key, [])
            if changed in watchers:
                watchers.remove(changed)
                if not watchers:
                    del self._watchers[key]
                    self._left(key)

        return end

    def stop(self) -> None:
        """End all streams."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_checks()
        for stream in tuple(self._streams):
            stream.close()

    def notify(self, keys: Iterable[bytes]) -> None:
        """Report that records may have changed."""
        for key in keys:
            for changed in tuple(self._watchers.get(key, ())):
                changed()

    def lost(self, stream: _WatchStream) -> None:
        """Watch the IDs of a stream that ended in a new one, soon."""
        self._streams.remove(stream)
        if not self._streams:
            self._stop_checks()
        left = [key for key in stream.keys if key in self._watchers]
        if left and not self._is_stopped:
            self._new += left
            self._start_soon(_RETRY_SECONDS * self._jitter())

    def _start_soon(self, seconds: float) -> None:
        if self._timer is None and not self._is_stopped:
            self._timer = self._clock.callLater(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        keys = [key for key in dict.fromkeys(self._new) if key in self._watchers]
        self._new = []
        if keys:
            keys += self._take_over(len(keys))
        for start in range(0, len(keys), _IDS_PER_STREAM):
            stream = _WatchStream(self, keys[start : start + _IDS_PER_STREAM])
            self._streams.append(stream)
            stream.open(self._client)
        if self._streams and self._check_timer is None and not self._is_stopped:
            self._check_timer = self._clock.callLater(_CHECK_SECONDS * self._jitter(), self._check)

    def _take_over(self, count: int) -> list[bytes]:
        """End streams that are no larger than a new one with `count` IDs, and return their IDs: few
        streams are left, although watchers may come one by one.
        """
        taken: list[bytes] = []
        for stream in sorted(self._streams, key=lambda stream: len(stream.keys)):
            if len(stream.keys) > count + len(taken) or len(stream.keys) + count + len(taken) > _IDS_PER_STREAM:
                break
            taken += stream.keys
            stream.keys.clear()
            stream.close()
        return taken

    def _check(self) -> None:
        self._check_timer = None
        for endpoint in dict.fromkeys(stream.endpoint for stream in self._streams):
            run_in_background(self._check_member(endpoint))
        if self._streams:
            self._check_timer = self._clock.callLater(_CHECK_SECONDS * self._jitter(), self._check)

    def _stop_checks(self) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
            self._check_timer = None

    async def _check_member(self, endpoint: str) -> None:
        """End the streams from a member that does not answer."""
        try:
            await self._client.status(endpoint)
        except EtcdFailure:
            self._client.avoid(endpoint)
            for stream in tuple(self._streams):
                if stream.endpoint == endpoint:
                    stream.close()

    def _left(self, key: bytes) -> None:
        for stream in tuple(self._streams):
            if key in stream.keys:
                del stream.keys[key]
                if not stream.keys:
                    stream.close()


class _WatchStream:
    """One stream from etcd, for the records at `keys`."""

    _log = Logger()

    def __init__(self, watches: WatchHub, keys: Iterable[bytes]) -> None:
        self._watches = watches
        self._by_number = dict(enumerate(keys, 1))
        self.keys = dict.fromkeys(self._by_number.values())
        self._watch: Watch | None = None
        self._is_over = False

    @property
    def endpoint(self) -> str:
        """The member that it comes from."""
        return "" if self._watch is None else self._watch.endpoint

    def open(self, client: EtcdClient) -> None:
        """Start to watch."""
        creates = [WatchCreate(key=key, watch_id=number) for number, key in self._by_number.items()]
        self._watch = watch = client.watch(creates, self._received)
        watch.done.addCallbacks(lambda _: self._ended(None), self._ended)

    def close(self) -> None:
        """Close the connection, if it is open."""
        if not self._is_over and self._watch is not None:
            self._watch.close()

    def _received(self, response: WatchResponse) -> None:
        if response.canceled or response.compact_revision:
            # Changes are missing, so all its records are read anew.
            self.close()
        elif response.created:
            # The record may have changed before etcd watched it.
            key = self._by_number.get(response.watch_id)
            self._watches.notify(() if key is None else (key,))
        else:
            self._watches.notify(dict.fromkeys(event.kv.key for event in response.events))

    def _ended(self, failure: Failure | None) -> None:
        self._is_over = True
        if failure is not None and self.keys:
            self._log.info("watch ended, another one begins: {reason}", reason=failure.getErrorMessage())
        self._watches.lost(self)
