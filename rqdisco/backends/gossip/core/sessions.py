"""Sessions that peers began here, and detection of two daemons with one identity (R8)."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from rqdisco.backends.gossip.core.peer_errors import duplicate_reason

_MAX_SESSIONS = 256


class Sender(msgspec.Struct, frozen=True):
    """The daemon that sends in a session: its incarnation, this start of it, and its name."""

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
        self._sessions: OrderedDict[str, Sender] = OrderedDict()
        self._current: dict[str, str] = {}
        self._past: dict[str, list[str]] = {}
        self._duplicates: dict[str, str] = {}

    def begin(self, name: str, sender: Sender) -> None:
        """Store the session begun by an answered hello."""
        self._sessions[name] = sender
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def touch(self, name: str) -> Sender | None:
        """Return the sender in a session and mark that recently used, None if there is none."""
        sender = self._sessions.get(name)
        if sender is not None:
            self._sessions.move_to_end(name)
        return sender

    def record_activity(self, sender: Sender) -> str | None:
        """Record a message; return a newly detected conflict, which bars the sender's current run
        from deciding.
        """
        incarnation, name = f"incarnation {sender.incarnation}", f"name {sender.name}"
        before, other = self._current.get(incarnation), self._current.get(name)
        if before == sender.run_id and other == sender.incarnation:
            return None
        duplicate: str | None = None
        duplicates: set[str] = set()
        if self._set_current(incarnation, sender.run_id, sender):
            duplicate = duplicate_reason(sender.incarnation)
            duplicates |= {sender.run_id, str(before)}
        if self._set_current(name, sender.incarnation, sender):
            duplicate = f"two daemons are called {sender.name}"
            duplicates |= {sender.run_id, self._current.get(f"incarnation {other}", "")}
        if duplicate is None or duplicates <= self._duplicates.keys():
            return None
        self._duplicates |= dict.fromkeys(duplicates, duplicate)
        return duplicate

    def duplicate_reason(self, run_id: str) -> str | None:
        """Return why this start of a daemon must not decide, None if it may."""
        return self._duplicates.get(run_id)

    def _set_current(self, identity: str, one: str, sender: Sender) -> bool:
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
        self._end_other_sessions(identity, sender)
        return is_back

    def _end_other_sessions(self, identity: str, sender: Sender) -> None:
        by_name = identity.startswith("name ")
        for name, each in list(self._sessions.items()):
            same = each.name == sender.name if by_name else each.incarnation == sender.incarnation
            if same and (each.incarnation, each.run_id) != (sender.incarnation, sender.run_id):
                del self._sessions[name]
