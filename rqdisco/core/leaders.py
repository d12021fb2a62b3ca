"""Detect two clusters under one ID: their leaders report themselves in turn. Pure.

From rqlite 7.16 on a leader reports itself every 10 seconds (rqlite cluster/disco/service.go). An
election changes the reporter once; two leaders change it again and again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

WINDOW_SECONDS = 60.0
MAX_IDS = 20_000
# Enough for two leaders within the window, of each the last two in a row.
_MAX_REPORTS = 16

Leaders = tuple[str, str]


class Report(msgspec.Struct, frozen=True, gc=False):
    """A leader's report: when, by a monotonic clock, the address by which nodes join it, and the
    version of the record that shows it, 0 if reports come in the order of versions.
    """

    at: float
    leader: str
    version: int = 0


class _TwoLeaders(msgspec.Struct, frozen=True, gc=False):
    leaders: Leaders
    until: float


def alternating(reports: Sequence[Report]) -> Leaders | None:
    """Return two leaders, the first to report first, of whom one reported, then the other, then the
    first again, and each at least twice; None if there are none.

    The last report is from one of them.
    """
    last = reports[-1].leader
    leaders = [report.leader for report in reports]
    since = leaders.index(last)
    if since == len(leaders) - 1:
        return None
    for other in leaders[since:]:
        if other != last and leaders.count(other) > 1:
            return (last, other) if since < leaders.index(other) else (other, last)
    return None


class LeaderReports:
    """The reports of the last minute, for up to `max_ids` IDs, and the IDs that have two leaders.

    An ID has two until only one leader, or none, has reported for a minute.
    """

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._max_ids = max_ids
        # Ordered by last report.
        self._reports: OrderedDict[str, list[Report]] = OrderedDict()
        self._two: dict[str, _TwoLeaders] = {}

    def __len__(self) -> int:
        """Return the number of IDs with two leaders."""
        return len(self._two)

    def of(self, discovery_id: str) -> Leaders | None:
        """Return the two leaders of an ID, None if it does not have two."""
        known = self._two.get(discovery_id)
        return None if known is None else known.leaders

    def last(self, discovery_id: str) -> Report | None:
        """Return the last report under an ID, None if it may be older than a minute."""
        reports = self._reports.get(discovery_id)
        return None if reports is None else reports[-1]

    @property
    def next_end(self) -> float | None:
        """The earliest time at which one of the IDs may have one leader again."""
        return min((each.until for each in self._two.values()), default=None)

    def report(self, discovery_id: str, leader: str, now: float, version: int = 0) -> bool:
        """Add a report; return whether the ID has two leaders from now on."""
        last = self.last(discovery_id)
        if last is not None and version < last.version and last.at >= now - WINDOW_SECONDS:
            # It was made before the last one, and became known later.
            return False
        reports = self._add(discovery_id, Report(now, leader, version))
        known = self._two.get(discovery_id)
        if known is not None:
            before = reports[-2].leader if len(reports) > 1 else leader
            if before != leader:
                leaders = known.leaders if {before, leader} == set(known.leaders) else (before, leader)
                self._two[discovery_id] = _TwoLeaders(leaders, now + WINDOW_SECONDS)
            return False
        two = alternating(reports)
        if two is None or len(self._two) >= self._max_ids:
            return False
        self._two[discovery_id] = _TwoLeaders(two, now + WINDOW_SECONDS)
        return True

    def expire(self, now: float) -> list[str]:
        """Remove and return the IDs that no longer have two leaders."""
        over = [discovery_id for discovery_id, each in self._two.items() if each.until <= now]
        for discovery_id in over:
            del self._two[discovery_id]
        return over

    def _add(self, discovery_id: str, report: Report) -> list[Report]:
        """Return the reports of an ID within the window, the new one last."""
        first = report.at - WINDOW_SECONDS
        reports = [each for each in self._reports.pop(discovery_id, ()) if each.at >= first]
        if len(reports) > 1 and reports[-1].leader == reports[-2].leader == report.leader:
            del reports[-2]
        reports.append(report)
        self._reports[discovery_id] = reports[-_MAX_REPORTS:]
        self._forget(first)
        return reports

    def _forget(self, first: float) -> None:
        while len(self._reports) > self._max_ids:
            self._reports.popitem(last=False)
        while next(iter(self._reports.values()))[-1].at < first:
            self._reports.popitem(last=False)
