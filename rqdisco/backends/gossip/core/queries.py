"""Read-only questions about the state."""

from __future__ import annotations

from rqdisco.backends.gossip.core.state import Peer, State
from rqdisco.core import host_binding, records
from rqdisco.core.records import Record
from rqdisco.core.views import View, view_of


def shown(state: State, discovery_id: str) -> Record | None:
    """Return the record on the disk, without a pending grant."""
    record, pending = state.store.settled(discovery_id), state.pending_grants.get(discovery_id)
    if record is None or pending is None or pending.before is None or record.version <= pending.before.version:
        return record
    return pending.before


def newest(state: State, discovery_id: str) -> Record | None:
    """Return the newest record, without a pending grant."""
    pending = state.pending_grants.get(discovery_id)
    return state.store.newest(discovery_id) if pending is None or pending.before is None else pending.before


def view(state: State, record: Record) -> View:
    """Return a record as nodes see it, with the nodes answered here that its owner may lack."""
    is_owner = record.owner == state.own
    if is_owner:
        record = host_binding.rename_host(record, state.config.host)
    return view_of(record, is_owner=is_owner, hinted=state.hints.nodes(record.id))


def normalized(state: State, record: Record) -> Record:
    """Return an own record with this machine's present name, and its grant marked as answered: a
    grant still stored as pending is from an earlier start.
    """
    if record.host is not None:
        record = host_binding.rename_host(record, state.config.host)
    is_pending = record.grant is not None and record.grant.pending
    return records.with_grant_answered(record) if is_pending and not record.ownerless else record


def inspect(state: State, discovery_id: str) -> Record | None:
    """Return the whole record on the disk."""
    record = shown(state, discovery_id)
    return normalized(state, record) if record is not None and record.owner == state.own else record


def owner(state: State, record: View | Record) -> str:
    """Return the current owner; this daemon, if the record's owner was never a member."""
    current = state.members.current_owner(record.owner)
    return current if current in state.members.incarnations else state.own


def has_owner(state: State, record: View | Record) -> bool:
    """Report whether some daemon may grant under the ID (R7)."""
    return not record.ownerless and not state.members.has_lost(record.owner)


def seconds_since_owner_contact(state: State, record: View | Record, seconds: float) -> float | None:
    """Return seconds since the last contact with the owner of a record, None if there was none."""
    of = owner(state, record)
    return 0.0 if of == state.own else seconds_since_contact(state, of, seconds)


def handed_over_to(state: State) -> str | None:
    """Return the daemon that owns this one's IDs, or is about to, after a handover. None if they are
    this daemon's own, also if the successor was drained to it in turn.
    """
    to = None if state.successor is None else state.members.current_owner(state.successor)
    return None if to == state.own else to


def active_peers(state: State) -> list[Peer]:
    """Return the peers of active members, up or not."""
    peers = state.peers
    return [peers[each.incarnation] for each in state.members.others if each.incarnation in peers]


def is_up(state: State, incarnation: str) -> bool:
    """Report whether a member answered the last request."""
    peer = state.peers.get(incarnation)
    return peer is not None and peer.is_up


def seconds_since_contact(state: State, incarnation: str, seconds: float) -> float | None:
    """Return seconds since the last contact with a member in this run, None if there was none."""
    peer = state.peers.get(incarnation)
    return None if peer is None or peer.contacted_at is None else max(0.0, seconds - peer.contacted_at)


def members_agree(state: State) -> bool:
    """Report whether all members are up, list the same members, and have met all their seeds, which
    may know of more.
    """
    fingerprint, peers = state.members.fingerprint, state.peers
    if state.unidentified:
        return False
    for member in state.members.others:
        peer = peers.get(member.incarnation)
        if peer is None or not peer.is_up or peer.has_unmet or peer.fingerprint != fingerprint:
            return False
    return True


def is_converged(state: State) -> bool:
    """Report whether members agree, and this daemon has all changes that they last reported."""
    return members_agree(state) and all(
        state.cursors.cursor(each.incarnation or "") >= each.newest_issued for each in active_peers(state)
    )


def awaited_sources(state: State) -> list[str]:
    """Return the URLs whose records are still missing, on a daemon that started without peers'
    records.
    """
    if state.began_with_others or any(peer.is_caught_up for peer in state.peers.values()):
        return []
    coming = [url for url, peer in state.unidentified.items() if not peer.was_attempted]
    return [*coming, *(peer.url for peer in state.peers.values() if peer.is_up)]


def name_host(state: State, host: str | None) -> str | None:
    """Return the name of a client host in records."""
    return host_binding.name_host(host, state.config.host)
