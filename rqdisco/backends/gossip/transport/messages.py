"""What peers say to each other, as JSON; what a newer release says more is not looked at.

Every message names its own kind of verb. Records travel as the lines that stand in the journal,
byte for byte.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from rqdisco.core.codec import Malformed
from rqdisco.core.records import Moment, Node, Put, Record

T = TypeVar("T")

# The releases of the protocol that this one speaks; two peers use the highest that both know.
PROTOCOL = (1, 1)
# It knows of claims that only their owners may see, and of hosts (R5c, R5d).
HIDDEN_CLAIMS = "hidden claims"
FEATURES: tuple[str, ...] = ("hints", "barrier", "succession", HIDDEN_CLAIMS)

# Whoever is "leaving" is still counted on: not all have agreed yet that it is gone.
State = Literal["member", "leaving", "forgotten", "drained"]
# What a client may ask of the home of an ID, wherever it asks.
Op = Literal["register", "remove", "claim", "report", "clear_leader", "look_up"]


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon that takes part or took part. `successor` is the new home of its IDs once it is gone
    for good; `given_up` says that an operator called it lost; `features` are what it last said that
    it knows of.
    """

    incarnation: str
    name: str
    url: str
    state: State = "member"
    successor: str | None = None
    given_up: bool = False
    features: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is there: `boot` is made anew at each start. `wall_ms` is for people to look at, nothing
    is decided by it.
    """

    name: str
    incarnation: str
    boot: str
    url: str
    protocol: tuple[int, int] = PROTOCOL
    features: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    wall_ms: int = 0


class Digest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a daemon durably holds, by home, and `beyond` a gap the newest of each; `issued` is the
    highest version it gave out itself, if that is not durable.

    `members` are those it knows of, the sum of which is told in its stead where the receiver said
    the same before. `expired` says up to which version each home's unused IDs are gone. `fenced`
    says that the receiver must not grant, and why, `stopped` why the speaker decides nothing
    itself. `at` is the speaker's own time, by which it is told until when a request may be carried
    out there (R2).
    """

    held: dict[str, int]
    agreed: str
    issued: int = 0
    beyond: dict[str, int] = {}
    members: tuple[Member, ...] = ()
    expired: dict[str, int] = {}
    fenced: str | None = None
    stopped: str | None = None
    wall_ms: int = 0
    at: Moment | None = None


class Delta(msgspec.Struct, frozen=True, kw_only=True, rename={"owner": "home"}):
    """All records of `owner` with versions above `after` and up to `upto`, the newest state of each
    only.
    """

    owner: str
    after: int
    upto: int
    records: list[msgspec.Raw]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a delta, which is durable now: how far the receiver has the home's records
    without a gap.
    """

    held: int


class Pull(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """Asks for what follows `after`. Where that is too long ago it is answered in pages of all that
    `owner` has: `page` and `upto` are then what the page before said.
    """

    owner: str
    after: int
    page: int = 0
    upto: int = 0


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delta, or a part of one: then `page` is where to go on, and only the last part fills the
    gap up to `upto`.
    """

    delta: Delta
    page: int = 0


class Hint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registration that was answered away from its home (R4). Numbers rise, for each daemon that
    keeps hints.

    `host` is the client host (R5d).
    """

    number: int
    id: str
    node: Node
    host: str | None = None


class Hints(msgspec.Struct, frozen=True, kw_only=True, rename={"owner": "home"}):
    """Hints of one daemon for the home, from its oldest on of those that were kept for `of`, who
    was the home then.
    """

    owner: str
    of: str
    hints: tuple[Hint, ...]


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to hints: those up to this number are in the records now, or never will be."""

    upto: int


class Barrier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """Asks to take the home's current record durably and to say which hints there are for that home
    (R5).

    Those kept for `of` up to the number `added` are in the home's records already.
    """

    owner: str
    record: msgspec.Raw
    of: str = ""
    added: int = 0


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """A request of a client, forwarded to the home (R2). `ms` is how long anybody waits for the
    answer, `until` up to when, by the receiver's time; that a message was on its way for long shows
    by nothing else. `host` is the client host (R5d).
    """

    owner: str
    op: Op
    request: str
    ms: int
    id: str
    node: Node | None = None
    addr: str | None = None
    put: Put | None = None
    index: int | None = None
    until: Moment | None = None
    host: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"bootstrap": "alone"}):
    """What came of a call: a record with what was told, or the refusal's kind and reason.

    `again` is as in `Claim`, `removed` as in `Clearing`. For a look-up, and where the owner is not
    ready (R8), `record` is what it holds and `listed` are the nodes that it answered and did not
    add yet.
    """

    record: Record | None = None
    listed: tuple[Node, ...] = ()
    bootstrap: Literal["granted", "again"] | None = None
    yes: bool = False
    removed: Literal["leader", "claim"] | None = None
    again: bool = False
    refusal: str | None = None
    reason: str = ""


class Succession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Asks to agree that `incarnation` is gone for good and `successor` is the new home of its IDs
    (R7).

    Where it hands them over by itself, `upto` is its last version: whoever agrees has all of them.
    """

    incarnation: str
    successor: str
    upto: int = 0


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: how far the member has the lost one's records; from now on it takes no more of
    them from that one.
    """

    successor: str
    held: int


_encoder = msgspec.json.Encoder()


def encode_message(message: msgspec.Struct) -> bytes:
    """As it travels."""
    return _encoder.encode(message)


def decode_message(content: bytes, kind: type[T]) -> T:
    """Raises Malformed."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
