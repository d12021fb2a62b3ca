"""What every door calls: mint an ID, look one up, register a node under it, remove one, claim and
report leadership.

The interface is narrow and asynchronous so that daemons elsewhere, or another engine altogether,
can stand behind it. Cancelling a call says that nobody will hear its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Claim, Node, Put, Record, Registration
from rqdisco.core.views import View


class Directory(Protocol):
    """Discovery IDs and what is registered under them. Every answer shows only what is durable.

    `host` is the client host of a request as `binding` has it: the address that it came from,
    THIS_MACHINE for a client on the daemon's own machine, None where that is not known.

    `register` and `claim` may grant: a grant counts as said once the caller ran on to its next
    await, so it sends the answer before that. Cancelled, the record is as if the call never came,
    or durably changed; a grant that nobody heard is revoked.
    """

    @property
    def index(self) -> int:
        """A number that is never 0, never falls, and rises with every change."""

    def is_owner_of(self, record: View | Record) -> bool:
        """Whether anybody can be told here that it is alone under this ID (R7)."""

    async def create(self) -> Record:
        """Mint an ID. Raises TooManyIDs, StoreUnavailable."""

    async def look_up(self, discovery_id: str) -> View:
        """What may be shown of an ID. Raises NoSuchID."""

    async def look_up_at_owner(self, discovery_id: str) -> View:
        """As `look_up`, but from its home itself. Raises StoreUnavailable where that does not
        answer.
        """

    async def inspect(self, discovery_id: str) -> Record:
        """All that is held of an ID, for its operator and for exports, never for nodes. Raises
        NoSuchID.
        """

    def name_host(self, host: str | None) -> str | None:
        """A client host as records name it."""

    def age(self, record: View | Record) -> float | None:
        """Seconds since the home of a record was last heard; 0 at the home itself, None if it was
        not yet.
        """

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` whenever what `look_up` says of an ID may be another now, wherever it was
        changed.

        Returns what ends that. `changed` is called between two decisions, so it must be quick, and
        ask later.
        """

    async def look_up_name(self, name: str) -> View:
        """What may be shown of the ID that is the lower-case `name` but for case. Raises NoSuchID,
        AmbiguousName.
        """

    async def is_above(self, name: str) -> bool:
        """Whether there is an ID that ends with a dot and the lower-case `name`, but for case."""

    async def register(self, discovery_id: str, node: Node, host: str | None) -> Registration:
        """Register a node, and say whom to list.

        Raises NoSuchID, TooManyNodes, WrongHost, Ownerless, StoreUnavailable.
        """

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        """Remove the registration of an address that is listed now, never a newer one (R9).

        Raises NoSuchID, StoreUnavailable.
        """

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> Claim:
        """Put the leader key of an ID that has neither leader nor nodes; the ID is made if need be.

        Raises NoSuchID where IDs are not made so, UnknownCreatedID, TooManyIDs, Ownerless,
        StoreUnavailable.
        """

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        """Put the leader key: whatever it holds, the ID being made if need be, or only if `index`
        is its `modified`.

        False where another machine's loopback address is listed (R5d). Raises NoSuchID where IDs
        are not made so, TooManyIDs, TooManyNodes, StoreUnavailable.
        """

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        """Take the leader key away, or only if `index` is its `modified`.

        Raises StoreUnavailable.
        """

    async def ids(self) -> Sequence[str]:
        """All IDs, in no particular order."""

    async def adopt(self, brought: TransferredRecord, *, as_own: bool) -> bool:
        """Take over what another daemon said of an ID; false if that changes nothing.

        An ID that was another's stays its own, and then never grants (R7), unless it is taken
        `as_own`. Raises AlreadyKnown, InvalidValue, TooManyIDs, TooManyNodes, StoreUnavailable.
        """


class Clearing(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of taking a leader key away: whether it is gone, and what went: a claim was not
    reported yet.
    """

    done: bool
    removed: Literal["leader", "claim"] | None = None


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a removal: what may be shown after it, and whether there was anything to
    remove.
    """

    record: View
    removed: bool
