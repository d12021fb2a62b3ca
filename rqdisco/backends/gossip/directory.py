"""The directory of a daemon that has peers: asks the owner of an ID, or answers on its behalf what
may be answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.backends.gossip.forwarding import record_of, refusal_from_outcome
from rqdisco.backends.gossip.membership.sightings import Sightings
from rqdisco.backends.gossip.peer_set import PeerSet
from rqdisco.backends.gossip.replication.hints import HintStore
from rqdisco.backends.gossip.transport.links import PeerError
from rqdisco.backends.gossip.transport.messages import Call, Op, Outcome
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core import records
from rqdisco.core.addresses import is_local, same_node
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import (
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
from rqdisco.core.ids import is_created_id, tag
from rqdisco.core.records import Claim, Node, Put, Record, Registration
from rqdisco.core.views import View, view_of
from rqdisco.storage.memory import Store

# Of the 8 s in which a client must be answered (P4), so that there is time left for an answer on
# the owner's behalf.
FORWARD_SECONDS = 4.5
LOOK_UP_SECONDS = 2.0
_MARGIN_SECONDS = 0.5
CONTACT_SECONDS = 24 * 3600.0
_JUST_NOW_SECONDS = 1.5
_UNREACHABLE = "the owner of this ID does not answer"
_NOTHING = Outcome()
_DISAGREE = "peers disagree or are silent"


class GossipDirectory:
    """Routes each request to the home of its ID; in front of the directory of this daemon's own
    IDs.

    `retry_window_ms` is the re-grant window, `max_nodes` how many nodes an ID may hold.
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
        self._sightings = Sightings(clock.seconds, retry_window_ms / 1000)

    @property
    def index(self) -> int:
        return self._local.index

    def is_owner_of(self, record: View | Record) -> bool:
        return not record.ownerless and not self._peers.members.has_lost(record.owner)

    def name_host(self, host: str | None) -> str | None:
        return self._local.name_host(host)

    async def create(self) -> Record:
        if (objection := self._peers.guard.objection) is not None:
            raise Undecided(objection)
        return await self._local.create()

    async def look_up(self, discovery_id: str) -> View:
        record = self._local.shown(discovery_id)
        if record is not None:
            return self._local.view(record)
        return _view_of_answer(await self._ask_creator(discovery_id), discovery_id)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        """As `look_up`, from the home itself. Raises StoreUnavailable where that does not answer,
        or may not know yet what it decided before it started (R8).
        """
        record = await self._record(discovery_id)
        owner = self._owner(record)
        if owner != self._own:
            outcome = await self._call(owner, LOOK_UP_SECONDS, "look_up", discovery_id)
            return _view_of_answer(outcome, discovery_id)
        self._peers.check(record)
        return await self._local.look_up(discovery_id)

    async def inspect(self, discovery_id: str) -> Record:
        if self._local.shown(discovery_id) is None:
            return record_of(await self._ask_creator(discovery_id), discovery_id)
        return await self._local.inspect(discovery_id)

    def age(self, record: View | Record) -> float | None:
        """Seconds since the home of a record was last heard; None if it was not in this boot."""
        owner = self._owner(record)
        return 0.0 if owner == self._own else self._peers.contact(owner)

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        # What a peer says ends in the same store as what is decided here.
        return self._local.watch(discovery_id, changed)

    async def look_up_name(self, name: str) -> View:
        return await self._local.look_up_name(name)

    async def is_above(self, name: str) -> bool:
        return await self._local.is_above(name)

    async def register(self, discovery_id: str, node: Node, host: str | None) -> Registration:
        host = self.name_host(host)
        owner = self._owner(await self._record(discovery_id))
        if owner == self._own:
            return await self._register_here(discovery_id, node, host)
        try:
            outcome = await self._call(owner, FORWARD_SECONDS, "register", discovery_id, node=node, host=host)
        except OwnerUnreachable as silence:
            return await self._on_behalf(discovery_id, node, host, silence.reason)
        if outcome.refusal == NotReady.__name__:
            return await self._on_behalf(discovery_id, node, host, outcome.reason, outcome)
        # What the owner itself refuses is refused: it may know what this copy does not.
        return Registration(record=record_of(outcome, discovery_id), listed=outcome.listed, bootstrap=outcome.bootstrap)

    async def _register_here(self, discovery_id: str, node: Node, host: str | None) -> Registration:
        """`register` at the home; while that is not ready it lists as another daemon would (R8)."""
        try:
            return await self._local.register(discovery_id, node, host)
        except NotReady as doubt:
            return await self._on_behalf(discovery_id, node, host, doubt.reason)

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        owner = self._owner(await self._record(discovery_id))
        if owner == self._own:
            return await self._local.remove(discovery_id, addr)
        outcome = await self._call(owner, FORWARD_SECONDS, "remove", discovery_id, addr=addr)
        return Removal(record=_view_of_answer(outcome, discovery_id), removed=outcome.yes)

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> Claim:
        host = self.name_host(host)
        owner = await self._owner_of_key(discovery_id)
        if owner == self._own:
            return await self._local.claim(discovery_id, put, host)
        outcome = await self._call(owner, FORWARD_SECONDS, "claim", discovery_id, put=put, host=host)
        return Claim(record=record_of(outcome, discovery_id), won=outcome.yes, again=outcome.again)

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        host = self.name_host(host)
        owner = await self._owner_of_key(discovery_id, is_report=True)
        if owner == self._own:
            return await self._local.report(discovery_id, put, host, index)
        outcome = await self._call(owner, FORWARD_SECONDS, "report", discovery_id, put=put, host=host, index=index)
        return _yes(outcome, discovery_id)

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        owner = await self._owner_of_key(discovery_id)
        if owner == self._own:
            return await self._local.clear_leader(discovery_id, index)
        outcome = await self._call(owner, FORWARD_SECONDS, "clear_leader", discovery_id, index=index)
        return Clearing(done=_yes(outcome, discovery_id), removed=outcome.removed)

    async def ids(self) -> Sequence[str]:
        return await self._local.ids()

    async def adopt(self, transferred: TransferredRecord, *, as_own: bool) -> bool:
        known = self._store.newest(transferred.id)
        if known is not None and self._owner(known) != self._own:
            raise Undecided("its home is another daemon, import there")
        if known is None and not await self._peers.agreement.soon():
            raise Undecided(_DISAGREE)
        return await self._local.adopt(transferred, as_own=as_own)

    def changed(self, record: Record) -> None:
        """A peer's record came in."""
        self._sightings.see(record)

    def _owner(self, record: View | Record) -> str:
        """Who the home is by now; of an ID that came from nobody's member, this daemon."""
        owner = self._peers.members.current_owner(record.owner)
        return owner if self._peers.members.get(owner) is not None else self._own

    async def _record(self, discovery_id: str) -> Record:
        """What is known of an ID here, or where it was minted. Raises NoSuchID,
        StoreUnavailable.
        """
        known = self._store.newest(discovery_id)
        return record_of(await self._ask_creator(discovery_id), discovery_id) if known is None else known

    async def _owner_of_key(self, discovery_id: str, *, is_report: bool = False) -> str:
        """The home of an ID, or who is to be it. Raises UnknownCreatedID, StoreUnavailable where
        that is open.
        """
        try:
            return self._owner(await self._record(discovery_id))
        except NoSuchID:
            if is_created_id(discovery_id) and not is_report:
                # It must not come to be a second time.
                raise UnknownCreatedID(discovery_id) from None
        if not await self._peers.agreement.soon():
            raise Undecided(_DISAGREE)
        return self._peers.members.owner_of_name(discovery_id)

    async def _ask_creator(self, discovery_id: str) -> Outcome:
        """Ask those whose tag an ID bears, since it may not have come here yet (R1)."""
        if not is_created_id(discovery_id):
            raise NoSuchID(discovery_id)
        unreachable: StoreUnavailable | None = None
        for member in self._peers.members.tagged(tag(discovery_id)):
            owner = self._peers.members.current_owner(member.incarnation)
            try:
                if owner == self._own:
                    raise self._local.absence(discovery_id)
                outcome = await self._call(owner, LOOK_UP_SECONDS, "look_up", discovery_id)
                record_of(outcome, discovery_id)
                return outcome
            except NoSuchID:
                continue
            except StoreUnavailable as error:
                unreachable = error
        if unreachable is None and self._peers.strangers:
            # Whoever was not met yet may know who minted it.
            unreachable = Undecided("not all peers were met yet")
        raise NoSuchID(discovery_id) if unreachable is None else unreachable

    async def _call(
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
        """Forward a request, once (R2). Raises OwnerUnreachable where no answer comes."""
        peer = self._peers.peers.get(owner)
        if peer is None or not (peer.is_up or self._spoke_just_now(owner)):
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
            until=peer.time_there_in(left),
            host=host,
        )
        try:
            return await peer.ask("call", message, Outcome, seconds)
        except PeerError as error:
            self._log.warn("not forwarded: {why}", why=str(error) or type(error).__name__, owner=owner)
            raise OwnerUnreachable(_UNREACHABLE) from None

    def _spoke_just_now(self, owner: str) -> bool:
        """Whether a home that did not answer the last time has been heard since, so that it is
        worth a try.
        """
        contact = self._peers.contact(owner)
        return contact is not None and contact < _JUST_NOW_SECONDS

    async def _on_behalf(
        self, discovery_id: str, node: Node, host: str | None, why: str, told: Outcome = _NOTHING
    ) -> Registration:
        """List what is known, and keep the node for the owner to add (R4).

        `told` is what the owner holds, if it said so. Raises Undecided where the list may be wrong,
        WrongHost, Ownerless.
        """
        copy = self._listable(discovery_id, node, host, why, told)
        hint = await self._hint_store.keep(self._owner(copy), discovery_id, node, host)
        try:
            # What was listed before the wait may be gone: that is judged, and answered, now.
            copy = self._listable(discovery_id, node, host, why, told)
        except Exception:
            self._hint_store.withdraw(hint)
            raise
        self._hint_store.promise(hint)
        hinted = [*told.listed, *self._hint_store.of(discovery_id), node]
        return Registration(record=copy, listed=view_of(copy, is_owner=False, hinted=hinted).nodes, on_behalf=True)

    def _listable(self, discovery_id: str, node: Node, host: str | None, why: str, told: Outcome) -> Record:
        """The newest that is known, if it lists another node and is one to rely on. Raises as
        above.
        """
        copy = _newer(self._local.shown(discovery_id), told.record)
        if copy is None or self._peers.members.own.state != "member" or self._peers.is_out:
            raise Undecided(why)
        if not any(not same_node(each.addr, node.addr) for each in view_of(copy, is_owner=False).nodes):
            if copy.ownerless and not copy.nodes:
                raise Ownerless(copy.id)
            raise Undecided(why)
        check_list(copy, node, host)
        if is_local(node.addr) and copy.host is None:
            # Whose loopback it would be is the owner's to decide (R5d).
            raise Undecided(why)
        grant = copy.grant
        if grant is not None and same_node(grant.addr, node.addr) and self._sightings.is_young(copy):
            raise Undecided(f"{why}, and this node may just have been told to bootstrap")
        owner = self._owner(copy)
        contact = self._peers.contact(owner) if owner != self._own else 0.0
        since = self._clock.seconds() - self._started if contact is None else contact
        if since > CONTACT_SECONDS and not copy.ownerless:
            raise Undecided(f"{why}, for more than a day")
        return copy


def _newer(copy: Record | None, told: Record | None) -> Record | None:
    """The newer of a copy and what the owner holds, whose disk may be an older one."""
    if copy is None or told is None:
        return told if copy is None else copy
    return told if records.precedence(copy, told) == "newer" else copy


def _view_of_answer(outcome: Outcome, discovery_id: str) -> View:
    """What may be shown of a record that its owner sent. Raises what the owner refused with."""
    return view_of(record_of(outcome, discovery_id), is_owner=True, hinted=outcome.listed)


def _yes(outcome: Outcome, discovery_id: str) -> bool:
    if outcome.refusal is not None:
        raise refusal_from_outcome(outcome, discovery_id)
    return outcome.yes
