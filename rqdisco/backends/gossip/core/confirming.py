"""Confirm convergence by asking all members, before an ID is imported that is unknown here.

Any daemon may import a new ID, so the last report of a member is not enough: it may have been cut
off since, and have imported the ID as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import convergence, exchange, queries
from rqdisco.backends.gossip.core.state import Continuation, State, then


def confirm(state: State, on_done: Continuation) -> None:
    """Wait until the members are converged, as each reports from now on. The outcome is whether they
    are. Requests that come meanwhile are confirmed together, afterwards.
    """
    if state.confirming is None:
        _begin(state, (on_done,))
    else:
        state.confirming.append(on_done)


def _begin(state: State, waiting: Sequence[Continuation]) -> None:
    state.confirming = []
    convergence.wait(state, then(_converged, waiting))


def _converged(state: State, is_converged: bool, waiting: Sequence[Continuation]) -> None:
    if is_converged:
        _ask_next(state, None, tuple(peer.key for peer in queries.active_peers(state)), waiting)
    else:
        _end(state, False, waiting)


def _ask_next(state: State, outcome: Exception | None, keys: Sequence[int], waiting: Sequence[Continuation]) -> None:
    # A peer that was dropped meanwhile is no active member any more.
    remaining = [key for key in keys if key in state.contacts]
    if outcome is not None:
        _end(state, False, waiting)
    elif remaining:
        exchange.begin_round(state, state.contacts[remaining[0]], then(_ask_next, tuple(remaining[1:]), waiting))
    else:
        convergence.wait(state, then(_end, waiting))


def _end(state: State, is_converged: bool, waiting: Sequence[Continuation]) -> None:
    for on_done in waiting:
        state.resume(on_done, is_converged)
    if state.confirming:
        _begin(state, tuple(state.confirming))
    else:
        state.confirming = None
