"""The choice of the daemon that an operator declares lost (R7). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.members import ACTIVE_STATES, Members
from rqdisco.backends.gossip.core.messages import Member
from rqdisco.backends.gossip.core.state import State
from rqdisco.core.errors import NoSuccessor
from rqdisco.core.ids import SHORT_INCARNATION


def find_lost(state: State, name: str) -> Member:
    """Return the member to forget, given by its name, its incarnation or the beginning of it.

    Of several daemons of one name it is the one that does not answer. Raises NoSuccessor where
    none does, where all answer, or where there is none.
    """
    members = state.members
    known = _known(members, name)
    unreachable = [each for each in known if not queries.is_up(state, each.incarnation)]
    unfinished = [each for each in unreachable if each.state in ACTIVE_STATES] or [
        each
        for each in unreachable
        if each.state == "forgotten" and members.current_owner(each.incarnation) == members.own.incarnation
    ]
    if not unfinished:
        raise NoSuccessor(_why_none(state, name, known))
    # Prefer one that is being forgotten already.
    lost = next((each for each in unfinished if each.state == "leaving"), unfinished[0])
    has_own_name = lost.name == members.own.name
    # A drained incarnation does not come back.
    may_come_back = [each for each in known if each.state != "drained"]
    is_any_up = any(each not in unreachable for each in may_come_back)
    if lost.state == "member" and len(may_come_back) > 1 and not (is_any_up or has_own_name):
        raise NoSuccessor(
            f"no daemon called {name} answers, and the one that came back without its disk may only be cut off:"
            f" try again when it answers, or name the lost incarnation: {_listed(state, known)}"
        )
    return lost


def _known(members: Members, name: str) -> Sequence[Member]:
    """Return the other daemons that a name or an incarnation stands for. Raises NoSuccessor."""
    others = [each for each in members.all if each.incarnation != members.own.incarnation]
    named = [each for each in others if each.name == name]
    if named:
        return named
    begin_so = [
        each for each in members.all if len(name) >= SHORT_INCARNATION and each.incarnation.startswith(name.lower())
    ]
    if len(begin_so) > 1:
        raise NoSuccessor(f"several incarnations begin with {name}: {', '.join(each.incarnation for each in begin_so)}")
    if not begin_so or begin_so[0] not in others:
        raise NoSuccessor(f"no peer is called {name}")
    return begin_so


def _why_none(state: State, name: str, known: Sequence[Member]) -> str:
    """Explain why none of these daemons can be forgotten."""
    if len(known) == 1:
        return f"{name} answers, or is gone already; drain a peer that answers"
    if len([each for each in known if queries.is_up(state, each.incarnation)]) > 1:
        return (
            f"several daemons called {name} answer: stop the one that is to go, then name its incarnation:"
            f" {_listed(state, known)}"
        )
    return f"every daemon called {name} answers, or is gone already; drain a peer that answers: {_listed(state, known)}"


def _listed(state: State, known: Sequence[Member]) -> str:
    # The one that answers comes first, as in `rqdisco peers`.
    in_order = sorted(known, key=lambda each: (not queries.is_up(state, each.incarnation), each.url, each.incarnation))
    return ", ".join(f"{each.incarnation} ({_state(state, each)})" for each in in_order)


def _state(state: State, member: Member) -> str:
    if member.state != "member":
        return member.state
    return "up" if queries.is_up(state, member.incarnation) else "unreachable"
