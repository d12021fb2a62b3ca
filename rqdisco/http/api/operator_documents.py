"""The bodies of requests to the operator's API, and its answers."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class ForgetRequest(msgspec.Struct):
    """A peer that is lost for good: its name, its incarnation, or the first 4 or more digits of
    that.
    """

    name: str


class DrainRequest(msgspec.Struct):
    """The peer that takes over; any peer if none is named."""

    to: str | None = None


class FreezeRequest(msgspec.Struct):
    """The reason why nothing may change any more: up to 300 printable ASCII characters. Clients get
    it as the reason of each 503.
    """

    reason: str


class FreezeAnswer(msgspec.Struct, frozen=True):
    """The reason why the daemon is frozen, null if it is not. `store` identifies its records,
    `exports` is the newest version of exports that it reads and writes.
    """

    frozen: str | None
    store: str
    exports: int


class ForgetPreviewAnswer(msgspec.Struct, frozen=True):
    """The peer that would be forgotten, and how many IDs would get a new owner. `last_contact` is
    in seconds, null if there was none since this daemon started.
    """

    name: str
    incarnation: str
    url: str
    state: str
    last_contact: float | None
    ids: int


class ForgetAnswer(msgspec.Struct, frozen=True):
    """The peer that was forgotten, and how many IDs have a new owner."""

    forgotten: str
    incarnation: str
    ids: int


class DrainAnswer(msgspec.Struct, frozen=True):
    """The peer that took over."""

    drained: bool
    to: str


class ImportRefusal(msgspec.Struct, frozen=True):
    """A record that was not imported."""

    id: str
    why: str


class ImportAnswer(msgspec.Struct, frozen=True):
    """The result of an import: the numbers of new and of existing records, and the refused ones."""

    imported: int
    unchanged: int
    refused: list[ImportRefusal]


class ListedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer. One that was never met has only `url`, `state` and `why`. `last_contact` is in
    seconds, `lag` is the number of changes that it lacks.
    """

    name: str | UnsetType = UNSET
    incarnation: str | UnsetType = UNSET
    url: str
    state: str
    successor: str | UnsetType | None = UNSET
    successor_incarnation: str | UnsetType | None = UNSET
    last_contact: float | UnsetType | None = UNSET
    lag: int | UnsetType | None = UNSET
    clock_offset_ms: int | UnsetType | None = UNSET
    agrees: bool | UnsetType = UNSET
    why: str | UnsetType | None = UNSET


class PeersAnswer(msgspec.Struct, frozen=True):
    """This daemon, and its peers."""

    name: str
    incarnation: str
    url: str
    state: str
    agreed: bool
    hints: int
    unwitnessed: int
    frozen: str | None
    peers: list[ListedPeer]
    notes: list[str]
