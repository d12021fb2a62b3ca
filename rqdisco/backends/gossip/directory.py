"""The directory of a daemon that has peers: forwards requests to the owner of an ID, or answers on
its behalf where that is safe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.forwarding import record_of, refusal_from_outcome
from rqdisco.backends.gossip.membership.grant_ages import GrantAges
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.hints import HintStore
from rqdisco.backends.gossip.transport.links import PeerError
from rqdisco.backends.gossip.transport.messages import NAMED_IDS, Call, Op, Outcome
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core import records
from rqdisco.core.addresses import is_local, same_node
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import (
    IDExists,
    NoSuchID,
    NotReady,
    Ownerless,
    OwnerUnreachable,
    StoreUnavailable,
    Undecided,
    UnknownCreatedID,
)
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.host_binding import check_list
from rqdisco.core.ids import is_created_id, owner_tag
from rqdisco.core.records import ClaimOutcome, Node, Put, Record, RegistrationOutcome
from rqdisco.core.views import View, view_of
from rqdisco.storage.memory import Store

# Part of the 8 s limit for an answer (P4), which leaves time to answer on the owner's behalf.
FORWARD_SECONDS = 4.5
LOOK_UP_SECONDS = 2.0
_MARGIN_SECONDS = 0.5
CONTACT_SECONDS = 24 * 3600.0
_RECENT_SECONDS = 1.5
_UNREACHABLE = "the owner of this ID does not answer"
_NO_OUTCOME = Outcome()
_DISAGREE = "peers disagree or are unreachable"


class GossipDirectory:
    """Routes each request to the owner of its ID; wraps the directory of this daemon's own IDs.

    `retry_window_ms` is the retry window of grants.
    """

    _log = Logger()

    def __init__(
        self,
        local: SingleDirectory,
        store: Store,
        peers: PeerSet,
        hint_store: HintStore,
        clock: IReactorTime,
        request_name: Callable[[], str],
        *,
        retry_window_ms: int,
    ) -> None:
        self._local = local
        self._store = store
        self._peers = peers
        self._hint_store = hint_store
        self._clock = clock
        self._request_name = request_name
        self._own = peers.members.own.incarnation
        self._started = clock.seconds()
        self._grant_ages = GrantAges(clock.seconds, retry_window_ms / 1000)

    @property
    def index(self) -> int:
        return self._local.index

    @property
    def store_id(self) -> str:
        return self._own

    @property
    def frozen(self) -> str | None:
        return self._local.frozen

    async def freeze(self, reason: str) -> None:
        await self._local.freeze(reason)

    async def thaw(self) -> None:
        await self._local.thaw()

    def has_owner(self, record: View | Record) -> bool:
        return not record.ownerless and not self._peers.members.has_lost(record.owner)

    def name_host(self, host: str | None) -> str | None:
        return self._local.name_host(host)

    async def create(self) -> Record:
        if (objection := self._peers.guard.objection) is not None:
            raise Undecided(objection)
        return await self._local.create()

    async def create_named(self, discovery_id: str) -> Record:
        """Create an ID at the daemon that all members agree to be the owner of its name, while they
        do agree.
        """
        self._local.check_frozen()
        if self._local.grants.shown(discovery_id) is not None:
            raise IDExists(discovery_id)
        if not await self._peers.convergence.wait():
            raise Undecided(f"cannot create a name while {self._peers.convergence.objection() or 'peers disagree'}")
        known, members = self._store.newest(discovery_id), self._peers.members
        owner = members.owner_of_name(discovery_id) if known is None else self._owner(known)
        if owner == self._own:
            return await self._local.create_named(discovery_id)
        member = members.get(owner)
        if member is not None and NAMED_IDS not in member.features:
            raise Undecided(f"{member.name} must be upgraded first")
        return record_of(await self._forward(owner, FORWARD_SECONDS, "create", discovery_id), discovery_id)

    async def look_up(self, discovery_id: str) -> View:
        record = self._local.grants.shown(discovery_id)
        if record is not None:
            return self._local.view(record)
        return _view_of_answer(await self._query_creator(discovery_id), discovery_id)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        """Look up as `look_up`, at the owner itself. Raises StoreUnavailable if the owner does not
        answer, or may lack what it decided before its restart (R8).
        """
        record = await self._record(discovery_id)
        owner = self._owner(record)
        if owner != self._own:
            outcome = await self._forward(owner, LOOK_UP_SECONDS, "look_up", discovery_id)
            return _view_of_answer(outcome, discovery_id)
        self._peers.check(record)
        return await self._local.look_up(discovery_id)

    async def inspect(self, discovery_id: str) -> Record:
        if self._local.grants.shown(discovery_id) is None:
            return record_of(await self._query_creator(discovery_id), discovery_id)
        return await self._local.inspect(discovery_id)

    def age(self, record: View | Record) -> float | None:
        """Return seconds since the last contact with the owner of a record, None if there was none
        since this daemon started.
        """
        owner = self._owner(record)
        return 0.0 if owner == self._own else self._peers.contact(owner)

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        # Replicated changes settle in the same store as local ones.
        return self._local.watch(discovery_id, changed)

    async def look_up_name(self, name: str) -> View:
        return await self._local.look_up_name(name)

    async def has_subdomains(self, name: str) -> bool:
        return await self._local.has_subdomains(name)

    async def register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        self._local.check_frozen()
        host = self.name_host(host)
        owner = self._owner(await self._record(discovery_id))
        if owner == self._own:
            return await self._register_here(discovery_id, node, host)
        try:
            outcome = await self._forward(owner, FORWARD_SECONDS, "register", discovery_id, node=node, host=host)
        except OwnerUnreachable as silence:
            return await self._on_behalf(discovery_id, node, host, silence.reason)
        if outcome.refusal == NotReady.__name__:
            return await self._on_behalf(discovery_id, node, host, outcome.reason, outcome)
        # A refusal by the owner is final: this copy may lack what the owner has.
        return RegistrationOutcome(
            record=record_of(outcome, discovery_id), listed=outcome.listed, bootstrap=outcome.bootstrap
        )

    async def _register_here(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        """Register at the owner; while it is not ready, list as another daemon would (R8)."""
        try:
            return await self._local.register(discovery_id, node, host)
        except NotReady as doubt:
            return await self._on_behalf(discovery_id, node, host, doubt.reason)

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        self._local.check_frozen()
        owner = self._owner(await self._record(discovery_id))
        if owner == self._own:
            return await self._local.remove(discovery_id, addr)
        outcome = await self._forward(owner, FORWARD_SECONDS, "remove", discovery_id, addr=addr)
        return Removal(record=_view_of_answer(outcome, discovery_id), removed=outcome.yes)

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> ClaimOutcome:
        self._local.check_frozen()
        host = self.name_host(host)
        owner = await self._owner_of_key(discovery_id)
        if owner == self._own:
            return await self._local.claim(discovery_id, put, host)
        outcome = await self._forward(owner, FORWARD_SECONDS, "claim", discovery_id, put=put, host=host)
        return ClaimOutcome(record=record_of(outcome, discovery_id), won=outcome.yes, again=outcome.again)

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        self._local.check_frozen()
        host = self.name_host(host)
        owner = await self._owner_of_key(discovery_id, is_report=True)
        if owner == self._own:
            return await self._local.report(discovery_id, put, host, index)
        outcome = await self._forward(owner, FORWARD_SECONDS, "report", discovery_id, put=put, host=host, index=index)
        return _flag(outcome, discovery_id)

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        self._local.check_frozen()
        owner = await self._owner_of_key(discovery_id)
        if owner == self._own:
            return await self._local.clear_leader(discovery_id, index)
        outcome = await self._forward(owner, FORWARD_SECONDS, "clear_leader", discovery_id, index=index)
        return Clearing(done=_flag(outcome, discovery_id), removed=outcome.removed)

    def view(self, record: Record) -> View:
        return self._local.view(record)

    def records(self) -> AsyncIterator[Sequence[Record]]:
        return self._local.records()

    async def count(self) -> int:
        return await self._local.count()

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool, during: str | None = None) -> bool:
        known = self._store.newest(transferred.id)
        if known is not None and self._owner(known) != self._own:
            raise Undecided("another daemon owns this ID: import it there")
        if known is None and not await self._peers.convergence.wait():
            raise Undecided(_DISAGREE)
        return await self._local.adopt(transferred, as_own=as_own, during=during)

    def on_replicated(self, record: Record) -> None:
        """Process a record replicated from a peer."""
        self._grant_ages.observe(record)

    def _owner(self, record: View | Record) -> str:
        """Return the current owner; this daemon, if the record's owner was never a member."""
        owner = self._peers.members.current_owner(record.owner)
        return owner if self._peers.members.get(owner) is not None else self._own

    async def _record(self, discovery_id: str) -> Record:
        """Return the local copy of a record, or the one of its creator. Raises NoSuchID,
        StoreUnavailable.
        """
        known = self._store.newest(discovery_id)
        return record_of(await self._query_creator(discovery_id), discovery_id) if known is None else known

    async def _owner_of_key(self, discovery_id: str, *, is_report: bool = False) -> str:
        """Return the owner of an ID, or its owner to be. Raises UnknownCreatedID, or
        StoreUnavailable where the owner is undetermined.
        """
        try:
            return self._owner(await self._record(discovery_id))
        except NoSuchID:
            if is_created_id(discovery_id) and not is_report:
                # A created ID must not come into being twice.
                raise UnknownCreatedID(discovery_id) from None
        if not await self._peers.convergence.wait():
            raise Undecided(_DISAGREE)
        return self._peers.members.owner_of_name(discovery_id)

    async def _query_creator(self, discovery_id: str) -> Outcome:
        """Query the members whose tag an ID carries, since it may not be replicated here yet
        (R1).
        """
        if not is_created_id(discovery_id):
            raise NoSuchID(discovery_id)
        unreachable: StoreUnavailable | None = None
        for member in self._peers.members.tagged(owner_tag(discovery_id)):
            owner = self._peers.members.current_owner(member.incarnation)
            try:
                if owner == self._own:
                    raise self._local.missing_error(discovery_id)
                outcome = await self._forward(owner, LOOK_UP_SECONDS, "look_up", discovery_id)
                record_of(outcome, discovery_id)
                return outcome
            except NoSuchID:
                continue
            except StoreUnavailable as error:
                unreachable = error
        if unreachable is None and self._peers.unidentified:
            # A peer that was never contacted may be the creator.
            unreachable = Undecided("not all peers were contacted yet")
        raise NoSuchID(discovery_id) if unreachable is None else unreachable

    async def _forward(
        self,
        owner: str,
        seconds: float,
        op: Op,
        discovery_id: str,
        *,
        node: Node | None = None,
        addr: str | None = None,
        put: Put | None = None,
        index: int | None = None,
        host: str | None = None,
    ) -> Outcome:
        """Forward a request once (R2). Raises OwnerUnreachable if no answer arrives."""
        peer = self._peers.peers.get(owner)
        if peer is None or not (peer.is_up or self._answered_recently(owner)):
            raise OwnerUnreachable(_UNREACHABLE)
        left = seconds - _MARGIN_SECONDS
        message = Call(
            owner=owner,
            op=op,
            request=self._request_name(),
            ms=int(left * 1000),
            id=discovery_id,
            node=node,
            addr=addr,
            put=put,
            index=index,
            until=peer.remote_time_in(left),
            host=host,
        )
        try:
            return await peer.request("call", message, Outcome, seconds)
        except PeerError as error:
            self._log.warn("request not forwarded: {why}", why=str(error) or type(error).__name__, owner=owner)
            raise OwnerUnreachable(_UNREACHABLE) from None

    def _answered_recently(self, owner: str) -> bool:
        """Report whether there was contact with an owner after its last failure, which justifies an
        attempt.
        """
        contact = self._peers.contact(owner)
        return contact is not None and contact < _RECENT_SECONDS

    async def _on_behalf(
        self, discovery_id: str, node: Node, host: str | None, why: str, reply: Outcome = _NO_OUTCOME
    ) -> RegistrationOutcome:
        """Answer a registration from the copy, and store it as a hint for the owner (R4).

        `reply` is what the owner holds, if it answered. Raises Undecided where the list may be
        outdated, LoopbackConflict, Ownerless.
        """
        copy = self._listable(discovery_id, node, host, why, reply)
        hint = await self._hint_store.store(self._owner(copy), discovery_id, node, host)
        try:
            # The record may have changed while the hint was written, so check and answer with it
            # now.
            copy = self._listable(discovery_id, node, host, why, reply)
        except Exception:
            self._hint_store.withdraw(hint)
            raise
        self._hint_store.mark_answered(hint)
        hinted = [*reply.listed, *self._hint_store.nodes(discovery_id), node]
        return RegistrationOutcome(
            record=copy, listed=view_of(copy, is_owner=False, hinted=hinted).nodes, on_behalf=True
        )

    def _listable(self, discovery_id: str, node: Node, host: str | None, why: str, reply: Outcome) -> Record:
        """Return the newest record available, if it lists another node and is safe to list. Raises
        as `_on_behalf`.
        """
        self._local.check_frozen()
        copy = _newer(self._local.grants.shown(discovery_id), reply.record)
        if copy is None or self._peers.members.own.state != "member" or self._peers.is_excluded:
            raise Undecided(why)
        if not any(not same_node(each.addr, node.addr) for each in view_of(copy, is_owner=False).nodes):
            if copy.ownerless and not copy.nodes:
                raise Ownerless(copy.id)
            raise Undecided(why)
        check_list(copy, node, host)
        if is_local(node.addr) and copy.host is None:
            # Only the owner decides which host a loopback address belongs to (R5d).
            raise Undecided(why)
        grant = copy.grant
        if grant is not None and same_node(grant.addr, node.addr) and self._grant_ages.is_young(copy):
            raise Undecided(f"{why}, and this node may just have been told to bootstrap")
        owner = self._owner(copy)
        contact = self._peers.contact(owner) if owner != self._own else 0.0
        since = self._clock.seconds() - self._started if contact is None else contact
        if since > CONTACT_SECONDS and not copy.ownerless:
            raise Undecided(f"{why}, for more than a day")
        return copy


def _newer(copy: Record | None, reply: Record | None) -> Record | None:
    """Return the newer of a copy and the owner's record; the owner's disk may be an older one."""
    if copy is None or reply is None:
        return reply if copy is None else copy
    return reply if records.precedence(copy, reply) == "newer" else copy


def _view_of_answer(outcome: Outcome, discovery_id: str) -> View:
    """Return the view of a record sent by its owner. Raises the owner's refusal."""
    return view_of(record_of(outcome, discovery_id), is_owner=True, hinted=outcome.listed)


def _flag(outcome: Outcome, discovery_id: str) -> bool:
    if outcome.refusal is not None:
        raise refusal_from_outcome(outcome, discovery_id)
    return outcome.yes
