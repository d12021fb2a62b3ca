"""Inputs of the state machine: client requests, peer messages, results of writes, and timers.

The `number` of an input or effect identifies what is under way. The driver numbers requests of clients
and messages of peers, the machine numbers its writes and its messages to peers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rqdisco.backends.gossip.core.messages import Hello
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerError
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Moment, Node, Put
from rqdisco.storage.memory import Change


class Now(msgspec.Struct, frozen=True, gc=False):
    """The time of an input: `seconds` of a monotonic clock, `moment` as records store it, and the
    wall clock in microseconds, from which only versions are made.
    """

    seconds: float
    moment: Moment
    wall_us: int


class Input(msgspec.Struct, frozen=True):
    """An event that the machine processes."""


class Command(msgspec.Struct, frozen=True):
    """A request of a client or an operator, made here or through a peer. Most correspond to a method
    of `core.directory.Directory` and raise its errors.
    """


class Create(Command, frozen=True):
    """`random` are the bytes of the new ID."""

    random: bytes


class CreateNamed(Command, frozen=True):
    id: str


class LookUp(Command, frozen=True):
    """`at_owner` asks the owner even if there is a copy here."""

    id: str
    at_owner: bool = False


class Inspect(Command, frozen=True):
    id: str


class Register(Command, frozen=True):
    id: str
    node: Node
    host: str | None


class Remove(Command, frozen=True):
    id: str
    addr: str


class Claim(Command, frozen=True):
    id: str
    put: Put
    host: str | None


class ReportLeader(Command, frozen=True):
    id: str
    put: Put
    host: str | None
    index: int | None = None


class ClearLeader(Command, frozen=True):
    id: str
    index: int | None = None


class Adopt(Command, frozen=True):
    transferred: TransferredRecord
    as_own: bool
    during: str | None = None


class FreezeStore(Command, frozen=True):
    reason: str


class ThawStore(Command, frozen=True):
    pass


class Forget(Command, frozen=True):
    """Make this daemon the owner of a lost one's IDs, given by name or incarnation; the reply is
    their number.
    """

    name: str


class Drain(Command, frozen=True):
    """Hand all IDs of this daemon over to a peer, `to` if given; the reply is its name."""

    to: str | None = None


class RevokeStuck(Command, frozen=True):
    """Revoke the grants whose revocation the disk refused, before the daemon ends."""


class Started(Input, frozen=True):
    """The daemon runs: contact the peers from now on."""


class Stopped(Input, frozen=True):
    """The daemon stops: send nothing more."""


class Requested(Input, frozen=True):
    """A client of this daemon requests something; a `ClientReply` of the same number follows,
    unless `Cancelled` comes first.
    """

    number: int
    command: Command


class Cancelled(Input, frozen=True):
    """The client of a request is gone, or its time is over."""

    number: int


class Delivered(Input, frozen=True):
    """A `ClientReply` that asked for confirmation was sent to the client, or certainly was not."""

    number: int
    was_delivered: bool


class Greeted(Input, frozen=True):
    """A daemon begins the session of this name with a hello, to which a `Respond` is the answer."""

    number: int
    session: str
    hello: Hello


class Received(Input, frozen=True):
    """A message within a session; a `Respond` of the same number follows, unless `HungUp` comes
    first. What cannot be decoded is a BadMessage: that it came proves its sender alive all the
    same.
    """

    number: int
    session: str
    verb: str
    message: msgspec.Struct | BadMessage


class HungUp(Input, frozen=True):
    """The sender of a message does not wait for the answer any more."""

    number: int


class Answered(Input, frozen=True):
    """The answer to a `Send`."""

    number: int
    message: Any


class Failed(Input, frozen=True):
    """A `Send` failed, or nobody answered in time."""

    number: int
    error: PeerError


class Settled(Input, frozen=True):
    """The disk has these changes, and so has the store."""

    changes: Sequence[Change]


class Discarded(Input, frozen=True):
    """The disk refused a batch; the store has discarded these pending changes. It comes before the
    `WriteRefused` of each write.
    """

    changes: Sequence[Change]


class Persisted(Input, frozen=True):
    """The disk has everything of a `Persist`, and everything before it."""

    number: int


class WriteRefused(Input, frozen=True):
    """The disk refused a `Persist`, for this reason."""

    number: int
    reason: str


class Ticked(Input, frozen=True):
    """The time of the last `Wake` has come."""
