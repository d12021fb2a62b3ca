"""Who takes part: members, the sessions they began, and twins that must not be (R1, R7, R8)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from rqdisco.backends.gossip.transport.messages import Member, decode_message, encode_message
from rqdisco.core.codec import Malformed, Metadata
from rqdisco.core.ids import tag

_MEMBER = "!member/"
_STATES = ("member", "leaving", "forgotten", "drained")
_TAKING_PART = ("member", "leaving")
_MOST_SESSIONS = 256


class Session(msgspec.Struct, frozen=True):
    """Who speaks in a session, and what name it goes by."""

    incarnation: str
    boot: str
    name: str


class Members:
    """All incarnations that ever took part, this daemon's own included. What changes is handed back
    to be noted.

    `all` are all of them, the lost ones too, in the order of their incarnations, `taking_part`
    those that are not gone for good, `others` the same but for this daemon; `agreed` is the same
    where the same members are known.
    """

    def __init__(self, own: Member, notes: Iterable[Metadata] = ()) -> None:
        self.own = own
        self._known: dict[str, Member] = {}
        for note in notes:
            if note.id.startswith(_MEMBER):
                self._known[note.owner] = decode_message(note.content.encode(), Member)
        before = self._known.get(own.incarnation)
        if before is not None:
            # Others may have found that this daemon is gone for good.
            self.own = replace(own, state=before.state, successor=before.successor)
        self._known[own.incarnation] = self.own
        self._changed()

    def get(self, incarnation: str) -> Member | None:
        """What is known of an incarnation."""
        return self._known.get(incarnation)

    def named(self, name: str) -> list[Member]:
        """Those of that name who take part."""
        return [each for each in self.taking_part if each.name == name]

    def tagged(self, tag_: str) -> list[Member]:
        """All whose IDs begin with a tag (R1)."""
        return [each for each in self.all if tag(each.incarnation) == tag_]

    def current_owner(self, incarnation: str) -> str:
        """Who is the home of an incarnation's IDs by now."""
        seen = set()
        while incarnation not in seen and (member := self._known.get(incarnation)) is not None:
            seen.add(incarnation)
            if member.state in _TAKING_PART or member.successor is None:
                break
            incarnation = member.successor
        return incarnation

    def has_lost(self, owner: str) -> bool:
        """Whether the IDs of a home have nobody who may grant: it was forgotten, or is nobody's
        member (R7).
        """
        member = self._known.get(owner)
        return member is None or member.state == "forgotten"

    def owner_of_name(self, discovery_id: str) -> str:
        """Who is to be the home of an ID that nobody minted: rendezvous hashing over the names of
        the members.
        """
        return max(self.taking_part, key=lambda each: (_weight(each.name, discovery_id), each.incarnation)).incarnation

    def learn(self, told: Iterable[Member], *, by_itself: str | None = None) -> list[Metadata]:
        """Take over what a peer knows of members; return what has to be noted. `by_itself` is who
        spoke.

        Of itself a member knows best where it is; whoever is gone for good stays gone.
        """
        changed = []
        for member in told:
            known = self._known.get(member.incarnation)
            now = _merged(known, member, is_first_hand=member.incarnation == by_itself)
            if now != known:
                changed.append(self.put(now))
        return changed

    def differences(self, theirs: Iterable[Member]) -> tuple[str, ...]:
        """How another daemon's list differs from this one, in words that go on after its name."""
        told = {member.incarnation: member for member in theirs}
        found = [
            f"knows {each.name} ({each.incarnation}), which is not known here"
            for each in told.values()
            if each.incarnation not in self._known
        ]
        for ours in self.all:
            other = told.get(ours.incarnation)
            who = f"{ours.name} ({ours.incarnation})"
            if other is None:
                found.append(f"does not know {who}")
            elif (other.state, other.successor) != (ours.state, ours.successor):
                found.append(f"takes {who} for {other.state}, which is {ours.state} here")
        return tuple(found)

    def put(self, member: Member) -> Metadata:
        """Change what is known of a member; return what has to be noted."""
        self._known[member.incarnation] = member
        if member.incarnation == self.own.incarnation:
            self.own = member
        self._changed()
        return member_metadata(member)

    def _changed(self) -> None:
        """What is asked for at every message is worked out at a change only."""
        self.all = tuple(self._known[incarnation] for incarnation in sorted(self._known))
        self.taking_part = tuple(each for each in self.all if each.state in _TAKING_PART)
        self.others = tuple(each for each in self.taking_part if each.incarnation != self.own.incarnation)
        told = [f"{each.incarnation} {each.state} {each.successor} {each.given_up}" for each in self.all]
        self.agreed = hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def member_metadata(member: Member) -> Metadata:
    """What a disk keeps of a member."""
    return Metadata(id=_MEMBER + member.incarnation, owner=member.incarnation, content=encode_message(member).decode())


