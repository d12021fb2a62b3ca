"""Track claims that wait for their leaders' first reports (R5c), and report those that have waited
long: an operator has to end them.

The set is updated with every change, since scanning a million records on request is too slow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.plurals import counted
from rqdisco.core.records import LONG_CLAIM_SECONDS, Record
from rqdisco.storage.memory import Change
from rqdisco.storage.node_counter import is_claimed

MAX_TRACKED = 10_000


class ClaimMonitor(Service):
    """Claims awaiting a first report, as far as this daemon knows of them; at most 10,000 are
    tracked.

    A claim's waiting time counts from when this daemon received it, by the monotonic clock. `find`
    returns the present record of an ID. With `rechecks` it is asked again every minute, because
    claims may end without the monitor being told.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, find: Callable[[str], Awaitable[Record | None]], *, rechecks: bool = False
    ) -> None:
        self._clock = clock
        self._find = find
        self._rechecks = rechecks
        # When each claim becomes overdue, or is checked again, earliest first.
        self._due: dict[bytes, float] = {}
        # Overdue claims, and whether the log has named each.
        self._overdue: dict[bytes, bool] = {}
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._set_timer()

    def stopService(self) -> None:
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def count(self) -> int:
        """The number of overdue claims."""
        return len(self._overdue)

    def notes(self) -> list[str]:
        """Warnings for the operator. IDs are secrets, so only the log names them."""
        if not self._overdue:
            return []
        many = counted(self.count, "claim waits", "claims wait")
        return [
            f"{many} for a leader's first report for more than a minute; the daemon's log names ID and node: stop that"
            " node for good, or wipe its data directory, then run `rqdisco leader clear`"
        ]

    def settled(self, changes: Sequence[Change]) -> None:
        """Inspect changes that are durable now; called by a store."""
        for change in changes:
            if is_claimed(change.rest):
                self.claimed(change.key)
            elif self._due or self._overdue:
                self.ended(change.key)

    def dropped(self, keys: Sequence[bytes]) -> None:
        """Forget IDs that were deleted; called by a store."""
        for key in keys:
            self.ended(key)

    def claimed(self, key: bytes) -> None:
        """Track the claim of an ID, unless it is tracked already."""
        if key in self._due or key in self._overdue or len(self._due) + len(self._overdue) >= MAX_TRACKED:
            return
        self._due[key] = self._clock.seconds() + LONG_CLAIM_SECONDS
        self._set_timer()

    def ended(self, key: bytes) -> None:
        """Forget the claim of an ID, which was reported, cleared or deleted."""
        self._due.pop(key, None)
        self._overdue.pop(key, None)

    def _set_timer(self) -> None:
        if self.running and self._timer is None and self._due:
            soonest = next(iter(self._due.values()))
            self._timer = self._clock.callLater(max(0.0, soonest - self._clock.seconds()), self._check_due)

    def _check_due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._due and next(iter(self._due.values())) <= now:
            key = next(iter(self._due))
            del self._due[key]
            self._overdue.setdefault(key, False)
            Deferred.fromCoroutine(self._check(key)).addErrback(self._fail)
        self._set_timer()

    async def _check(self, key: bytes) -> None:
        """Check whether an overdue claim still waits for its report, and log it once."""
        try:
            record = await self._find(key.decode())
        except StoreUnavailable:
            record = None
        else:
            if record is None or record.leader is None or record.unreported is None:
                self._overdue.pop(key, None)
        if key not in self._overdue:
            # It has ended, perhaps after the record was read.
            return
        if self._rechecks:
            self._due[key] = self._clock.seconds() + LONG_CLAIM_SECONDS
            self._set_timer()
        if record is not None and not self._overdue[key]:
            self._overdue[key] = True
            self._log_overdue(record)

    def _fail(self, failure: Failure) -> None:
        self._log.failure("a claim could not be checked", failure)

    def _log_overdue(self, record: Record) -> None:
        assert record.leader is not None
        assert record.unreported is not None
        self._log.warn(
            "a claim waits for its leader's first report: stop that node for good, or wipe its data directory, then"
            " run `rqdisco leader clear`",
            addr=record.leader.addr,
            times=record.unreported.times,
            discovery_id=record.id,
        )
