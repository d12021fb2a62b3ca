"""The explanation of the answers under an ID, for operators: `GET /ID?explain=1`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from rqdisco.core.records import Record
from rqdisco.http.requests.documents import LegacyTime, encode_object, legacy_time
from rqdisco.telemetry.answer_history import PastAnswer

_Host = Annotated[
    str | None,
    Meta(description="The address of a client host, or `@` and the incarnation of the daemon that runs on it."),
]


class ExplainedGrant(msgspec.Struct, frozen=True):
    """The node that was last told to bootstrap, and its client host; `at` is in milliseconds since
    the owner's boot number `boot`. The grant is pending until its answer was sent.
    """

    addr: str
    boot: int
    at: int
    pending: bool
    host: _Host


class ExplainedClaim(msgspec.Struct, frozen=True):
    """A hidden claim, and how often it was answered."""

    times: int


class ExplainedAnswer(msgspec.Struct, frozen=True):
    """An answer of this daemon."""

    at: LegacyTime
    addr: str
    what: str
    listed: int


class Explanation(msgspec.Struct, frozen=True):
    """Everything known of an ID. `may_grant` is true if this daemon can tell a node to bootstrap,
    `home_heard` is in seconds since the last contact with the owner, `home`.
    """

    disco_id: str
    created_at: LegacyTime
    home: str
    home_heard: float | None
    was: Sequence[str]
    lost: bool
    may_grant: bool
    version: int
    nodes: list[str]
    grant: ExplainedGrant | None
    emptied_before: bool
    confirmed: bool
    claim: ExplainedClaim | None
    host: _Host
    leader: str | None
    told: list[ExplainedAnswer]


def explanation(record: Record, *, may_grant: bool, age: float | None, history: Sequence[PastAnswer]) -> bytes:
    """Encode the owner and those before it, the grant, and this daemon's answers, the oldest first.

    `may_grant` reports whether a node can be told to bootstrap, `age` is in seconds since the last
    contact with the owner.
    """
    grant = record.grant
    return encode_object(
        Explanation(
            disco_id=record.id,
            created_at=legacy_time(record.created_at),
            home=record.owner,
            home_heard=None if age is None else round(age, 1),
            was=record.previous_owners,
            lost=record.ownerless,
            may_grant=may_grant,
            version=record.version,
            nodes=[node.addr for node in record.nodes],
            grant=None
            if grant is None
            else ExplainedGrant(grant.addr, grant.boot, grant.at, grant.pending, grant.host),
            emptied_before=record.was_emptied,
            confirmed=record.confirmed,
            claim=None if record.unreported is None else ExplainedClaim(record.unreported.times),
            host=record.host,
            leader=None if record.leader is None else record.leader.addr,
            told=[ExplainedAnswer(legacy_time(each.at), each.addr, each.what, each.listed) for each in history],
        )
    )
