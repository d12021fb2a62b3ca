"""The documents that the operator's requests about peers and freezes return.

`documents` defines those about discovery IDs.
"""

from __future__ import annotations

import msgspec


class PeerState(msgspec.Struct, frozen=True, kw_only=True):
    """One peer, as the queried daemon sees it."""

    # The address that the daemon reaches the peer at.
    url: str
    # "up", "fenced", "silent" (unreachable), "leaving", "forgotten", "drained" or "never met".
    state: str
    # Empty until the peer has been reached.
    name: str = ""
    # The identity of the peer's state directory; empty until the peer has been reached.
    incarnation: str = ""
    # Seconds since the last contact; None if there was none.
    last_contact: float | None = None
    # How many changes of the queried daemon the peer lacks; None if there are too many to count.
    lag: int | None = None
    # How far the peer's wall clock is ahead, in milliseconds.
    clock_offset_ms: int | None = None
    # Whether the peer lists the same peers.
    agrees: bool = True
    # The peer that took over the IDs of a forgotten or drained one.
    successor: str | None = None
    # Its incarnation.
    successor_incarnation: str | None = None
    # Why the last message to the peer failed, or why the peer is fenced.
    why: str | None = None


class PeersDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The queried daemon and its peers."""

    # The name of the queried daemon.
    name: str
    # The identity of its state directory.
    incarnation: str
    # The address at which peers reach it.
    url: str
    # "starting", "established" (ready), or as in `PeerState`.
    state: str
    # Whether all peers have agreed on the list of peers.
    agreed: bool
    # How many registrations the daemon holds for owners that do not respond (hinted handoff).
    hints: int
    # All other daemons that it knows.
    peers: tuple[PeerState, ...]
    # Conditions that need an operator, one sentence each.
    notes: tuple[str, ...]
    # Why the queried daemon is frozen; None if it is not.
    frozen: str | None = None


class FreezeState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the queried daemon: frozen or not."""

    # Why it changes nothing; None if it is not frozen.
    frozen: str | None
    # What identifies its records: two URLs with one `store` lead to the same records.
    store: str
    # The newest version of exports that it reads and writes.
    exports: int


class ForgetPreview(msgspec.Struct, frozen=True, kw_only=True):
    """The consequences of forgetting a peer, before it is done."""

    # The name of the peer that would be forgotten.
    name: str
    # Its incarnation.
    incarnation: str
    # As in `PeerState`.
    state: str
    # How many IDs it owns; they would never tell a node to bootstrap again.
    ids: int
    # Seconds since the last contact; None if there was none since the queried daemon started.
    last_contact: float | None = None


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """The result of forgetting a peer: the queried daemon now owns the peer's IDs."""

    # The name of the peer.
    forgotten: str
    # Its incarnation; empty if the daemon is too old to tell.
    incarnation: str = ""
    # How many IDs changed their owner.
    ids: int


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """The result of draining the queried daemon."""

    # The name of the peer that now owns its IDs.
    to: str
