"""Track claims that wait for their leaders' first reports (R5c), and report those that have waited
long: an operator has to end them.

The set is updated with every change, since scanning a million records on request is too slow.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rqdisco.core.records import LONG_CLAIM_SECONDS
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.node_counter import is_claimed

MAX_TRACKED = 10_000


class ClaimMonitor(Service):
    """Claims awaiting a first report, in this daemon's own IDs and in copies; at most 10,000 are
    tracked.

    A claim's waiting time counts from when this daemon received it, by the monotonic clock.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: Store) -> None:
        self._clock = clock
        self._store = store
        # When each claim becomes overdue, earliest first.
        self._due: dict[bytes, float] = {}
        self._overdue: set[bytes] = set()
        self._timer: IDelayedCall | None = None
        store.on_settled.append(self._settled)
        store.on_dropped.append(self._dropped)

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
        many = "1 claim waits" if self.count == 1 else f"{self.count} claims wait"
        return [
            f"{many} for a leader's first report for more than a minute; the daemon's log names ID and node: stop that"
            " node for good, or wipe its data directory, then run `rqdisco leader clear`"
        ]

    def found(self, discovery_id: str) -> None:
        """Track a claim found at start, unless it has ended since."""
        key = discovery_id.encode()
        rest = self._store.rest(key)
        if rest is not None and is_claimed(rest):
            self._track(key)

    def _settled(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if is_claimed(change.rest):
                self._track(change.key)
            elif self._due or self._overdue:
                self._untrack(change.key)

    def _dropped(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._untrack(key)

    def _track(self, key: bytes) -> None:
        if key in self._due or key in self._overdue or len(self._due) + len(self._overdue) >= MAX_TRACKED:
            return
        self._due[key] = self._clock.seconds() + LONG_CLAIM_SECONDS
        self._set_timer()

    def _untrack(self, key: bytes) -> None:
        self._due.pop(key, None)
        self._overdue.discard(key)

    def _set_timer(self) -> None:
        if self.running and self._timer is None and self._due:
            soonest = next(iter(self._due.values()))
            self._timer = self._clock.callLater(max(0.0, soonest - self._clock.seconds()), self._report_overdue)

    def _report_overdue(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._due and next(iter(self._due.values())) <= now:
            key = next(iter(self._due))
            del self._due[key]
            self._overdue.add(key)
            self._log_overdue(key.decode())
        self._set_timer()

    def _log_overdue(self, discovery_id: str) -> None:
        record = self._store.settled(discovery_id)
        if record is None or record.leader is None or record.unreported is None:
            return
        self._log.warn(
            "a claim waits for its leader's first report: stop that node for good, or wipe its data directory, then"
            " run `rqdisco leader clear`",
            addr=record.leader.addr,
            times=record.unreported.times,
            discovery_id=discovery_id,
        )
