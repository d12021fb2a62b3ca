"""The directory of one daemon that is the home of its IDs: decides, makes durable, answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rqdisco.backends.single.coordinator import Coordinator
from rqdisco.backends.single.grants import Grants, PendingGrant
from rqdisco.backends.single.subscriptions import Subscriptions
from rqdisco.backends.single.versions import Versions
from rqdisco.core import host_binding, records, transitions
from rqdisco.core.addresses import same_node
from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import (
    AlreadyKnown,
    AmbiguousName,
    NoSuchID,
    Ownerless,
    TooManyIDs,
    TooManyNodes,
    Undecided,
    UnknownCreatedID,
    WrongHost,
)
from rqdisco.core.exports import TransferredRecord, is_equivalent, to_record
from rqdisco.core.ids import RandomBytes, is_created_id, new_id, tag
from rqdisco.core.records import Claim, Grant, Moment, Node, Put, Record, Registration
from rqdisco.core.views import View, view_of
from rqdisco.storage.memory import Change, Store
from rqdisco.storage.wal.writer import Journal

T = TypeVar("T")
_MANY_CLAIMS = 3


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator allows: the re-grant window in milliseconds, 0 for none, how much may be
    held, whether an ID comes to be by its leader key being put, and whether a claim is shown before
    its leader reports itself, as Consul does.
    """

    retry_window_ms: int = 30_000
    max_ids: int | None = None
    max_nodes: int = 1000
    make_named: bool = True
    visible_claims: bool = False


