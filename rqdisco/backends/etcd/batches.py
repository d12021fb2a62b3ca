"""Send what many requests want from etcd in few transactions.

While a batch is under way, further reads or writes wait, and are then sent together: one round
trip, one entry in etcd's log and one sync of its disk for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.backends.etcd.batch_queue import (
    BatchQueue,
    Soon,
    WaitingRead,
    WaitingWrite,
    fail_waiting,
    take_reads,
    take_writes,
)
from rqdisco.backends.etcd.failures import EtcdFailure, LeaseNotFound, NotApplied, OutcomeUnknown, TooLarge
from rqdisco.backends.etcd.messages import Range, RangeResponse, Txn, TxnOperation, TxnResponse, range_op

# Seconds between two attempts to settle a write whose outcome is in doubt.
_RESEND_SECONDS = 0.5
# When a write has been in doubt for so many seconds, further ones are refused at once.
_STALL_SECONDS = 2.0

SendTxn = Callable[[Txn], Awaitable[TxnResponse]]


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
        self._reads: BatchQueue[WaitingRead] = BatchQueue(clock, take_reads, self._send_reads, soon)
        self._writes: BatchQueue[WaitingWrite] = BatchQueue(clock, take_writes, self._send_writes, at_once)
        # By transaction in doubt, since when it is, and why.
        self._in_doubt: dict[int, tuple[float, str]] = {}

    @property
    def reason(self) -> str | None:
        """The reason why a write cannot be settled now, None if all are."""
        return next((reason for _, reason in self._in_doubt.values()), None)

    def read(self, *ranges: Range) -> Deferred[Sequence[RangeResponse]]:
        """Read ranges at one moment between now and the answer (linearizable). Fails with
        EtcdFailure; raises NotApplied if too many reads wait.
        """
        waiting = WaitingRead(ranges)
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
        waiting = WaitingWrite(key, txn, size)
        self._writes.add(waiting)
        return waiting

    async def _send_reads(self, batch: list[WaitingRead]) -> None:
        # What several want is read once.
        places: dict[Range, int] = {}
        for read in batch:
            for each in read.ranges:
                places.setdefault(each, len(places))
        try:
            response = await self._read(Txn(success=tuple(map(range_op, places))))
        except TooLarge as failure:
            if len(batch) == 1:
                fail_waiting(batch[0], failure)
                return
            half = len(batch) // 2
            await self._send_reads(batch[:half])
            await self._send_reads(batch[half:])
            return
        except EtcdFailure as failure:
            for read in batch:
                fail_waiting(read, failure)
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

    async def _send_writes(self, batch: list[WaitingWrite]) -> None:
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
                fail_waiting(write, failure)
            return
        for write, each in zip(batch, response.responses, strict=True):
            if not write.called and each.response_txn is not None:
                write.callback(TxnResponse(
                    header=response.header, succeeded=each.response_txn.succeeded, responses=each.response_txn.responses
                ))  # fmt: skip

    async def _settle_one(self, write: WaitingWrite) -> None:
        try:
            response = await self._settle(write.txn)
        except (NotApplied, TooLarge) as failure:
            fail_waiting(write, failure)
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
