"""The barrier that an owner passes before it grants a bootstrap again (R5)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.replication.hints import HintMerger
from rqdisco.backends.gossip.transport.messages import Barrier, Hints
from rqdisco.core import codec
from rqdisco.core.errors import Undecided
from rqdisco.core.records import Record

BARRIER_SECONDS = 3.0
_MAX_ROUNDS = 20


class BarrierRunner:
    """Replicates a record to all `members` through `peers`, and adds the hints they return with
    `hint_merger`.
    """

    def __init__(self, members: Members, peers: Mapping[str, Peer], hint_merger: HintMerger) -> None:
        self._members = members
        self._peers = peers
        self._hint_merger = hint_merger

    async def run(self, record: Record) -> None:
        """Query all members concurrently, each until it has no more hints. Raises Undecided if one
        does not answer.
        """
        others = self._members.others
        unreachable = [self._members.label(each) for each in others if not self._is_up(each.incarnation)]
        if unreachable:
            raise Undecided(f"cannot grant a bootstrap without {', '.join(unreachable)}")
        line = msgspec.Raw(codec.encode_record(record))
        pending = [
            Deferred.fromCoroutine(self._collect(self._peers[each.incarnation], record.owner, line)) for each in others
        ]
        try:
            await gatherResults(pending, consumeErrors=True)
        except Exception as error:
            for each in pending:
                each.cancel()
            if isinstance(error, CancelledError):
                raise
            raise Undecided("cannot grant a bootstrap: a peer does not answer") from None
        # A member that joined meanwhile was not queried.
        if {each.incarnation for each in self._members.others} != {each.incarnation for each in others}:
            raise Undecided("the members changed during the barrier")

    def _is_up(self, incarnation: str) -> bool:
        return incarnation in self._peers and self._peers[incarnation].is_up

    async def _collect(self, peer: Peer, owner: str, line: msgspec.Raw) -> None:
        of, added = "", 0
        for _ in range(_MAX_ROUNDS):
            request = Barrier(owner=owner, record=line, of=of, added=added)
            answer = await peer.request("barrier", request, Hints, BARRIER_SECONDS)
            if not answer.hints:
                return
            assert peer.incarnation is not None
            of, added = answer.of, await self._hint_merger.add(peer.incarnation, answer.of, answer.hints)
        raise Undecided("a peer has too many hints")
