"""Wait until all members agree on the membership, and this daemon has all their changes.

Only then is an ID that is unknown here new: no other member has created it by name or imported it.
"""

from __future__ import annotations

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.state import Continuation, State, then

# Changes in flight when a claim arrives are replicated well within this time.
WAIT_SECONDS = 1.0


def wait(state: State, on_done: Continuation) -> None:
    """Wait up to a second until the members are converged. The outcome is whether they are."""
    if queries.is_converged(state):
        state.resume(on_done, True)
    else:
        number = state.call_at(state.now.seconds + WAIT_SECONDS, then(_too_late))
        state.convergence_waits[number] = on_done
        if not state.is_running:
            give_up(state)


def give_up(state: State) -> None:
    """Wait no longer: the daemon stops, and no time passes for it."""
    for number in list(state.convergence_waits):
        _too_late(state, number)


def objection(state: State) -> str:
    """Return why members are not converged, in words that continue a sentence."""
    if state.unidentified:
        return "not all peers were contacted"
    silent = [state.members.label(each) for each in state.members.others if not queries.is_up(state, each.incarnation)]
    if silent:
        return f"{' and '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer"
    for member in state.members.others:
        if state.peers[member.incarnation].has_unmet:
            return f"{state.members.label(member)} has not met all its peers"
    return (
        "changes of peers are missing here" if queries.members_agree(state) else "peers do not agree on who is a member"
    )


def update(state: State) -> None:
    """Resume the waiting requests if the members are converged; call after each digest and cursor change."""
    if state.convergence_waits and queries.is_converged(state):
        waiting, state.convergence_waits = state.convergence_waits, {}
        for on_done in waiting.values():
            state.resume(on_done, True)


def _too_late(state: State, number: int) -> None:
    on_done = state.convergence_waits.pop(number, None)
    if on_done is not None:
        state.resume(on_done, False)
