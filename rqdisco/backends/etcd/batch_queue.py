"""Requests that wait to be sent together, and what may be in one batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.etcd.failures import EtcdFailure, NotApplied, OutcomeUnknown
from rqdisco.backends.etcd.messages import Range, RangeResponse, Txn, TxnResponse
from rqdisco.coroutines import run_in_background

T = TypeVar("T")
_log = Logger()
# etcd's --max-txn-ops is 128, for the operations of a transaction and those of the longest one in it
# together (etcd 3.4 etcdserver/api/v3rpc/key.go, checkTxnRequest).
MAX_OPERATIONS = 100
# etcd's --max-request-bytes is 1.5 MiB.
MAX_BYTES = 512 * 1024
# More would wait longer than its client does.
MAX_WAITING = 20_000
# A second batch of the same kind is sent only if the first one takes so long: fewer and larger ones
# cost everybody less.
_SLOW_SECONDS = 0.1
_AT_ONCE = 2

# Calls a function, now or after everything that has arrived is handled.
Soon = Callable[[Callable[[], None]], object]


class Waiting(Deferred[T]):
    """A request that waits for its answer. One that is cancelled before it is taken is not sent."""


class WaitingRead(Waiting[Sequence[RangeResponse]]):
    """Ranges to read."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        super().__init__()
        self.ranges = ranges


class WaitingWrite(Waiting[TxnResponse]):
    """A transaction that changes `key`, with about `size` bytes of values."""

    def __init__(self, key: bytes, txn: Txn, size: int) -> None:
        super().__init__()
        self.key = key
        self.txn = txn
        self.size = size


W = TypeVar("W", bound="Waiting[Any]")


class BatchQueue(Generic[W]):
    """Requests of one kind; one batch of them is under way, or two if the first is slow. `soon`
    starts one when there is none.
    """

    def __init__(
        self,
        clock: IReactorTime,
        take: Callable[[deque[W]], list[W]],
        send: Callable[[list[W]], Awaitable[None]],
        soon: Soon,
    ) -> None:
        self._soon = soon
        self._waiting: deque[W] = deque()
        self._clock = clock
        self._under_way = 0
        self._started = 0.0
        self._is_held = False
        self._take = take
        self._send = send

    def add(self, waiting: W) -> None:
        """Send it now, or with others later. Raises NotApplied if too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise NotApplied("etcd is slower than requests arrive")
        self._waiting.append(waiting)
        if self._is_held:
            return
        if self._under_way:
            self._start()
        elif len(self._waiting) == 1:
            # Those that arrive until then wait too.
            self._soon(self._start)

    def hold(self) -> None:
        """Send nothing that is added until `release`: more will be added in this very call."""
        self._is_held = True

    def release(self) -> None:
        """Send what was added meanwhile."""
        self._is_held = False
        self._start()

    def _start(self) -> None:
        if self._under_way and not self._is_slow():
            return
        batch = self._take(self._waiting)
        if batch:
            self._under_way += 1
            run_in_background(self._run(batch))

    def _is_slow(self) -> bool:
        return self._under_way < _AT_ONCE and self._clock.seconds() - self._started >= _SLOW_SECONDS

    async def _run(self, batch: list[W]) -> None:
        while batch:
            self._started = self._clock.seconds()
            try:
                await self._send(batch)
            except Exception:
                # A fault of this program must not stop the queue, nor let anybody wait for ever.
                _log.failure("a batch failed unexpectedly")
                for waiting in batch:
                    fail_waiting(waiting, OutcomeUnknown("an unexpected error, which the log shows"))
            batch = self._take(self._waiting)
        self._under_way -= 1


def fail_waiting(waiting: Waiting[T], failure: EtcdFailure) -> None:
    """Fail a request, unless its caller does not wait any more."""
    if not waiting.called:
        waiting.errback(failure)


def take_reads(waiting: deque[WaitingRead]) -> list[WaitingRead]:
    """Take the next reads."""
    batch: list[WaitingRead] = []
    operations = 0
    while waiting:
        if waiting[0].called:
            waiting.popleft()
            continue
        operations += len(waiting[0].ranges)
        if batch and operations > MAX_OPERATIONS:
            break
        batch.append(waiting.popleft())
    return batch


def take_writes(waiting: deque[WaitingWrite]) -> list[WaitingWrite]:
    """Take the next writes, at most one of each key: etcd refuses two changes of a key in one
    transaction.
    """
    batch: list[WaitingWrite] = []
    keys: set[bytes] = set()
    size = 0
    later: list[WaitingWrite] = []
    while waiting and len(batch) < MAX_OPERATIONS:
        write = waiting.popleft()
        if write.called:
            continue
        if write.key in keys:
            later.append(write)
            continue
        size += write.size
        if batch and size > MAX_BYTES:
            later.append(write)
            break
        keys.add(write.key)
        batch.append(write)
    waiting.extendleft(reversed(later))
    return batch
