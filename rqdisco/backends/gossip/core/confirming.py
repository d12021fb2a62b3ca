"""Ask all members whether they are converged, where what they last reported is not new enough.

Any daemon may import an ID that is new. Members that reported a second ago, and have been cut off
since, may have imported it as well.
"""

from __future__ import annotations

from rqdisco.backends.gossip.core import convergence, exchange, queries
from rqdisco.backends.gossip.core.state import Continuation, State, then


def confirm(state: State, on_done: Continuation) -> None:
    """Wait until the members are converged by what each answers from now on. The outcome is whether
    they are.
    """
    convergence.wait(state, then(_converged, on_done))


def _converged(state: State, is_converged: bool, on_done: Continuation) -> None:
    if is_converged:
        _ask_next(state, None, tuple(peer.key for peer in queries.active_peers(state)), on_done)
    else:
        state.resume(on_done, False)


def _ask_next(state: State, outcome: Exception | None, keys: tuple[int, ...], on_done: Continuation) -> None:
    # Those that were dropped meanwhile are no members any more.
    left = [key for key in keys if key in state.contacts]
    if outcome is not None:
        state.resume(on_done, False)
    elif left:
        exchange.begin_round(state, state.contacts[left[0]], then(_ask_next, tuple(left[1:]), on_done))
    else:
        convergence.wait(state, on_done)
