"""The messages of peers as the first release sent them, under their names on the wire.

This copy does not follow the code. It refuses unknown fields, although that release ignored them, so
that a test notices a field that was renamed; a field that is added on purpose is added here too,
with a default.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Message(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class FrozenMoment(_Message):
    boot: int
    ms: int


class FrozenNode(_Message):
    addr: str
    raft_addr: str | None = None
    node_id: str | None = None


class FrozenGrant(_Message):
    addr: str
    boot: int
    at: int
    pending: bool = False
    host: str | None = None


class FrozenLeader(_Message):
    addr: str
    value: str
    created: int
    modified: int
    flags: int = 0


class FrozenUnreported(_Message):
    times: int
    since: int


class FrozenRecord(_Message):
    id: str
    home: str
    version: int
    created_at: int
    nodes: tuple[FrozenNode, ...] = ()
    grant: FrozenGrant | None = None
    ever: bool = False
    leader: FrozenLeader | None = None
    confirmed: bool = False
    tried: bool = False
    unreported: FrozenUnreported | None = None
    host: str | None = None
    was: tuple[str, ...] = ()
    lost: bool = False


class FrozenPut(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    node: FrozenNode
    value: str
    flags: int = 0


class FrozenMember(_Message):
    incarnation: str
    name: str
    url: str
    state: Literal["member", "leaving", "forgotten", "drained"] = "member"
    successor: str | None = None
    given_up: bool = False
    features: tuple[str, ...] = ()


class FrozenHello(_Message):
    name: str
    incarnation: str
    boot: str
    url: str
    protocol: tuple[int, int] = (1, 1)
    features: tuple[str, ...] = ()
    members: tuple[FrozenMember, ...] = ()
    wall_ms: int = 0


class FrozenDigest(_Message):
    held: dict[str, int]
    agreed: str
    issued: int = 0
    beyond: dict[str, int] = {}
    members: tuple[FrozenMember, ...] = ()
    expired: dict[str, int] = {}
    fenced: str | None = None
    stopped: str | None = None
    has_unmet: bool = False
    wall_ms: int = 0
    at: FrozenMoment | None = None


class FrozenDelta(_Message):
    home: str
    after: int
    upto: int
    records: list[FrozenRecord]


class FrozenHeld(_Message):
    held: int


class FrozenPull(_Message):
    home: str
    after: int
    page: int = 0
    upto: int = 0


class FrozenPage(_Message):
    delta: FrozenDelta
    page: int = 0


class FrozenHint(_Message):
    number: int
    id: str
    node: FrozenNode
    host: str | None = None


class FrozenHints(_Message):
    home: str
    of: str
    hints: tuple[FrozenHint, ...]


class FrozenAdded(_Message):
    upto: int


class FrozenBarrier(_Message):
    home: str
    record: FrozenRecord
    of: str = ""
    added: int = 0


class FrozenCall(_Message):
    home: str
    op: Literal["register", "remove", "claim", "report", "clear_leader", "look_up"]
    request: str
    ms: int
    id: str
    node: FrozenNode | None = None
    addr: str | None = None
    put: FrozenPut | None = None
    index: int | None = None
    until: FrozenMoment | None = None
    host: str | None = None


class FrozenOutcome(_Message):
    record: FrozenRecord | None = None
    listed: tuple[FrozenNode, ...] = ()
    alone: Literal["granted", "again"] | None = None
    yes: bool = False
    removed: Literal["leader", "claim"] | None = None
    again: bool = False
    refusal: str | None = None
    reason: str = ""


class FrozenProposal(_Message):
    incarnation: str
    successor: str
    upto: int = 0


class FrozenAgreed(_Message):
    successor: str
    held: int


# The request and the answer of each verb.
FROZEN: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {
    "hello": (FrozenHello, FrozenHello),
    "digest": (FrozenDigest, FrozenDigest),
    "push": (FrozenPage, FrozenHeld),
    "pull": (FrozenPull, FrozenPage),
    "hints": (FrozenHints, FrozenAdded),
    "barrier": (FrozenBarrier, FrozenHints),
    "call": (FrozenCall, FrozenOutcome),
    "agree": (FrozenProposal, FrozenAgreed),
    "succeed": (FrozenProposal, FrozenAgreed),
}
