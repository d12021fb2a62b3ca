"""Detect two clusters under one ID from the reports of leaders. Detection changes no decision.

A store shows it every change that settles, local or replicated: every report is a new version of
the record, so each daemon sees the reports of all IDs it holds, whichever daemon received them.
Reports written in one batch count as one, which hides two leaders only while both report within the
same milliseconds. A backend without a store passes on the reports that it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rqdisco.core import codec
from rqdisco.core.leaders import WINDOW_SECONDS, LeaderReports, Leaders
from rqdisco.core.records import Leader, Record
from rqdisco.core.views import View
from rqdisco.storage.memory import Change
from rqdisco.telemetry.events import Event, Events

_KIND = "two leaders"
_HAS_LEADER = b'"leader":{'


class LeaderMonitor(Service):
    """The IDs that have two leaders now. Emits an event, a log line and a callback when a conflict
    starts and when it ends.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, events: Events) -> None:
        self._clock = clock
        self._events = events
        self._reports = LeaderReports()
        self._subscribers: list[Callable[[str], None]] = []
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """The number of IDs with two leaders."""
        return len(self._reports)

    def of(self, discovery_id: str) -> Leaders | None:
        """Return the addresses of the two leaders that report under an ID, None unless there are
        two.
        """
        return self._reports.of(discovery_id)

    def reported_recently(self, discovery_id: str, leader: str) -> bool:
        """Report whether a leader, given by its Raft address, was the last to report itself here under
        an ID, within the last minute.
        """
        last = self._reports.last(discovery_id)
        return last is not None and last.leader == leader and self._clock.seconds() - last.at <= WINDOW_SECONDS

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Call `changed` with each ID whose conflict starts or ends."""
        self._subscribers.append(changed)

    def settled(self, changes: Sequence[Change]) -> None:
        """Inspect changes that are durable now; called by a store."""
        for change in changes:
            if _HAS_LEADER in change.rest:
                record = codec.decode_record(change.line)
                leader = reported_leader(record)
                if leader is not None:
                    self.reported(record.id, leader)

    def reported(self, discovery_id: str, leader: str, version: int = 0) -> None:
        """Note that a leader, given by its Raft address, reported itself under an ID. `version` is that
        of the record, 0 if reports come in the order of versions.
        """
        if not self._reports.report(discovery_id, leader, self._clock.seconds(), version):
            return
        leaders = " and ".join(self._reports.of(discovery_id) or ())
        self._log.error(
            "two clusters under one ID, whose leaders both report themselves: {leaders} (see docs/rqlite.md)",
            leaders=leaders,
            discovery_id=discovery_id,
        )
        self._notify(discovery_id, "noticed", leaders)
        self._set_timer()

    def startService(self) -> None:
        super().startService()
        self._set_timer()

    def stopService(self) -> Deferred[None] | None:
        stopping: Deferred[None] | None = super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return stopping

    def _notify(self, discovery_id: str, outcome: str, leaders: str | None = None) -> None:
        self._events.publish(Event(kind=_KIND, outcome=outcome, id=discovery_id, why=leaders, logged=False))
        for changed in self._subscribers:
            changed(discovery_id)

    def _set_timer(self) -> None:
        end = self._reports.next_end
        if self.running and self._timer is None and end is not None:
            self._timer = self._clock.callLater(max(0.0, end - self._clock.seconds()), self._end_reports)

    def _end_reports(self) -> None:
        self._timer = None
        for discovery_id in self._reports.expire(self._clock.seconds()):
            self._log.info(
                "two leaders no longer seen: for one minute at most one leader has reported", discovery_id=discovery_id
            )
            self._notify(discovery_id, "over")
        self._set_timer()


def reported_leader(record: Record) -> str | None:
    """Return the Raft address of the leader that this version of a record reports, None if it is no
    report.
    """
    leader = record.leader
    if leader is None or not record.confirmed or leader.modified != record.version:
        return None
    return raft_address(record, leader)


def raft_address(record: Record | View, leader: Leader) -> str:
    """Return the Raft address of a record's leader."""
    return next((node.raft_addr or node.addr for node in record.nodes if node.addr == leader.addr), leader.addr)
