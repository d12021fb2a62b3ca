"""What a daemon that decides about its own IDs asks of its peers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rqdisco.core.records import Node, Record


class Coordinator(Protocol):
    """What a home asks of its peers before it speaks."""

    def check(self, record: Record) -> None:
        """Raise Undecided where this daemon must not change the record of an ID now, NotReady where
        R8 says so.

        What this daemon answered under the ID while it was not ready is on the record's list when
        this returns.
        """

    def hinted(self, discovery_id: str) -> Sequence[Node]:
        """The nodes that this daemon answered on the owner's behalf, and that may not be on its
        list yet (R4).
        """

    def hide_claims(self) -> bool:
        """Whether no member is known to show claims that only their owners may see (R5c)."""

    def repeat_claims(self) -> bool:
        """Whether all members are known to show none, so that their owners may be told of them
        again (R5c).
        """

    def check_unknown(self) -> None:
        """Raise Undecided where there may have been an ID here that is not known any more (R8)."""

    def is_lost(self, owner: str) -> bool:
        """Whether a home that is no more left its IDs behind, rather than handing them over
        (R7).
        """

    def created(self, discovery_id: str) -> None:
        """An ID comes to be here, in this boot. Raises Undecided where nothing may be decided."""

    async def replicated(self, version: int, *, is_grant: bool) -> bool:
        """Whether a peer durably has the change of that version, or none is up that could; within a
        second (R6).
        """

    async def barrier(self, record: Record) -> None:
        """Return when every member has the record, and all that was promised elsewhere under its ID
        was added (R5).

        Raises Undecided where one of them is silent.
        """
