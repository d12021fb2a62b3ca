"""Records as etcd stores them: with the nonces by which a write is recognized (E2, E3, E5).

A nonce is random and names one write. An answer that was lost leaves in doubt whether the write was
applied; a record that shows its nonce settles that.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from rqdisco.core.codec import UNREADABLE, Malformed
from rqdisco.core.records import NO_BOOT, STORED_NAMES, Grant, Moment, Record

_encode = msgspec.json.Encoder().encode


class EtcdRecord(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=STORED_NAMES):
    """A record in etcd, with the nonces of its writes.

    `last_nonce` is that of the last write, `grant_nonce` that of the write that granted, and
    `repeat_nonce` that of the last one that repeats the grant, if any. `node_nonces` maps the
    address of each node to that of its last registration. `unanswered`: the answer to the grant was
    certainly not sent, so it is repeated without a window, or passes to another node (E3). `epoch`
    is that of the store when the ID was created (E8).
    """

    last_nonce: str = ""
    grant_nonce: str = ""
    repeat_nonce: str = ""
    node_nonces: Mapping[str, str] = {}
    unanswered: bool = False
    epoch: int = 0


_decoder = msgspec.json.Decoder(EtcdRecord)
_FIELDS = Record.__struct_fields__


def encode(record: EtcdRecord) -> bytes:
    """Encode a record."""
    return _encode(record)


def decode(value: bytes) -> EtcdRecord:
    """Decode a record. Raises Malformed."""
    try:
        return _decoder.decode(value)
    except UNREADABLE as error:
        raise Malformed(str(error)) from None


def to_record(record: Record) -> Record:
    """Return the record without what only this backend stores."""
    return Record(**{name: getattr(record, name) for name in _FIELDS})


def with_write(after: EtcdRecord, nonce: str, *, addr: str | None = None, version: int) -> EtcdRecord:
    """Return the record as the write `nonce` leaves it; `addr` is the node that it registers.

    A node that is not listed any more has no nonce, and without a grant there is nothing to repeat.
    """
    nonces = {node.addr: after.node_nonces.get(node.addr, "") for node in after.nodes}
    if addr is not None and addr in nonces:
        nonces[addr] = nonce
    after = replace(after, last_nonce=nonce, node_nonces=nonces, version=version)
    return after if after.grant is not None else replace(after, grant_nonce="", repeat_nonce="", unanswered=False)


def with_grant(after: EtcdRecord, nonce: str, wall_ms: int) -> EtcdRecord:
    """Return a record with its grant named by `nonce`."""
    assert after.grant is not None
    # Leases tell the age of a grant: no moment of a machine means anything to all daemons. The time
    # is for people (P6).
    grant = replace(after.grant, boot=NO_BOOT, at=wall_ms)
    return replace(after, grant=grant, grant_nonce=nonce, repeat_nonce="", unanswered=False)


def with_repeat(after: EtcdRecord, nonce: str) -> EtcdRecord:
    """Return a record whose grant the write `nonce` repeats to its node."""
    return replace(after, repeat_nonce=nonce, unanswered=False)


def is_last_answer(record: EtcdRecord, answered: EtcdRecord) -> bool:
    """Report whether the grant of a record stands, and the write that left `answered` was the last
    to answer it: the one that granted, or the last one that repeats it.
    """
    if record.grant is None or answered.grant is None or record.grant.addr != answered.grant.addr:
        return False
    return (record.grant_nonce, record.repeat_nonce) == (answered.grant_nonce, answered.repeat_nonce)


def grant_moment(grant: Grant | None, age_ms: int) -> Moment:
    """Return the moment at which a grant has this age.

    etcd's leases tell whether the window of a grant is open (E4), and the transitions compare
    moments.
    """
    return Moment(NO_BOOT, age_ms if grant is None else grant.at + age_ms)


def shows_write(record: EtcdRecord, nonce: str) -> bool:
    """Report whether a record shows that the write `nonce` was applied."""
    return nonce in (record.last_nonce, record.grant_nonce, record.repeat_nonce) or nonce in record.node_nonces.values()
