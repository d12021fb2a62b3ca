"""Effects: the actions that the state machine requests. The driver performs them in order."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from rqdisco.backends.gossip.core.peer_errors import PeerError
from rqdisco.storage.memory import Change

Level = Literal["debug", "info", "warn", "error"]


class Send(msgspec.Struct, frozen=True):
    """Send a message to the daemon at a URL, in the session of this `link`; `hello` begins one.

    A peer that replaces another one at the same URL has a new link, so it does not inherit the session.
    `Answered` or `Failed` follows within `seconds`, unless it is abandoned.
    """

    number: int
    url: str
    verb: str
    message: msgspec.Struct
    seconds: float
    link: int


class Abandon(msgspec.Struct, frozen=True):
    """Wait no longer for the answer to a `Send`: nothing follows any more."""

    number: int


class Respond(msgspec.Struct, frozen=True):
    """Answer a peer's message, or fail it with an error."""

    number: int
    message: msgspec.Struct | PeerError


class Persist(msgspec.Struct, frozen=True):
    """Write changes to the disk, all or none; without any, wait for all that were put before.

    `Persisted` or `WriteRefused` follows.
    """

    number: int
    changes: tuple[Change, ...]


class ClientReply(msgspec.Struct, frozen=True):
    """Answer a client: a result, or the error to raise.

    With `confirm`, a `Delivered` follows, in the same turn in which the answer was sent.
    """

    number: int
    result: Any
    confirm: bool = False


class Wake(msgspec.Struct, frozen=True):
    """Input `Ticked` at this time, in seconds of the monotonic clock; it replaces an earlier
    `Wake`.
    """

    at: float


class Fence(msgspec.Struct, frozen=True):
    """This daemon decides nothing until a restart; tell the operator."""

    reason: str


class Notify(msgspec.Struct, frozen=True):
    """Notify the watchers of an ID: its view changed, although nothing changed on the disk."""

    id: str


class Log(msgspec.Struct, frozen=True):
    """Write a line to the log; `text` is a format of the fields."""

    level: Level
    text: str
    fields: dict[str, Any] = {}


Effect = Send | Abandon | Respond | Persist | ClientReply | Wake | Fence | Notify | Log
