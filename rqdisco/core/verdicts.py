"""The health of the cluster under an ID: the verdict, and the evidence for it; `judgement` has the
judge. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from rqdisco.core.leaders import Leaders
from rqdisco.core.plurals import counted
from rqdisco.core.records import Node

NOTHING_TO_DO = "nothing to do"
_NAMED = 3
# Of the year 9999.
_LAST_SECOND = 253_402_300_799


class Health(StrEnum):
    """The health of a cluster."""

    FORMING = "forming"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    NO_QUORUM = "no quorum"
    WAITING = "waiting"
    TWO_LEADERS = "two leaders"
    OWNERLESS = "ownerless"
    UNKNOWN = "unknown"


# An operator has to act: no cluster forms, or no node can join.
UNHEALTHY = frozenset({Health.NO_QUORUM, Health.WAITING, Health.TWO_LEADERS, Health.OWNERLESS})


class Verdict(msgspec.Struct, frozen=True):
    """The health of a cluster, why, and what an operator can do next."""

    health: Health
    reason: str
    next_step: str = NOTHING_TO_DO


class ProbedNode(Protocol):
    """The result of probes of a node: up, down, or unknown where its name is `unresolved`, `since`
    so many seconds; `ready` is what the node itself reports, None if it does not.
    """

    @property
    def up(self) -> bool | None: ...

    @property
    def since(self) -> float: ...

    @property
    def unresolved(self) -> bool: ...

    @property
    def ready(self) -> bool | None: ...


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The knowledge of a daemon besides the record.

    `probed` returns what probes found of a node, None if nothing; `is_probing` is set if the daemon
    probes nodes at all, `has_owner` if some daemon may grant under the ID. `two_leaders` are two
    leaders that both report. `reported_recently` is set if the leader reported itself here within
    the last minute; over etcd a report that changes nothing is not in the record. `now_ms` is the
    wall clock in milliseconds since 1970.
    """

    probed: Callable[[Node], ProbedNode | None]
    is_probing: bool
    has_owner: bool
    two_leaders: Leaders | None
    now_ms: int
    reported_recently: bool = False


def seconds_since(milliseconds: int, evidence: Evidence) -> float:
    """Return the seconds since a time in milliseconds since 1970, such as the version of a record.

    Those until a time that has not come yet count alike: after the clock was set back, nobody knows
    how long ago that was, and nothing may look recent for days.
    """
    return abs(evidence.now_ms - milliseconds) / 1000


def utc(milliseconds: int) -> str:
    """Format a time in milliseconds since 1970 to the second, in ISO 8601. Versions of records may
    be later than any date.
    """
    return f"{datetime.fromtimestamp(min(milliseconds // 1000, _LAST_SECOND), UTC):%Y-%m-%dT%H:%M:%SZ}"


def probe_step(evidence: Evidence) -> str:
    """Return how to find out more about nodes that were not probed."""
    if not evidence.is_probing:
        return (
            "start the daemon with --probe 10 --probe-allow NETWORK, such as 10.0.0.0/24, or ask the nodes by hand:"
            " curl http://ADDRESS/readyz"
        )
    return "wait for the first probes, and see that --probe-allow includes the addresses of the nodes"


def count_of(count: int, total: int, one: str, many: str) -> str:
    """Return "1 of 3 nodes answers" or "2 of 3 nodes answer", by the verb for one and for many."""
    return f"{count:,} of {counted(total, 'node')} {one if count == 1 else many}"


def name_some(addrs: Sequence[str]) -> str:
    """Return the first addresses in words."""
    named = [*addrs[:_NAMED]]
    if len(addrs) > _NAMED:
        named.append(f"{len(addrs) - _NAMED} more")
    return "".join(named) if len(named) < 2 else f"{', '.join(named[:-1])} and {named[-1]}"
