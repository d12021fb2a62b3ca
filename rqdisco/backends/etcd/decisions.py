"""The effects of requests on a record in etcd: the transitions of `core`, on a snapshot. Pure.

The age of a grant is not known by a clock: its window is open while the key of its window exists
(E4), or while its answer is known not to have been sent (E3).
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from rqdisco.backends.etcd.etcd_record import EtcdRecord, grant_moment
from rqdisco.backends.etcd.meta import Meta
from rqdisco.backends.etcd.record_store import Snapshot
from rqdisco.backends.limits import Limits
from rqdisco.core import transitions
from rqdisco.core.addresses import same_node
from rqdisco.core.decisions import import_into
from rqdisco.core.exports import TransferredRecord, to_record
from rqdisco.core.records import NO_BOOT, ClaimOutcome, Grant, Node, Put, Record, RegistrationOutcome, with_new_owner


class WriteStamp(msgspec.Struct, frozen=True, gc=False):
    """The write that a request would make: its nonce, and the wall clock in milliseconds."""

    nonce: str
    wall_ms: int

    def version(self, record: Record) -> int:
        """Return the version after a change of a record."""
        return max(record.version + 1, self.wall_ms)


def register(
    snapshot: Snapshot, record: EtcdRecord, node: Node, host: str | None, limits: Limits
) -> RegistrationOutcome:
    """Register a node. Raises as `transitions.register`.

    A grant whose answer was certainly not sent is repeated to its node at any time, and passes to
    another node that asks first: its own may never come, and others were sent to it (E3).
    """
    passes_on = record.unanswered and not record.confirmed and not record.ownerless and not _is_granted(record, node)
    is_open = not passes_on and (snapshot.is_window_open or record.unanswered)
    outcome = transitions.register(
        record,
        node,
        host=host,
        now=grant_moment(record.grant, 0),
        retry_window_ms=1 if is_open else 0,
        max_nodes=limits.max_nodes,
    )
    if not passes_on or outcome.bootstrap is not None:
        return outcome
    granted = replace(outcome.record, grant=Grant(addr=node.addr, boot=NO_BOOT, at=0, host=host))
    listed = tuple(entry for entry in granted.nodes if entry.addr == node.addr)
    return RegistrationOutcome(record=granted, listed=listed, bootstrap="granted")


def _is_granted(record: EtcdRecord, node: Node) -> bool:
    return record.grant is not None and same_node(record.grant.addr, node.addr)


def claim(
    snapshot: Snapshot, record: EtcdRecord, put: Put, host: str | None, limits: Limits, stamp: WriteStamp
) -> ClaimOutcome:
    """Claim the leader key. Raises as `transitions.claim`."""
    age_ms = 0 if snapshot.is_window_open else transitions.OWNER_RETRY_WINDOW_MS
    return transitions.claim(
        record,
        put,
        host=host,
        version=stamp.version(record),
        now=grant_moment(record.grant, age_ms),
        max_nodes=limits.max_nodes,
        is_hidden=not limits.visible_claims,
    )


def report(record: EtcdRecord, put: Put, host: str | None, limits: Limits, stamp: WriteStamp) -> EtcdRecord | None:
    """Report a leader. Return the record itself where the report changes nothing but `modified` of
    the leader (E9), None where the client may not lead. Raises as `transitions.report`.
    """
    version = stamp.version(record)
    after = transitions.report(record, put, host=host, version=version, max_nodes=limits.max_nodes)
    if after is None:
        return None
    assert isinstance(after, EtcdRecord)
    if record.leader is not None and after.leader is not None:
        same = replace(after, leader=replace(after.leader, modified=record.leader.modified))
        if same == record:
            return record
    return after


def import_record(
    known: EtcdRecord | None,
    transferred: TransferredRecord,
    store: Meta,
    limits: Limits,
    version: int,
    *,
    as_own: bool,
    is_migration: bool,
) -> EtcdRecord:
    """Import a record; return `known` where that changes nothing. Raises as `Directory.adopt`."""
    own = store.store_id
    owner = own if as_own or transferred.owner is None else transferred.owner
    record = to_record(transferred, owner, version=version, max_nodes=limits.max_nodes)
    if owner != own:
        record = with_new_owner(record, own, version=version, lost=True)
    if known is None:
        return as_stored(record, store.epoch)
    after = import_into(known, record, as_own=as_own, is_migration=is_migration)
    return known if after is known else replace(after, epoch=store.epoch)


def new_record(discovery_id: str, store: Meta, wall_us: int) -> EtcdRecord:
    """Return an empty record for a new ID, older than any version."""
    return EtcdRecord(id=discovery_id, owner=store.store_id, version=0, created_at=wall_us, epoch=store.epoch)


def as_stored(record: Record, epoch: int) -> EtcdRecord:
    """Return a record of another daemon as etcd stores it."""
    fields = {name: getattr(record, name) for name in Record.__struct_fields__}
    return EtcdRecord(**fields, epoch=epoch)


def with_claimed_grant(record: EtcdRecord) -> EtcdRecord:
    """Return the record with a grant for its unreported claim, which an import may lack, so that
    its window can be opened (R5c).
    """
    if record.unreported is None or record.leader is None or record.ownerless or record.grant is not None:
        return record
    return replace(record, grant=Grant(addr=record.leader.addr, boot=NO_BOOT, at=0))
