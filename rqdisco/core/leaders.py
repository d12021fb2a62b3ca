"""Two clusters under one ID: their leaders take turns in reporting themselves, as those of one
cluster do not. Pure.

From rqlite 7.16 on a leader reports itself every 10 seconds (rqlite cluster/disco/service.go). An
election changes the reporter once; two leaders change it again and again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

WINDOW_SECONDS = 60.0
MOST_IDS = 20_000
# As much as two leaders report within the window, and of each the last two in a row.
_MOST_REPORTS = 16

Leaders = tuple[str, str]


class Report(msgspec.Struct, frozen=True, gc=False):
    """A leader reported itself: when, by a clock that never steps, and which address others join it
    by.
    """

    at: float
    leader: str


class _Found(msgspec.Struct, frozen=True, gc=False):
    leaders: Leaders
    until: float


def alternating(reports: Sequence[Report]) -> Leaders | None:
    """Two leaders of whom one reported itself, then the other, then the first again, and each at
    least twice.

    The last report is one of theirs, or they were seen before. The first of the two is the one that
    was seen first.
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
    """The reports of the last minute, of `most` IDs at most, and the IDs that have two leaders.

    An ID has two until the reporter has been the same for a minute, or silent.
    """

    def __init__(self, most: int = MOST_IDS) -> None:
        self._most = most
        # The IDs that were reported last are the last.
        self._reports: OrderedDict[str, list[Report]] = OrderedDict()
        self._found: dict[str, _Found] = {}

    def __len__(self) -> int:
        """How many IDs have two leaders."""
        return len(self._found)

    def of(self, discovery_id: str) -> Leaders | None:
        """The two leaders of an ID, None if it does not have two."""
        found = self._found.get(discovery_id)
        return None if found is None else found.leaders

    @property
    def next_end(self) -> float | None:
        """When the first of the IDs may have one leader again."""
        return min((found.until for found in self._found.values()), default=None)

    def report(self, discovery_id: str, leader: str, now: float) -> bool:
        """Take in a report; whether it is news that the ID has two leaders."""
        reports = self._kept(discovery_id, Report(now, leader))
        found = self._found.get(discovery_id)
        if found is not None:
            before = reports[-2].leader if len(reports) > 1 else leader
            if before != leader:
                leaders = found.leaders if {before, leader} == set(found.leaders) else (before, leader)
                self._found[discovery_id] = _Found(leaders, now + WINDOW_SECONDS)
            return False
        two = alternating(reports)
        if two is None or len(self._found) >= self._most:
            return False
        self._found[discovery_id] = _Found(two, now + WINDOW_SECONDS)
        return True

    def ended(self, now: float) -> list[str]:
        """The IDs that have two leaders no more; they are forgotten."""
        over = [discovery_id for discovery_id, found in self._found.items() if found.until <= now]
        for discovery_id in over:
            del self._found[discovery_id]
        return over

    def _kept(self, discovery_id: str, report: Report) -> list[Report]:
        """The reports of an ID within the window, this one the last."""
        first = report.at - WINDOW_SECONDS
        reports = [each for each in self._reports.pop(discovery_id, ()) if each.at >= first]
        if len(reports) > 1 and reports[-1].leader == reports[-2].leader == report.leader:
            del reports[-2]
        reports.append(report)
        self._reports[discovery_id] = reports[-_MOST_REPORTS:]
        self._forget(first)
        return reports

    def _forget(self, first: float) -> None:
        while len(self._reports) > self._most:
            self._reports.popitem(last=False)
        while next(iter(self._reports.values()))[-1].at < first:
            self._reports.popitem(last=False)
