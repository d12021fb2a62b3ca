"""Decisions of an owner about one record beyond its `transitions`: the meaning of a request that had
to wait (R9), and the changes of an import. Pure.

`arrival` are the states of the record when the request arrived: the newest, and the one shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from rqdisco.core import transitions
from rqdisco.core.addresses import same_node
from rqdisco.core.directory import Clearing
from rqdisco.core.errors import ImportConflict, Undecided
from rqdisco.core.ids import is_created_id
from rqdisco.core.records import Grant, Moment, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View

Kept = TypeVar("Kept", bound=Record)
# A claim repeated so often is logged: its rqlited drops the answer inside its join loop.
_MANY_CLAIMS = 3
MANY_CLAIMS = "{addr} won the claim {times} times and never reported itself: restart that rqlited"


def remove(record: Record, arrival: Iterable[Record | None], addr: str) -> Record:
    """Remove what was listed on arrival, not what registered while the request waited (R9)."""
    known = [each for each in arrival if each is not None]
    was_listed = any(transitions.remove(each, addr) is not each for each in known)
    if not was_listed or all(transitions.is_newer(record, each, addr) for each in known):
        return record
    return transitions.remove(record, addr)


def clear_leader(
    record: Record | None, arrival: Iterable[Record | None], index: int | None
) -> tuple[Record | None, Clearing]:
    """Clear the leader key that was there on arrival, not one put while the request waited (R9)."""
    if record is None or record.leader is None or (index is not None and not is_at(record, index)):
        return record, Clearing(done=record is None or record.leader is None)
    if not any(is_at(known, record.leader.modified) for known in arrival):
        return record, Clearing(done=True)
    removed = Clearing(done=True, removed="leader" if record.unreported is None else "claim")
    return transitions.clear_leader(record), removed


def may_report(known: Record | None, put: Put, index: int | None) -> bool:
    """Report whether a report that compares the index of the leader key may be made."""
    return index is None or (is_at(known, index) and transitions.may_see_leader(known, put))


def reported_first(record: Record) -> Record:
    """Return the record of an ID that its first report creates. Its cluster exists; but the daemon
    that created the ID may have granted others (R7).
    """
    return replace(record, ownerless=True) if is_created_id(record.id) else record


def list_ownerless(outcome: RegistrationOutcome, shown: View, node: Node) -> RegistrationOutcome:
    """List, under an ownerless ID, no node whose grant may never have been answered. Raises Undecided
    where no other node is left.
    """
    if all(same_node(each.addr, node.addr) for each in shown.nodes):
        raise Undecided("its owner was lost before it answered the first node, create a new ID")
    return replace(outcome, listed=shown.nodes)


def import_into(known: Kept, record: Record, *, as_own: bool, is_migration: bool) -> Kept:
    """Return `known` merged with an imported record; `known` itself if nothing changes. Raises
    ImportConflict.
    """
    if not _is_equivalent(known, record):
        raise ImportConflict(record.id)
    return _adopted(known, record) if as_own and _may_adopt(known, record, is_migration=is_migration) else known


def _is_equivalent(one: Record, other: Record) -> bool:
    """Report whether both records have the same nodes and the same leader."""
    values = [None if record.leader is None else record.leader.value for record in (one, other)]
    return one.nodes == other.nodes and values[0] == values[1]


def _may_adopt(known: Record, imported: Record, *, is_migration: bool) -> bool:
    """Report whether a known record with the same nodes and leader, which lost its owner, gets one
    by an import as own.

    An ID that is ownerless elsewhere stays so, unless an operator adopts what this daemon holds.
    """
    return known.ownerless and (not imported.ownerless or (bool(known.previous_owners) and not is_migration))


def _adopted(known: Kept, imported: Record) -> Kept:
    """Return the known record as one that may grant; `imported` tells what was decided elsewhere."""
    return replace(
        known,
        ownerless=False,
        grant=imported.grant,
        was_emptied=known.was_emptied or imported.was_emptied,
        confirmed=known.confirmed or imported.confirmed,
        attempted=known.attempted or imported.attempted,
    )


def with_claim_window(record: Record, now: Moment) -> Record:
    """Restart the window in which only the winner of an unreported claim may repeat it: when, and
    for an import where, the winner was answered is not known here (R5c).
    """
    if record.ownerless or record.unreported is None or record.leader is None:
        return record
    grant = record.grant or Grant(addr=record.leader.addr, boot=now.boot, at=now.ms)
    return replace(record, grant=replace(grant, boot=now.boot, at=now.ms))


def many_claims(record: Record) -> dict[str, object] | None:
    """Return the fields of `MANY_CLAIMS` if a node has now repeated its claim so often that one line
    of the log should say so.
    """
    if record.unreported is None or record.unreported.times != _MANY_CLAIMS or record.leader is None:
        return None
    return {"addr": record.leader.addr, "times": record.unreported.times, "discovery_id": record.id}


def is_at(record: Record | None, index: int) -> bool:
    """Report whether the leader key of a record has this index."""
    return record is not None and record.leader is not None and record.leader.modified == index
