"""Send what many requests want from etcd in few transactions.

While a batch is under way, further reads or writes wait, and are then sent together: one round
trip, one entry in etcd's log and one sync of its disk for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.etcd.failures import EtcdFailure, LeaseNotFound, NotApplied, OutcomeUnknown, TooLarge
from rqdisco.backends.etcd.messages import Range, RangeResponse, Txn, TxnOperation, TxnResponse, range_op
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
# Seconds between two attempts to settle a write whose outcome is in doubt.
_RESEND_SECONDS = 0.5
# When a write has been in doubt for so many seconds, further ones are refused at once.
_STALL_SECONDS = 2.0
# A second batch of the same kind is sent only if the first one takes so long: fewer and larger ones
# cost everybody less.
_SLOW_SECONDS = 0.1
_AT_ONCE = 2

SendTxn = Callable[[Txn], Awaitable[TxnResponse]]
# Calls a function, now or after everything that has arrived is handled.
Soon = Callable[[Callable[[], None]], object]


class _Waiting(Deferred[T]):
    """A request that waits for its answer. One that is cancelled before it is taken is not sent."""


class _Read(_Waiting[Sequence[RangeResponse]]):
    def __init__(self, ranges: Sequence[Range]) -> None:
        super().__init__()
        self.ranges = ranges


class _Write(_Waiting[TxnResponse]):
    def __init__(self, key: bytes, txn: Txn, size: int) -> None:
        super().__init__()
        self.key = key
        self.txn = txn
        self.size = size


W = TypeVar("W", bound="_Waiting[Any]")


class _Queue(Generic[W]):
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
                    _fail(waiting, OutcomeUnknown("an unexpected error, which the log shows"))
            batch = self._take(self._waiting)
        self._under_way -= 1


def at_once(start: Callable[[], None]) -> None:
    """Call a function now."""
    start()


class Batches:
    """Sends reads with `read` and writes with `write`, which are those of `EtcdClient`. With `soon`,
    reads of requests that arrive together are sent together.
    """

    def __init__(self, read: SendTxn, write: SendTxn, clock: IReactorTime, soon: Soon = at_once) -> None:
        self._read = read
        self._write = write
        self._clock = clock
        self._reads: _Queue[_Read] = _Queue(clock, _take_reads, self._send_reads, soon)
        self._writes: _Queue[_Write] = _Queue(clock, _take_writes, self._send_writes, at_once)
        # By transaction in doubt, since when it is, and why.
        self._in_doubt: dict[int, tuple[float, str]] = {}

    @property
    def reason(self) -> str | None:
        """Why a write cannot be settled now, None if all are."""
        return next((reason for _, reason in self._in_doubt.values()), None)

    def read(self, *ranges: Range) -> Deferred[Sequence[RangeResponse]]:
        """Read ranges at one moment between now and the answer (linearizable). Fails with
        EtcdFailure; raises NotApplied if too many reads wait.
        """
        waiting = _Read(ranges)
        self._reads.add(waiting)
        return waiting

    def write(self, key: bytes, txn: Txn, size: int) -> Deferred[TxnResponse]:
        """Execute a transaction that changes `key`, and no key that a transaction for another one
        changes. `size` is about the number of bytes of its values.

        The identical transaction is sent until its outcome is known, even if the caller does not
        wait any more (E2). Fails with LeaseNotFound, NotApplied or TooLarge; raises NotApplied if
        too many writes wait, or while an earlier one has been in doubt for some seconds.
        """
        for since, reason in self._in_doubt.values():
            if self._clock.seconds() - since >= _STALL_SECONDS:
                raise NotApplied(reason)
        waiting = _Write(key, txn, size)
        self._writes.add(waiting)
        return waiting

    async def _send_reads(self, batch: list[_Read]) -> None:
        # What several want is read once.
        places: dict[Range, int] = {}
        for read in batch:
            for each in read.ranges:
                places.setdefault(each, len(places))
        try:
            response = await self._read(Txn(success=tuple(map(range_op, places))))
        except TooLarge as failure:
            if len(batch) == 1:
                _fail(batch[0], failure)
                return
            half = len(batch) // 2
            await self._send_reads(batch[:half])
            await self._send_reads(batch[half:])
            return
        except EtcdFailure as failure:
            for read in batch:
                _fail(read, failure)
            return
        ranges = [answer.response_range or RangeResponse() for answer in response.responses]
        # Most decisions on what was read are written at once: all of them in one batch.
        self._writes.hold()
        try:
            for read in batch:
                if not read.called:
                    read.callback([ranges[places[each]] for each in read.ranges])
        finally:
            self._writes.release()

    async def _send_writes(self, batch: list[_Write]) -> None:
        if len(batch) == 1:
            await self._settle_one(batch[0])
            return
        nested = Txn(success=tuple(TxnOperation(request_txn=write.txn) for write in batch))
        try:
            response = await self._settle(nested)
        except (LeaseNotFound, TooLarge):
            # etcd refuses all of them for one, or its answer cannot be read: each is settled by
            # itself, also for callers that do not wait any more, since a late copy of the batch
            # must find nothing left to do.
            for write in batch:
                await self._settle_one(write)
            return
        except NotApplied as failure:
            for write in batch:
                _fail(write, failure)
            return
        for write, each in zip(batch, response.responses, strict=True):
            if not write.called and each.response_txn is not None:
                write.callback(TxnResponse(
                    header=response.header, succeeded=each.response_txn.succeeded, responses=each.response_txn.responses
                ))  # fmt: skip

    async def _settle_one(self, write: _Write) -> None:
        try:
            response = await self._settle(write.txn)
        except (NotApplied, TooLarge) as failure:
            _fail(write, failure)
            return
        if not write.called:
            write.callback(response)

    async def _settle(self, txn: Txn) -> TxnResponse:
        """Send the identical transaction until its outcome is known. Raises NotApplied, and TooLarge
        for one of several that may be settled one by one.
        """
        try:
            while True:
                try:
                    return await self._write(txn)
                except LeaseNotFound:
                    # Holds for all copies.
                    raise
                except OutcomeUnknown as failure:
                    since, _ = self._in_doubt.get(id(txn), (self._clock.seconds(), ""))
                    self._in_doubt[id(txn)] = (since, str(failure))
                except NotApplied:
                    # Holds for this copy only.
                    if id(txn) not in self._in_doubt:
                        raise
                await self._pause()
        finally:
            self._in_doubt.pop(id(txn), None)

    def _pause(self) -> Deferred[None]:
        paused: Deferred[None] = Deferred()
        self._clock.callLater(_RESEND_SECONDS, paused.callback, None)
        return paused


def _fail(waiting: _Waiting[T], failure: EtcdFailure) -> None:
    if not waiting.called:
        waiting.errback(failure)


def _take_reads(waiting: deque[_Read]) -> list[_Read]:
    batch: list[_Read] = []
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


def _take_writes(waiting: deque[_Write]) -> list[_Write]:
    """Take the next writes, at most one of each key: etcd refuses two changes of a key in one
    transaction.
    """
    batch: list[_Write] = []
    keys: set[bytes] = set()
    size = 0
    later: list[_Write] = []
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
