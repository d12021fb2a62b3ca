"""Wait until all members agree on the membership, and this daemon has all their changes.

Only then is an ID that is unknown here new: no other member has created it by name or imported it.
"""

from __future__ import annotations

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.state import State, Then, then

# Changes in flight when a claim arrives are replicated well within this time.
WAIT_SECONDS = 1.0


def wait(state: State, go_on: Then) -> None:
    """Wait up to a second until the members are converged. The outcome is whether they are."""
    if queries.is_converged(state):
        state.go_on(go_on, True)
    else:
        number = state.call_at(state.now.seconds + WAIT_SECONDS, then(_too_late))
        state.convergence_waits[number] = go_on


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
    """Go on if the members are converged; call after each digest and cursor change."""
    if state.convergence_waits and queries.is_converged(state):
        waiting, state.convergence_waits = state.convergence_waits, {}
        for go_on in waiting.values():
            state.go_on(go_on, True)


def _too_late(state: State, number: int) -> None:
    go_on = state.convergence_waits.pop(number, None)
    if go_on is not None:
        state.go_on(go_on, False)
