"""The interface that every API calls: create an ID, look it up, register and remove nodes, claim
and report leadership.

It is narrow and asynchronous, so that it can be implemented by a single daemon, by daemons that are
peers, or by another engine. Cancelling a call means that its answer will not be sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, Protocol

import msgspec

from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View


class Freezable(Protocol):
    """A store that an operator can freeze, so that its IDs can be moved elsewhere.

    While it is frozen it answers lookups, watches and exports, and every change raises Frozen with
    the reason, repeated grants included. That is durable. Registrations that were answered before
    still reach their owner (R4).
    """

    @property
    def store_id(self) -> str:
        """The identity of the place of the records: the daemon's incarnation, or that of an external
        store.
        """

    @property
    def frozen(self) -> str | None:
        """The reason for which it is frozen, None if it is not."""

    async def freeze(self, reason: str) -> None:
        """Freeze, and return once that is durable and no grant is pending: nothing is granted
        afterwards.

        Safe to repeat. Raises AlreadyFrozen for another reason, StoreUnavailable; it may be frozen
        after the latter.
        """

    async def thaw(self) -> None:
        """Change records again. Raises StoreUnavailable."""


class Directory(Freezable, Protocol):
    """Discovery IDs and what is registered under them. Every answer shows only what is durable.

    `host` is the client host of a request, see `host_binding`: the address that it came from,
    THIS_MACHINE for a client on the daemon's own machine, None if it is not known.

    `register` and `claim` may grant. A grant counts as answered at the caller's next await, so the
    caller sends the answer before that. A cancelled call leaves the record unchanged or durably
    changed, and a grant that was not answered is revoked.

    Where the records are in an external store, every method that is awaited may raise
    StoreUnavailable.
    """

    @property
    def index(self) -> int:
        """A number that is never 0 and does not fall while the daemon runs: at least the version of
        every record that it has written or read.
        """

    def has_owner(self, record: View | Record) -> bool:
        """Report whether some daemon may grant under the ID (R7)."""

    async def create(self) -> Record:
        """Create an ID. Raises TooManyIDs, StoreUnavailable."""

    async def create_named(self, discovery_id: str) -> Record:
        """Create an ID of this name, to which `name_objection` has none.

        Raises IDExists, TooManyIDs, StoreUnavailable; Undecided where it is not known whether the
        ID exists elsewhere.
        """

    async def look_up(self, discovery_id: str) -> View:
        """Return the view of an ID. Raises NoSuchID."""

    async def look_up_at_owner(self, discovery_id: str) -> View:
        """As `look_up`, but at the owner itself. Raises StoreUnavailable where that does not
        answer.
        """

    async def inspect(self, discovery_id: str) -> Record:
        """Return the whole record, for operators and exports, never for nodes. Raises NoSuchID."""

    def name_host(self, host: str | None) -> str | None:
        """Return the name of a client host in records."""

    def age(self, record: View | Record) -> float | None:
        """Return the seconds since the owner of a record last answered; 0 at the owner itself, None
        if it has not yet.
        """

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` whenever the result of `look_up` may have changed, at whichever daemon.

        Return a function that ends that. `changed` is called between two decisions, so it must be
        quick, and look the ID up later.
        """

    async def look_up_name(self, name: str) -> View:
        """Return the view of the ID that is the lower-case `name`, ignoring case. Raises NoSuchID,
        AmbiguousName.
        """

    async def has_subdomains(self, name: str) -> bool:
        """Report whether an ID ends with a dot and the lower-case `name`, ignoring case; DNS calls
        it a subdomain of `name`.
        """

    async def register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        """Register a node, and decide whom to list.

        Raises NoSuchID, TooManyNodes, LoopbackConflict, Ownerless, StoreUnavailable.
        """

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        """Remove the registration of an address that is listed when the call arrives, never a newer
        one (R9).

        Raises NoSuchID, StoreUnavailable.
        """

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        """Put the leader key of an ID that has neither leader nor nodes, and create the ID if
        needed.

        Raises NoSuchID if the options forbid creating it, UnknownCreatedID, TooManyIDs, Ownerless,
        StoreUnavailable.
        """

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        """Overwrite the leader key, or only if `index` is its `modified`; create the ID if needed.

        Return False where another machine's loopback address is listed (R5d), and where `index`
        does not match. Raises NoSuchID if the options forbid creating it, TooManyIDs, TooManyNodes,
        StoreUnavailable.
        """

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        """Remove the leader key, or only if `index` is its `modified`.

        Raises StoreUnavailable.
        """

    def view(self, record: Record) -> View:
        """Return the view of a record that `inspect` or `records` returned."""

    def records(self) -> AsyncIterator[Sequence[Record]]:
        """Return all records as `inspect` does, in pages of at most a few hundred and in no
        particular order.

        An ID that exists all the while is returned once. One that is created or deleted meanwhile
        may be missing. Raises StoreUnavailable.
        """

    def search(self, after: str, text: str) -> AsyncIterator[Sequence[Record]]:
        """Return records as `inspect` does whose IDs follow `after` in the order of their bytes, in
        that order and in small pages, some of them empty.

        Records in which neither the ID nor an address contains `text` may be left out. The caller
        lets other work run after each page. Raises StoreUnavailable.
        """

    async def count(self) -> int:
        """Return the number of IDs, which may be approximate. Raises StoreUnavailable."""

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool, during: str | None = None) -> bool:
        """Import a record of another daemon; return whether that changed anything.

        The record keeps its owner, and then never grants (R7), unless it is imported `as_own`. With
        `during` the import is part of a migration: it is allowed only while this daemon is frozen
        for that reason.
        Raises ImportConflict, InvalidValue, TooManyIDs, TooManyNodes, StoreUnavailable.
        """


class Names(Protocol):
    """The part of a directory that DNS asks. Every method that is awaited may raise
    StoreUnavailable.
    """

    @property
    def index(self) -> int:
        """As in `Directory`."""

    async def look_up(self, discovery_id: str) -> View:
        """As in `Directory`. Raises NoSuchID."""

    async def look_up_name(self, name: str) -> View:
        """As in `Directory`. Raises NoSuchID, AmbiguousName."""

    async def has_subdomains(self, name: str) -> bool:
        """As in `Directory`."""


class Clearing(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of removing a leader key. `done`: the key is absent now. `removed` tells whether
    that removed a leader or an unreported claim; None if it removed nothing.
    """

    done: bool
    removed: Literal["leader", "claim"] | None = None


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a removal: `record` is the view after it, `removed` whether there was anything
    to remove.
    """

    record: View
    removed: bool
