"""Messages between peers, as JSON; unknown fields of newer releases are ignored.

Each verb has its own message type. Records travel as the journal's lines, byte for byte.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from rqdisco.core.codec import decode_json
from rqdisco.core.records import Moment, Node, Put, Record

T = TypeVar("T")

# Names on the wire that differ from the fields.
_DIGEST_NAMES = {
    "newest_beyond_gap": "beyond",
    "fingerprint": "agreed",
    "receiver_fenced": "fenced",
    "sender_fenced": "stopped",
}

# Versions are milliseconds since 1970. Nothing above this is accepted: the next one would exceed 64 bits.
MAX_VERSION = 1 << 62
Version = Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]

# Supported protocol versions, lowest and highest. A hello whose range does not overlap is rejected;
# only version 1 exists.
PROTOCOL = (1, 1)
# Supports hidden claims and client hosts (R5c, R5d).
HIDDEN_CLAIMS = "hidden claims"
# Creates IDs of a given name, on behalf of another daemon too.
NAMED_IDS = "named IDs"
# The first three are announced for older releases; nothing here tests them.
FEATURES: tuple[str, ...] = ("hints", "barrier", "succession", HIDDEN_CLAIMS, NAMED_IDS)

# A "leaving" member still counts: not all have agreed yet that it is gone.
MemberState = Literal["member", "leaving", "forgotten", "drained"]
# The client requests that can be forwarded to an owner.
Op = Literal["register", "remove", "claim", "report", "clear_leader", "look_up", "create"]


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"declared_lost": "given_up"}):
    """A daemon that takes or took part. `successor` is the owner of its IDs once it is gone for
    good; an operator sets `declared_lost`; `features` are those it last announced.
    """

    incarnation: str
    name: str
    url: str
    state: MemberState = "member"
    successor: str | None = None
    declared_lost: bool = False
    features: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"run_id": "boot"}):
    """The sender's identity; `run_id` is new at each start of the daemon. `wall_ms` is
    informational, no decision uses it.
    """

    name: str
    incarnation: str
    run_id: str
    url: str
    protocol: tuple[int, int] = PROTOCOL
    features: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    wall_ms: int = 0


class Digest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_DIGEST_NAMES):
    """The durable cursors of a daemon, by owner, and the newest version of each beyond a gap;
    `issued` is the highest version it has issued itself, if that is not durable.

    `members` is its member list, left out if the receiver last sent the same `fingerprint`.
    `expired` holds the expiry watermark of each owner's unused IDs. `receiver_fenced` is why the
    receiver must not decide, `sender_fenced` why the sender decides nothing itself. `has_unmet`
    reports that the sender has never contacted some of its seeds, which may have members that nobody
    else knows. `at` is the sender's own time, which requests forwarded to it use as deadline (R2).
    """

    held: dict[str, Version]
    fingerprint: str
    issued: Version = 0
    newest_beyond_gap: dict[str, Version] = {}
    members: tuple[Member, ...] = ()
    expired: dict[str, Version] = {}
    receiver_fenced: str | None = None
    sender_fenced: str | None = None
    has_unmet: bool = False
    wall_ms: int = 0
    at: Moment | None = None


class Delta(msgspec.Struct, frozen=True, kw_only=True, rename={"owner": "home"}):
    """All records of `owner` with versions above `after` and up to `upto`, only the newest state of
    each.
    """

    owner: str
    after: Version
    upto: Version
    records: list[msgspec.Raw]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledges a durable delta with the receiver's cursor of the owner."""

    held: Version


class Pull(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """Request what follows `after`. Below the change log's floor the answer comes in pages of all
    records of `owner`: `page` and `upto` are then those of the previous page.
    """

    owner: str
    after: Version
    page: Version = 0
    upto: Version = 0


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delta or a part of one: then `page` is the next position, and only the last page fills the
    gap up to `upto`.
    """

    delta: Delta
    page: Version = 0


class Hint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registration answered on the owner's behalf (R4). Each daemon numbers its hints in rising
    order.

    `host` is the client host (R5d).
    """

    number: Version
    id: str
    node: Node
    host: str | None = None


class Hints(msgspec.Struct, frozen=True, kw_only=True, rename={"owner": "home"}):
    """The oldest hints of one daemon among those stored for `of`, who was the owner then, for the
    current owner.
    """

    owner: str
    of: str
    hints: tuple[Hint, ...]


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledges hints: those up to this number are in the records, or never will be."""

    upto: Version


class Barrier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """Request to store the owner's current record durably and return the hints for that owner (R5).

    Hints stored for `of` up to number `added` are in the owner's records already.
    """

    owner: str
    record: msgspec.Raw
    of: str = ""
    added: Version = 0


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """A client's request, forwarded to the owner (R2). `request` names it in traces; receivers
    ignore it. `ms` is how long the sender waits, `until` the deadline by the receiver's own time,
    which alone reveals a message delayed on its way. `host` is the client host (R5d).
    """

    owner: str
    op: Op
    request: str
    ms: Version
    id: str
    node: Node | None = None
    addr: str | None = None
    put: Put | None = None
    index: int | None = None
    until: Moment | None = None
    host: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"bootstrap": "alone"}):
    """The result of a call: a record and what the client is answered, or a refusal's kind and
    reason.

    `again` is as in `ClaimOutcome`, `removed` as in `Clearing`. For a lookup, and where the owner is not
    ready (R8), `record` is what it holds and `listed` the nodes it answered and has not added yet.
    """

    record: Record | None = None
    listed: tuple[Node, ...] = ()
    bootstrap: Literal["granted", "again"] | None = None
    yes: bool = False
    removed: Literal["leader", "claim"] | None = None
    again: bool = False
    refusal: str | None = None
    reason: str = ""


class SuccessionProposal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Request to agree that `incarnation` is gone for good and `successor` owns its IDs (R7).

    In a handover by the daemon itself, `upto` is its last version: an agreeing successor has all.
    """

    incarnation: str
    successor: str
    upto: Version = 0


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the successor that the member agreed to, and its cursor of the lost daemon's
    records.
    """

    successor: str
    held: Version


# The types of the request and the answer of each verb.
VERBS: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {
    "hello": (Hello, Hello),
    "digest": (Digest, Digest),
    "push": (Page, Held),
    "pull": (Pull, Page),
    "hints": (Hints, Added),
    "barrier": (Barrier, Hints),
    "call": (Call, Outcome),
    "agree": (SuccessionProposal, Agreed),
    "succeed": (SuccessionProposal, Agreed),
}

# Encodes a message for the wire.
encode_message = msgspec.json.Encoder().encode


def decode_message(content: bytes, kind: type[T]) -> T:
    """Decode a message. Raises Malformed."""
    return decode_json(content, kind)
