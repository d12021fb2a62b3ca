"""Register and remove nodes."""

from __future__ import annotations

from msgspec.structs import replace

from rqdisco.backends.etcd import decisions
from rqdisco.backends.etcd.decisions import WriteStamp
from rqdisco.backends.etcd.etcd_record import EtcdRecord, with_grant, with_repeat, with_write
from rqdisco.backends.etcd.grants import GrantAttempt
from rqdisco.backends.etcd.messages import Compare
from rqdisco.backends.etcd.record_store import Applied, Snapshot
from rqdisco.backends.etcd.record_writer import EtcdParts, RecordWriter, existing
from rqdisco.backends.etcd.turns import Turns
from rqdisco.core import host_binding, transitions
from rqdisco.core.directory import Removal
from rqdisco.core.records import Node, RegistrationOutcome
from rqdisco.core.views import view_of

REMOVAL_POLL_SECONDS = 0.25
ON_ITS_WAY = "the answer that told its node to bootstrap may still be on its way, try again in some seconds"


class Registrations:
    """The registrations of nodes; see `core.directory.Directory` for its methods."""

    def __init__(self, parts: EtcdParts, writer: RecordWriter) -> None:
        self._parts = parts
        self._writer = writer
        self._turns = Turns(parts.clock)

    async def register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        host = host_binding.name_host(host, self._parts.machine)
        # Many nodes of a cluster start at once; without turns all but one would conflict each time.
        turn = self._turns.take(discovery_id)
        if turn is not None:
            await turn
        try:
            await self._parts.grants.settled(discovery_id)
            return await self._register(discovery_id, node, host)
        finally:
            self._turns.end(discovery_id)

    async def _register(self, discovery_id: str, node: Node, host: str | None) -> RegistrationOutcome:
        back_off = self._writer.back_off()
        snapshot = await self._parts.store.snapshot(discovery_id)
        while True:
            record = existing(snapshot)
            self._parts.state.check_changes()
            stamp = self._writer.stamp()
            outcome = decisions.register(snapshot, record, node, host, self._parts.limits)
            if outcome.bootstrap is None:
                committed = await self._writer.list_node(snapshot, outcome.record, node, stamp)
            else:
                self._writer.check_grant(record)
                committed = await self._parts.grants.commit(self._registration(snapshot, record, outcome, node, stamp))
            if isinstance(committed, Applied):
                return replace(outcome, record=committed.record)
            snapshot = committed.current
            await back_off.after_conflict()

    async def remove(self, discovery_id: str, addr: str) -> Removal:
        back_off, listed_write, is_tried = self._writer.back_off(), None, False
        snapshot = await self._parts.store.snapshot(discovery_id)
        while True:
            record = existing(snapshot)
            self._parts.state.check_changes()
            after = transitions.remove(record, addr)
            if after is record:
                # It may have been removed by a copy of this request.
                return Removal(record=view_of(record, is_owner=True), removed=is_tried)
            if listed_write is not None and _write_of(record, addr) != listed_write:
                # E5: it registered again after the request arrived.
                return Removal(record=view_of(record, is_owner=True), removed=False)
            listed_write = _write_of(record, addr)
            if after.grant is None and record.grant is not None and self._parts.grants.may_be_on_its_way(snapshot):
                await back_off.wait(REMOVAL_POLL_SECONDS, ON_ITS_WAY)
                snapshot = await self._parts.store.snapshot(discovery_id)
                continue
            committed = await self._writer.take_out(snapshot, record, after)
            if isinstance(committed, Applied):
                return Removal(record=view_of(committed.record, is_owner=True), removed=True)
            snapshot, is_tried = committed.current, True
            await back_off.after_conflict()

    def _registration(
        self, snapshot: Snapshot, record: EtcdRecord, outcome: RegistrationOutcome, node: Node, stamp: WriteStamp
    ) -> GrantAttempt:
        after, is_new = outcome.record, outcome.bootstrap == "granted"
        assert isinstance(after, EtcdRecord)
        after = with_grant(after, stamp.nonce, stamp.wall_ms) if is_new else with_repeat(after, stamp.nonce)
        compare: tuple[Compare, ...] = ()
        if not is_new and not record.unanswered:
            # E4: the window must be open when the transaction is applied.
            assert snapshot.window is not None
            compare = (Compare(key=snapshot.window.key, mod_revision=snapshot.window.mod_revision),)
        return GrantAttempt(
            snapshot=snapshot,
            before=record,
            after=with_write(after, stamp.nonce, addr=node.addr, version=stamp.version(record)),
            nonce=stamp.nonce,
            grants_anew=is_new,
            window=self._parts.retry_windows if is_new or record.unanswered else None,
            compare=compare,
        )


def _write_of(record: EtcdRecord, addr: str) -> str:
    """Return the nonce of the registration that a removal of `addr` removes."""
    nonces = record.node_nonces
    return next((nonces[each] for each in (addr, addr.removeprefix("http://")) if each in nonces), "")
