"""The members: all incarnations that ever took part (R1, R7)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec.structs import replace

from rqdisco.backends.gossip.core.messages import Member, decode_message, encode_message
from rqdisco.core.codec import Malformed, Metadata
from rqdisco.core.ids import owner_tag, short_incarnations

_MEMBER = "!member/"
_STATES = ("member", "leaving", "forgotten", "drained")
ACTIVE_STATES = ("member", "leaving")


class Members:
    """All incarnations that ever took part, this daemon included. Changes are returned as metadata
    to store.

    `all` holds every one, lost ones too, sorted by incarnation; `active` those not gone for good;
    `others` the active ones except this daemon. Equal member lists have an equal `fingerprint`.
    """

    def __init__(self, own: Member, metadata: Iterable[Metadata] = ()) -> None:
        self.own = own
        self._known: dict[str, Member] = {}
        for each in metadata:
            if each.id.startswith(_MEMBER):
                self._known[each.owner] = decode_message(each.content.encode(), Member)
        before = self._known.get(own.incarnation)
        if before is not None:
            # Others may have declared this daemon gone for good.
            self.own = replace(own, state=before.state, successor=before.successor)
        self._known[own.incarnation] = self.own
        self._index()

    def get(self, incarnation: str) -> Member | None:
        """Return the member of an incarnation."""
        return self._known.get(incarnation)

    def named(self, name: str) -> list[Member]:
        """Return the active members of a name."""
        return [each for each in self.active if each.name == name]

    def label(self, member: Member) -> str:
        """Return the name of a member, with the short form of its incarnation where several members
        have that name.
        """
        if len(self.named(member.name)) < 2:
            return member.name
        return f"{member.name} ({short_incarnations(each.incarnation for each in self.all)[member.incarnation]})"

    def tagged(self, tag: str) -> list[Member]:
        """Return all members whose IDs begin with a tag (R1)."""
        return [each for each in self.all if owner_tag(each.incarnation) == tag]

    def current_owner(self, incarnation: str) -> str:
        """Return the current owner of the IDs that an incarnation created."""
        seen = set()
        while incarnation not in seen and (member := self._known.get(incarnation)) is not None:
            seen.add(incarnation)
            if member.state in ACTIVE_STATES or member.successor is None:
                break
            incarnation = member.successor
        return incarnation

    def has_lost(self, owner: str) -> bool:
        """Report whether the IDs of an owner are list-only: it was never a member, or was forgotten,
        or handed them over to one that was, which may have decided about them (R7).
        """
        seen = set()
        while owner not in seen:
            member = self._known.get(owner)
            if member is None or member.state == "forgotten":
                return True
            if member.state in ACTIVE_STATES or member.successor is None:
                break
            seen.add(owner)
            owner = member.successor
        return False

    def owner_of_name(self, discovery_id: str) -> str:
        """Return the owner of an ID that nobody created, by rendezvous hashing over member
        names.
        """
        return max(self.active, key=lambda each: (_weight(each.name, discovery_id), each.incarnation)).incarnation

    def learn(self, listed: Iterable[Member], *, first_hand: str | None = None) -> list[Metadata]:
        """Merge a peer's member list; return metadata to store. `first_hand` is the sender.

        A member is the authority on its own name, URL and features; a member gone for good stays gone.
        Invalid entries are ignored.
        """
        changed = []
        for member in listed:
            known = self._known.get(member.incarnation)
            if known == member or (known is None and not _is_valid(member)):
                continue
            now = _merge_member(known, member, is_first_hand=member.incarnation == first_hand)
            if now != known:
                changed.append(self._replace(now))
        if changed:
            self._index()
        return changed

    def differences(self, theirs: Iterable[Member]) -> tuple[str, ...]:
        """Describe how another daemon's list differs from this one; each text continues its
        name.
        """
        listed = {member.incarnation: member for member in theirs}
        texts = [
            f"lists {each.name} ({each.incarnation}), which is unknown here"
            for each in listed.values()
            if each.incarnation not in self._known
        ]
        for ours in self.all:
            other = listed.get(ours.incarnation)
            who = f"{ours.name} ({ours.incarnation})"
            if other is None:
                texts.append(f"does not list {who}")
            elif (other.state, other.successor) != (ours.state, ours.successor):
                texts.append(f"lists {who} as {other.state}, which is {ours.state} here")
        return tuple(texts)

    def put(self, member: Member) -> Metadata:
        """Replace a member; return metadata to store."""
        metadata = self._replace(member)
        self._index()
        return metadata

    def _replace(self, member: Member) -> Metadata:
        self._known[member.incarnation] = member
        if member.incarnation == self.own.incarnation:
            self.own = member
        return member_metadata(member)

    def _index(self) -> None:
        """Precompute what every message needs."""
        self.all = tuple(self._known[incarnation] for incarnation in sorted(self._known))
        self.active = tuple(each for each in self.all if each.state in ACTIVE_STATES)
        self.others = tuple(each for each in self.active if each.incarnation != self.own.incarnation)
        self.incarnations = frozenset(self._known)
        self.other_incarnations = frozenset(each.incarnation for each in self.others)
        entries = [f"{each.incarnation} {each.state} {each.successor} {each.declared_lost}" for each in self.all]
        self.fingerprint = hashlib.sha256("\n".join(entries).encode()).hexdigest()[:8]


def member_metadata(member: Member) -> Metadata:
    """Encode a member for the disk."""
    return Metadata(id=_MEMBER + member.incarnation, owner=member.incarnation, content=encode_message(member).decode())


def check_member(member: Member) -> None:
    """Check the member entry of a hello. Raises Malformed."""
    if not _is_valid(member):
        raise Malformed("not a member")


def _is_valid(member: Member) -> bool:
    is_short = len(member.name) <= 64 and len(member.url) <= 300 and sum(map(len, member.features)) <= 1000
    return bool(member.name) and len(member.incarnation) == 16 and is_short


def _merge_member(known: Member | None, other: Member, *, is_first_hand: bool) -> Member:
    if known is None:
        return other
    where = other if is_first_hand else known
    # A member gone for good stays gone; one that is leaving does not return by hearsay; of two
    # successors all daemons choose the same.
    further = max(known, other, key=_progress)
    declared_lost = known.declared_lost or other.declared_lost
    return replace(where, state=further.state, successor=further.successor, declared_lost=declared_lost)


def _progress(member: Member) -> tuple[int, list[int]]:
    return _STATES.index(member.state), [-ord(each) for each in member.successor or ""]


def _weight(name: str, discovery_id: str) -> bytes:
    return hashlib.sha256(f"{name}\0{discovery_id}".encode()).digest()
