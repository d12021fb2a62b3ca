"""What a daemon says of its peers."""

from __future__ import annotations

import msgspec


class PeerState(msgspec.Struct, frozen=True, kw_only=True):
    """One peer: `state` is up, fenced, silent, leaving, forgotten, drained or "never met".

    `last_contact` is in seconds, `lag` in changes of the asked daemon that it does not have yet
    (None: too many to know), `clock_offset_ms` how far its wall clock is ahead, `why` what the last
    message to it failed with, or why it decides nothing (fenced).
    """

    url: str
    state: str
    name: str = ""
    incarnation: str = ""
    last_contact: float | None = None
    lag: int | None = None
    clock_offset_ms: int | None = None
    agrees: bool = True
    successor: str | None = None
    why: str | None = None


class PeersState(msgspec.Struct, frozen=True, kw_only=True):
    """The asked daemon and its peers. `hints` are registrations it keeps for homes that did not
    answer, `notes` what an operator should know of.
    """

    name: str
    incarnation: str
    url: str
    state: str
    agreed: bool
    hints: int
    peers: tuple[PeerState, ...]
    notes: tuple[str, ...]


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """A peer was forgotten: the asked daemon is the home of its IDs now, which are so many."""

    forgotten: str
    ids: int


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """The asked daemon handed its IDs over."""

    to: str
