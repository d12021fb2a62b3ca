"""From what single probes met to what is held of a node: pure functions, times are seconds of a
monotonic clock.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal[
    "ready", "not_ready", "answered", "connected", "refused", "unreachable", "no_answer", "closed", "unresolved"
]

# Whoever says anything at all can be joined, or says so: rqlited answers /readyz with 503 as long
# as it knows of no leader, as every node does while a cluster forms, and versions before 6.5 have
# no /readyz.
ALIVE: frozenset[Outcome] = frozenset(("ready", "not_ready", "answered", "connected"))
FAILURES = 3
_MOST_PAUSES = 10
_READY: dict[Outcome, bool] = {"ready": True, "not_ready": False}


class ProbeState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is held of a node. `is_up` is None as long as too few probes failed for a judgement, and
    where its name does not resolve: then nothing was probed, and nothing is known.

    It has been so `since`, which for one that is down is the first of the probes that failed;
    `failures` of them came in a row up to now, the first at `failing`. `outcome` is that of the
    last one.
    """

    is_up: bool | None
    since: float
    checked: float
    outcome: Outcome
    failures: int = 0
    failing: float = 0.0

    @property
    def is_unresolved(self) -> bool:
        """Whether the last probe met nobody because its name has no addresses."""
        return self.outcome == "unresolved"


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What others are told: for how many seconds the node has been up, down or `unresolved`, and
    how many ago it was probed.

    `up` is None for one that is unresolved, of which nothing is known. `ready` is what the node
    says of itself, None where it does not say; `why` is what the last probe of one that is down
    met.
    """

    up: bool | None
    since: float
    checked: float
    unresolved: bool = False
    ready: bool | None = None
    why: Outcome | None = None


def next_state(before: ProbeState | None, outcome: Outcome, at: float) -> ProbeState:
    """What is held after one more probe: one success is enough to be up, three failures in a row to
    be down.

    That a name does not resolve is no failure of its node: it ends what was held before, and
    failures in a row.
    """
    if outcome in ALIVE:
        since = before.since if before is not None and before.is_up else at
        return ProbeState(is_up=True, since=since, checked=at, outcome=outcome)
    is_unresolved = outcome == "unresolved"
    failures, failing = 1, at
    if before is not None and before.failures and before.is_unresolved == is_unresolved:
        failures, failing = before.failures + 1, before.failing
    is_up, since = (None, at) if before is None else (before.is_up, before.since)
    if is_unresolved:
        is_up, since = None, failing
    elif failures >= FAILURES:
        is_up, since = False, failing
    return ProbeState(is_up=is_up, since=since, checked=at, outcome=outcome, failures=failures, failing=failing)


def pauses(standing: ProbeState) -> int:
    """How many intervals to wait until the next probe: one, but up to ten for a node that stays
    down or unresolved.
    """
    return min(_MOST_PAUSES, 1 << max(0, standing.failures - FAILURES))


def node_status(standing: ProbeState, now: float) -> NodeStatus | None:
    """What others are told; None as long as nothing is known."""
    if standing.is_up is None and not standing.is_unresolved:
        return None
    return NodeStatus(
        up=standing.is_up,
        since=round(now - standing.since, 1),
        checked=round(now - standing.checked, 1),
        unresolved=standing.is_unresolved,
        ready=_READY.get(standing.outcome),
        why=standing.outcome if standing.is_up is False else None,
    )