class SingleDirectory:
    """The directory of one daemon, which is the home of every ID it minted (R1); `coordinator` are
    its peers, if any.

    `now` gives monotonic moments, `wall_us` the wall clock in microseconds, which only names and
    orders things; `machine` is what the daemon's machine is called in records, its incarnation if
    nothing else.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        journal: Journal,
        owner: str,
        *,
        now: Callable[[], Moment],
        wall_us: Callable[[], int],
        random: RandomBytes,
        limits: Limits,
        coordinator: Coordinator | None = None,
        machine: str | None = None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._owner = owner
        self._machine = owner if machine is None else machine
        self._now = now
        self._began_ms = now().ms
        # Of IDs, when by a clock that was set back since their grants were made.
        self._not_made_here: dict[str, int] = {}
        self._wall_us = wall_us
        self._random = random
        self._limits = limits
        self._coordinator = coordinator
        self._subscriptions = Subscriptions()
        store.on_settled.append(self._subscriptions.settled)
        store.on_dropped.append(self._subscriptions.dropped)
        self._versions = Versions(store, wall_us)
        self._grants = Grants(store, journal, self._versions, self._subscriptions, coordinator)

    @property
    def size(self) -> int:
        """The number of IDs held."""
        return len(self._store)

    @property
    def index(self) -> int:
        return max(1, self._store.settled_version)

    def is_owner_of(self, record: View | Record) -> bool:
        return record.owner == self._owner and not record.ownerless

    async def create(self) -> Record:
        record = self._fresh(new_id(self._owner, self._random), self._versions.next())
        await self._write(record)
        return record

    def name_host(self, host: str | None) -> str | None:
        return host_binding.named(host, self._machine)

    async def look_up(self, discovery_id: str) -> View:
        record = self.shown(discovery_id)
        if record is None:
            raise self.unknown(discovery_id)
        return self.view(record)

    async def look_up_at_owner(self, discovery_id: str) -> View:
        return await self.look_up(discovery_id)

    async def inspect(self, discovery_id: str) -> Record:
        record = self.shown(discovery_id)
        if record is None:
            raise self.unknown(discovery_id)
        return self._settled(record) if record.owner == self._owner else record

    def view(self, record: Record) -> View:
        """What may be shown of a record that is held here."""
        hinted = () if self._coordinator is None else self._coordinator.hinted(record.id)
        is_owner = record.owner == self._owner
        if is_owner:
            record = host_binding.renamed(record, self._machine)
        return view_of(record, is_owner=is_owner, hinted=hinted)

    def age(self, record: View | Record) -> float | None:
        return 0.0

    def watch(self, discovery_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._subscriptions.add(discovery_id, changed)

    async def look_up_name(self, name: str) -> View:
        name_index = [key.decode() for key in self._store.name_index.of(name.encode())]
        if not name_index:
            return await self.look_up(name)
        if len(name_index) > 1 or self._store.settled(name) is not None:
            raise AmbiguousName(name)
        return await self.look_up(name_index[0])

    async def is_above(self, name: str) -> bool:
        return self._store.name_index.is_above(name.encode())

    async def register(self, discovery_id: str, node: Node, host: str | None) -> Registration:
        host = self.name_host(host)
        record = await self._decidable(discovery_id)
        outcome = self._register(record, node, host)
        if outcome.bootstrap is not None:
            self._check_owner(record)
        if record.ownerless:
            outcome = _only_answered(outcome, self.view(outcome.record), node)
        if outcome.bootstrap != "granted":
            return replace(outcome, record=await self._durably(record, outcome.record))
        pending = self._grants.hold(record.id)
        if self._coordinator is not None and (record.was_emptied or record.nodes):
            record, outcome = await self._past_barrier(pending, lambda newest: self._register(newest, node, host))
            if outcome.bootstrap != "granted":
                # The change is put before others may decide.
                durably = Deferred.fromCoroutine(self._durably(record, outcome.record))
                self._grants.end(pending)
                return replace(outcome, record=await durably)
        granted = await self._grants.tell(pending, record, replace(outcome.record, version=self._versions.next()))
        return replace(outcome, record=granted)

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        record, removed = await self.remove_from(discovery_id, addr)
        return Removal(record=self.view(record), removed=removed)

    async def remove_from(self, discovery_id: str, addr: str) -> tuple[Record, bool]:
        """As `remove`: the whole record after it, and whether there was anything to remove."""
        # What was decided may still be refused by the disk, and what is shown is then there again.
        arrived = [
            known
            for known in (self._grants.decided(discovery_id), self._grants.shown(discovery_id))
            if known is not None
        ]
        record = await self._decidable(discovery_id)
        # R9: what was listed on arrival goes, and not what registered while we waited.
        was_listed = any(transitions.remove(known, addr) is not known for known in arrived)
        after = record
        if was_listed and not all(transitions.is_newer(record, known, addr) for known in arrived):
            after = transitions.remove(record, addr)
        return await self._durably(record, after), after is not record

    async def claim(self, discovery_id: str, put: Put, host: str | None) -> Claim:
        host = self.name_host(host)
        known = await self._decidable_if_any(discovery_id)
        if known is None and is_created_id(discovery_id):
            doubt = self.unknown(discovery_id)
            raise doubt if isinstance(doubt, Undecided) else UnknownCreatedID(discovery_id)
        record = self._named(discovery_id) if known is None else known
        outcome = self._claim(record, put, host)
        if not outcome.won:
            return replace(outcome, record=await self._durably(record, record))
        self._check_owner(record)
        if outcome.again:
            # Nobody else was ever sent to this node, so there is nothing to ask peers for (R5c).
            told = await self._durably(record, outcome.record, outcome.record.version)
            self._warn_of_claims(told)
            return replace(outcome, record=told)
        pending = self._grants.hold(record.id)
        if self._coordinator is not None and record.was_emptied:
            record, outcome = await self._past_barrier(pending, lambda newest: self._claim(newest, put, host))
            if not outcome.won:
                self._grants.end(pending)
                return replace(outcome, record=await self._durably(record, record))
        return replace(outcome, record=await self._grants.tell(pending, record, outcome.record))

    async def report(self, discovery_id: str, put: Put, host: str | None, index: int | None = None) -> bool:
        host = self.name_host(host)
        known = await self._decidable_if_any(discovery_id)
        if index is not None and not (_is_at(known, index) and transitions.may_see_leader(known, put)):
            await self._durably_as_it_is(known)
            return False
        version = self._versions.next()
        record = self._named(discovery_id) if known is None else known
        if known is None and is_created_id(discovery_id):
            # Its cluster lives on; but whoever created the ID may have told others that they are
            # alone (R7).
            record = replace(record, ownerless=True)
        after = transitions.report(record, put, host=host, version=version, max_nodes=self._limits.max_nodes)
        if after is None:
            await self._durably_as_it_is(known)
            return False
        await self._durably(record, after, version)
        return True

    async def clear_leader(self, discovery_id: str, index: int | None = None) -> Clearing:
        # What was decided may still be refused by the disk, and what is shown is then there again.
        arrived = (self._grants.decided(discovery_id), self._grants.shown(discovery_id))
        record = await self._decidable_if_any(discovery_id)
        if record is None or record.leader is None or (index is not None and not _is_at(record, index)):
            await self._durably_as_it_is(record)
            return Clearing(done=record is None or record.leader is None)
        # R9: what was put while we waited is not what the caller wants gone.
        if not any(_is_at(known, record.leader.modified) for known in arrived):
            await self._durably_as_it_is(record)
            return Clearing(done=True)
        await self._durably(record, transitions.clear_leader(record))
        return Clearing(done=True, removed="leader" if record.unreported is None else "claim")

    async def ids(self) -> Sequence[str]:
        return self._store.ids()

    async def adopt(self, brought: TransferredRecord, *, as_own: bool) -> bool:
        known = await self._decidable_if_any(brought.id)
        version = self._versions.next()
        owner = self._owner if as_own or brought.owner is None else brought.owner
        record = self._own(to_record(brought, owner, version=version, max_nodes=self._limits.max_nodes))
        record = self._awaited(record)
        if known is None:
            self._check_room()
            await self._write(record)
            return True
        if not is_equivalent(known, record):
            raise AlreadyKnown(brought.id)
        after = known
        if as_own and not self.is_owner_of(known):
            # As for what is brought: whoever was alone was told elsewhere.
            after = self._awaited(replace(known, ownerless=False, grant=None, was_emptied=True))
        await self._durably(known, after, version)
        return after is not known

    def add(self, discovery_id: str, node: Node, host: str | None) -> tuple[Change, ...]:
        """Put a node on the list that was answered elsewhere (R4); return what has to be written.

        A node for which there is no room, or no record any more, is left out, and one that others
        could not be told of any more (R5d). Raises as `check_addable`.
        """
        return self._add(self._newest(discovery_id), node, host)

    def add_hinted(self, discovery_id: str, node: Node, host: str | None) -> tuple[Change, ...]:
        """As `add`, for what this daemon answered itself before it was ready. Raises Undecided."""
        self._check_not_deciding(discovery_id)
        record = self._store.newest(discovery_id)
        return self._add(None if record is None else self._settled(self._own(record)), node, host)

    def _add(self, record: Record | None, node: Node, host: str | None) -> tuple[Change, ...]:
        if record is None:
            return ()
        try:
            after = transitions.add(record, node, host=host, max_nodes=self._limits.max_nodes)
        except TooManyNodes:
            self._log.warn("no room for a node that was registered elsewhere", discovery_id=record.id)
            return ()
        except WrongHost as refusal:
            self._log.warn(
                "a node that was registered elsewhere is left out: {why}",
                why=str(refusal),
                addr=node.addr,
                discovery_id=record.id,
            )
            return ()
        if after is record:
            return ()
        if record.was_emptied and not record.nodes:
            self._log.warn(
                "a node was sent elsewhere to the list that was emptied: if more follow, and no cluster forms,"
                " stop all nodes of the ID and reset it",
                addr=node.addr,
                discovery_id=record.id,
            )
        return (self._store.put(replace(after, version=self._versions.next())),)

    def known(self, discovery_id: str) -> Record | None:
        """The newest record, without a grant that may never be heard."""
        return self._grants.decided(discovery_id)

    def shown(self, discovery_id: str) -> Record | None:
        """The record as it is shown, None if there is none."""
        return self._grants.shown(discovery_id)

    def unknown(self, discovery_id: str) -> NoSuchID | Undecided:
        """What is to be said of an ID that is not held here: it may have been minted by this very
        home, and be known to others only (R8).
        """
        if self._coordinator is not None and is_created_id(discovery_id) and tag(discovery_id) == tag(self._owner):
            try:
                self._coordinator.check_unknown()
            except Undecided as doubt:
                return doubt
        return NoSuchID(discovery_id)

    def check_addable(self, discovery_id: str) -> None:
        """Raise Undecided where a node cannot be added now: a grant of the ID may be on its way."""
        self._check_not_deciding(discovery_id)
        self._newest(discovery_id)

    def _check_not_deciding(self, discovery_id: str) -> None:
        if self._grants.is_decided_of(discovery_id):
            raise Undecided("a decision is on its way")

    @property
    def is_deciding(self) -> bool:
        """Whether any grant is on its way."""
        return self._grants.are_any

    def is_deciding_of(self, discovery_id: str) -> bool:
        """Whether one of the ID is."""
        return self._grants.is_any_of(discovery_id)

    def inherited(self, record: Record, *, lost: bool) -> Record:
        """The record as this daemon's own, after its home handed it over or was lost (R7)."""
        return self._awaited(records.succeed(record, self._owner, version=self._versions.next(), lost=lost))

    def _awaited(self, record: Record) -> Record:
        """A record that was another daemon's until now. When the owner of its claim, if any, was
        told is not known here, nor where it was if it is an import: other machines wait from now on
        (R5c).
        """
        if record.ownerless or record.unreported is None or record.leader is None:
            return record
        now = self._now()
        told = record.grant or Grant(addr=record.leader.addr, boot=now.boot, at=now.ms)
        return replace(record, grant=replace(told, boot=now.boot, at=now.ms))

    def reclaimed(self, record: Record) -> None:
        """A record of this daemon's own came from a peer (R8).

        A grant that seems to have been made since this daemon began, and was not made by it, stems
        from before the whole machine was set back: its age is not known, and it counts as closed.
        """
        grant = record.grant
        if grant is not None and grant.boot == self._now().boot and grant.at >= self._began_ms:
            self._not_made_here[record.id] = grant.at

    def next_version(self) -> int:
        """A version for a change of an own record."""
        return self._versions.next()

    @property
    def issued(self) -> int:
        """The highest version that was given out in this boot."""
        return self._versions.issued

    async def settle(self) -> None:
        """Revoke what nobody heard and the disk would not let go of; the last chance before the
        end.
        """
        await self._grants.settle()

    def _named(self, discovery_id: str) -> Record:
        """A record for an ID that nobody minted, older than any. Raises NoSuchID, TooManyIDs,
        Undecided.
        """
        if not self._limits.make_named:
            raise NoSuchID(discovery_id)
        if self._coordinator is not None:
            self._coordinator.check_unknown()
        return self._fresh(discovery_id, version=0)

    def _register(self, record: Record, node: Node, host: str | None) -> Registration:
        limits, retry_window_ms = self._limits, self._limits.retry_window_ms
        if record.grant is not None and self._not_made_here.get(record.id) == record.grant.at:
            retry_window_ms = 0
        return transitions.register(
            record, node, host=host, now=self._now(), retry_window_ms=retry_window_ms, max_nodes=limits.max_nodes
        )

    def _claim(self, record: Record, put: Put, host: str | None) -> Claim:
        version = self._versions.next()
        outcome = transitions.claim(
            record,
            put,
            host=host,
            version=version,
            now=self._now(),
            max_nodes=self._limits.max_nodes,
            is_hidden=self._hides_claims(),
            may_repeat=self._coordinator is None or self._coordinator.repeat_claims(),
            began_ms=self._began_ms,
        )
        return replace(outcome, record=replace(outcome.record, version=version)) if outcome.won else outcome

    def _warn_of_claims(self, record: Record) -> None:
        """Name a node that claims time and again, once: its rqlited drops the answer inside its
        join loop.
        """
        if record.unreported is not None and record.unreported.times == _MANY_CLAIMS and record.leader is not None:
            self._log.warn(
                "{addr} won the claim {times} times and never reported itself: restart it",
                addr=record.leader.addr,
                times=record.unreported.times,
                discovery_id=record.id,
            )

    def _hides_claims(self) -> bool:
        return not self._limits.visible_claims and (self._coordinator is None or self._coordinator.hide_claims())

    def _check_room(self) -> None:
        if self._limits.max_ids is not None and self._store.count_all() >= self._limits.max_ids:
            raise TooManyIDs

    def _fresh(self, discovery_id: str, version: int) -> Record:
        self._check_room()
        if self._coordinator is not None:
            self._coordinator.created(discovery_id)
        return Record(id=discovery_id, owner=self._owner, version=version, created_at=self._wall_us())

    def _check_owner(self, record: Record) -> None:
        """Raise Ownerless where this daemon may not grant (R1, R7)."""
        if not self.is_owner_of(record):
            raise Ownerless(record.id)

    def _own(self, record: Record) -> Record:
        """The record as this daemon's own; one that another minted, whose home is lost then, never
        grants (R7).
        """
        if record.owner == self._owner:
            return record
        lost = self._coordinator is None or self._coordinator.is_lost(record.owner)
        return records.succeed(record, self._owner, version=record.version, lost=lost)

    async def _decidable(self, discovery_id: str) -> Record:
        """As `_decidable_if_any`. Raises NoSuchID."""
        record = await self._decidable_if_any(discovery_id)
        if record is None:
            raise self.unknown(discovery_id)
        return record

    async def _decidable_if_any(self, discovery_id: str) -> Record | None:
        """The newest record, once no grant is on its way: one decision at a time for each ID
        (R3).
        """
        await self._grants.none_of(discovery_id)
        return self._newest(discovery_id)

    def _newest(self, discovery_id: str) -> Record | None:
        """The newest record, as this daemon may change it. Raises Undecided."""
        record = self._kept(discovery_id)
        return None if record is None else self._settled(record)

    def _settled(self, record: Record) -> Record:
        """The record once nothing is on its way any more: what was pending was said, or nobody will
        ever know.
        """
        record = host_binding.renamed(record, self._machine)
        return record if record.ownerless else records.with_grant_answered(record)

    def _kept(self, discovery_id: str) -> Record | None:
        """The same as it is kept under its version, here and at peers."""
        record = self._store.newest(discovery_id)
        if record is None:
            return None
        if self._coordinator is not None:
            self._coordinator.check(record)
            # It may have added what was answered before this daemon was ready.
            record = self._store.newest(discovery_id) or record
        return self._own(record)

    async def _write(self, record: Record) -> None:
        """Return once the disk has the record, and a peer where one is up."""
        await self._journal.append(self._store.put(record))
        if self._coordinator is not None:
            await self._coordinator.replicated(record.version, is_grant=False)

    async def _durably(self, before: Record, after: Record, version: int | None = None) -> Record:
        """Return the record once the disk has it, changed or not."""
        if after is not before:
            after = replace(after, version=self._versions.next() if version is None else version)
            await self._write(after)
        elif self._store.is_pending(after.id):
            await self._journal.barrier()
        return after

    async def _durably_as_it_is(self, record: Record | None) -> None:
        """Return once the disk has what an answer tells of the record (R6)."""
        if record is not None:
            await self._durably(record, record)

    async def _past_barrier(self, pending: PendingGrant, decide: Callable[[Record], T]) -> tuple[Record, T]:
        """The newest record once all members have had their say, and what is decided of it. Raises
        as `decide`.
        """
        assert self._coordinator is not None
        try:
            if self._store.is_pending(pending.id):
                await self._journal.barrier()
            kept = self._kept(pending.id)
            assert kept is not None
            await self._coordinator.barrier(kept)
            newest = self._newest(pending.id)
            assert newest is not None
            return newest, decide(newest)
        except Exception:
            self._grants.end(pending)
            raise


def _only_answered(outcome: Registration, shown: View, node: Node) -> Registration:
    """Send nobody to a node that may never have heard that it was to bootstrap, and never will.
    Raises Undecided.
    """
    if all(same_node(each.addr, node.addr) for each in shown.nodes):
        raise Undecided("its home was lost before it told the first node that it is alone, mint a new ID")
    return replace(outcome, listed=shown.nodes)


def _is_at(record: Record | None, index: int) -> bool:
    return record is not None and record.leader is not None and record.leader.modified == index
