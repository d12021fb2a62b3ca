"""The interface through which a directory consults its peers before it decides about its own
IDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rqdisco.core.records import Node, Record


class Coordinator(Protocol):
    """The peers, as the owner of an ID sees them."""

    def check(self, record: Record) -> None:
        """Raise Undecided where this daemon must not change the record now, NotReady where that is
        for R8.

        Afterwards the record lists what this daemon answered under the ID before it was ready.
        """

    def hinted(self, discovery_id: str) -> Sequence[Node]:
        """Return nodes that this daemon answered on the owner's behalf, and that the owner may not
        list yet (R4).
        """

    def hide_claims(self) -> bool:
        """Report whether no member is known to show claims that only their owners may see (R5c)."""

    def repeat_claims(self) -> bool:
        """Report whether all members are known to hide claims, so that their owners may win them
        again (R5c).
        """

    def check_unknown(self) -> None:
        """Raise Undecided where this daemon may have lost the record of an ID (R8)."""

    def is_lost(self, owner: str) -> bool:
        """Report whether a former owner left its IDs behind, rather than handing them over (R7)."""

    def created(self, discovery_id: str) -> None:
        """Note that an ID is created in this boot. Raises Undecided where nothing may be
        decided.
        """

    async def replicated(self, version: int, *, is_grant: bool) -> bool:
        """Return, within a second, whether a peer durably has the change of that version, or no
        peer is up (R6).
        """

    async def barrier(self, record: Record) -> None:
        """Return once every member has the record, and every hint of theirs for its ID was added
        (R5).

        Raises Undecided where a member does not answer.
        """
