"""The state of a node, computed from the outcomes of its probes. Pure; times are seconds of a
monotonic clock.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal[
    "ready", "not_ready", "answered", "connected", "refused", "unreachable", "no_answer", "closed", "unresolved"
]

# A node that responds at all can be joined, or says that it cannot: rqlited responds 503 or 500 to
# /readyz while it has no leader, as every node does while a cluster forms, and versions before 6.5
# have no /readyz.
ALIVE: frozenset[Outcome] = frozenset(("ready", "not_ready", "answered", "connected"))
FAILURES_UNTIL_DOWN = 3
_MAX_BACKOFF = 10
_READY: dict[Outcome, bool] = {"ready": True, "not_ready": False}


class ProbeState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of one node."""

    # None until enough probes have failed, and while the name does not resolve, since then nothing
    # is probed.
    is_up: bool | None
    # Since when `is_up` holds; for a node that is down, the time of the first failed probe.
    since: float
    # When the last probe ended, and how.
    checked: float
    outcome: Outcome
    # How many probes in a row have failed, and when the first of them did.
    failures: int = 0
    failing: float = 0.0

    @property
    def is_unresolved(self) -> bool:
        """Report whether the name had no addresses at the last probe."""
        return self.outcome == "unresolved"


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The status of a node in answers of the APIs."""

    # None for an unresolved node.
    up: bool | None
    # For how many seconds the node has been up, down or unresolved.
    since: float
    # How many seconds ago the node was probed.
    checked: float
    unresolved: bool = False
    # What the node itself reports, None if it does not.
    ready: bool | None = None
    # The outcome of the last probe of a node that is down.
    why: Outcome | None = None


def next_state(before: ProbeState | None, outcome: Outcome, at: float) -> ProbeState:
    """Return the state after one more probe. One success makes a node up, three failures in a row
    make it down.

    A name that does not resolve is no failure of the node: it makes the state unknown and ends a
    row of failures.
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
    elif failures >= FAILURES_UNTIL_DOWN:
        is_up, since = False, failing
    return ProbeState(is_up=is_up, since=since, checked=at, outcome=outcome, failures=failures, failing=failing)


def backoff(state: ProbeState) -> int:
    """Return how many intervals to wait until the next probe: 1, growing to 10 while a node stays
    down or unresolved.
    """
    return min(_MAX_BACKOFF, 1 << max(0, state.failures - FAILURES_UNTIL_DOWN))


def node_status(state: ProbeState, now: float) -> NodeStatus | None:
    """Return the status for the APIs, None if it is unknown."""
    if state.is_up is None and not state.is_unresolved:
        return None
    return NodeStatus(
        up=state.is_up,
        since=round(now - state.since, 1),
        checked=round(now - state.checked, 1),
        unresolved=state.is_unresolved,
        ready=_READY.get(state.outcome),
        why=state.outcome if state.is_up is False else None,
    )