class Sessions:
    """Who may speak under which session's name, and whether two speak with one identity (R8).

    A session proves that its owner is alive once something is said in it: its name is only told in
    an answer. When another boot of an incarnation, or another incarnation of a name, is proved to
    be alive, what was begun before is forgotten; whoever then comes back has been alive all the
    time.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._current: dict[str, str] = {}
        self._past: dict[str, list[str]] = {}
        self._duplicates: dict[str, str] = {}

    def begin(self, name: str, session: Session) -> None:
        """A hello was answered."""
        self._sessions[name] = session
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def heard(self, name: str) -> Session | None:
        """Something was said in a session; None if there is none of that name."""
        session = self._sessions.get(name)
        if session is not None:
            self._sessions.move_to_end(name)
        return session

    def note(self, session: Session) -> str | None:
        """Call for all that is heard; returns what newly shows of a twin, beside which this boot
        must not decide.
        """
        incarnation = f"incarnation {session.incarnation}"
        before = self._current.get(incarnation)
        duplicate: str | None = None
        duplicates: set[str] = set()
        if self._switch(incarnation, session.boot, session):
            duplicate = f"two daemons run as {incarnation}"
            duplicates |= {session.boot, str(before)}
        name = f"name {session.name}"
        other = self._current.get(name)
        if self._switch(name, session.incarnation, session):
            duplicate = f"two daemons are called {session.name}"
            duplicates |= {session.boot, self._current.get(f"incarnation {other}", "")}
        if duplicate is None or duplicates <= self._duplicates.keys():
            return None
        self._duplicates |= dict.fromkeys(duplicates, duplicate)
        return duplicate

    def duplicate(self, session: Session) -> str | None:
        """Why the boot that speaks in a session must not decide anything, if it must not."""
        return self._duplicates.get(session.boot)

    def _switch(self, identity: str, one: str, session: Session) -> bool:
        """Make `one` the current bearer of an identity; true if it bore it before another did."""
        current = self._current.get(identity)
        if current == one:
            return False
        past = self._past.setdefault(identity, [])
        is_back = one in past
        if current is not None and current not in past:
            past.append(current)
        self._current[identity] = one
        self._forget_others(identity, session)
        return is_back

    def _forget_others(self, identity: str, session: Session) -> None:
        by_name = identity.startswith("name ")
        for name, each in list(self._sessions.items()):
            same = each.name == session.name if by_name else each.incarnation == session.incarnation
            if same and (each.incarnation, each.boot) != (session.incarnation, session.boot):
                del self._sessions[name]


def check_member(member: Member) -> None:
    """Raises Malformed for what no daemon says of itself."""
    is_short = len(member.name) <= 64 and len(member.url) <= 300 and sum(map(len, member.features)) <= 1000
    if not member.name or len(member.incarnation) != 16 or not is_short:
        raise Malformed("not a member")


def _merged(known: Member | None, told: Member, *, is_first_hand: bool) -> Member:
    if known is None:
        return told
    where = told if is_first_hand else known
    # Who is gone for good stays so; who is to go does not come back by hearsay, and of two
    # successors one is meant.
    further = max(known, told, key=_progress)
    given_up = known.given_up or told.given_up
    return replace(where, state=further.state, successor=further.successor, given_up=given_up)


def _progress(member: Member) -> tuple[int, list[int]]:
    return _STATES.index(member.state), [-ord(each) for each in member.successor or ""]


def _weight(name: str, discovery_id: str) -> bytes:
    return hashlib.sha256(f"{name}\0{discovery_id}".encode()).digest()
