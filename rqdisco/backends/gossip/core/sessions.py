"""Sessions that peers began here, and detection of two daemons with one identity (R8)."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from rqdisco.backends.gossip.core.peer_errors import duplicate_reason

_MAX_SESSIONS = 256


class Session(msgspec.Struct, frozen=True):
    """The daemon behind a session: its incarnation, this start of it, and its name."""

    incarnation: str
    run_id: str
    name: str


class Sessions:
    """Sessions by name, and detection of two daemons with one identity (R8).

    A message in a session proves its sender alive, since the session's name is only sent in an
    answer. When another run of an incarnation, or another incarnation of a name, is proved alive,
    earlier sessions of the identity end; a daemon that then comes back has been alive all the time.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._current: dict[str, str] = {}
        self._past: dict[str, list[str]] = {}
        self._duplicates: dict[str, str] = {}

    def begin(self, name: str, session: Session) -> None:
        """Store the session begun by an answered hello."""
        self._sessions[name] = session
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def touch(self, name: str) -> Session | None:
        """Return a session by name and mark it recently used, None if there is none."""
        session = self._sessions.get(name)
        if session is not None:
            self._sessions.move_to_end(name)
        return session

    def record_activity(self, session: Session) -> str | None:
        """Record a message; return a newly detected conflict, which bars the sender's current run
        from deciding.
        """
        incarnation, name = f"incarnation {session.incarnation}", f"name {session.name}"
        before, other = self._current.get(incarnation), self._current.get(name)
        if before == session.run_id and other == session.incarnation:
            return None
        duplicate: str | None = None
        duplicates: set[str] = set()
        if self._set_current(incarnation, session.run_id, session):
            duplicate = duplicate_reason(session.incarnation)
            duplicates |= {session.run_id, str(before)}
        if self._set_current(name, session.incarnation, session):
            duplicate = f"two daemons are called {session.name}"
            duplicates |= {session.run_id, self._current.get(f"incarnation {other}", "")}
        if duplicate is None or duplicates <= self._duplicates.keys():
            return None
        self._duplicates |= dict.fromkeys(duplicates, duplicate)
        return duplicate

    def duplicate_reason(self, run_id: str) -> str | None:
        """Return why this start of a daemon must not decide, None if it may."""
        return self._duplicates.get(run_id)

    def _set_current(self, identity: str, one: str, session: Session) -> bool:
        """Make `one` the current holder of an identity; return True if it held it before another
        did.
        """
        current = self._current.get(identity)
        if current == one:
            return False
        past = self._past.setdefault(identity, [])
        is_back = one in past
        if current is not None and current not in past:
            past.append(current)
        self._current[identity] = one
        self._end_other_sessions(identity, session)
        return is_back

    def _end_other_sessions(self, identity: str, session: Session) -> None:
        by_name = identity.startswith("name ")
        for name, each in list(self._sessions.items()):
            same = each.name == session.name if by_name else each.incarnation == session.incarnation
            if same and (each.incarnation, each.run_id) != (session.incarnation, session.run_id):
                del self._sessions[name]
