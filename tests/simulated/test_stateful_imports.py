"""Search with Hypothesis for imports, at any daemon and any time, that break a promise."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.inputs import Adopt, Register
from rqdisco.core.export_encoder import to_transferred
from rqdisco.core.exports import Decisions, ImportedNode, TransferredGrant, TransferredRecord
from rqdisco.core.ids import new_id
from rqdisco.core.records import Node, RegistrationOutcome
from tests.simulated.test_stateful import ADDRESSES, SETTINGS, FrozenDaemons
from tests.simulated.wires import Asked

_OTHER_SERVICE = "f" * 16
_OTHER_ID = new_id(_OTHER_SERVICE, bytes)
# A node that the other service told to bootstrap.
_SEED = "10.0.1.1:4001"


class ImportingDaemons(FrozenDaemons):
    """Daemons whose operator imports an ID of another service that no longer runs, and earlier exports
    of their own, one after the other, at whichever daemon.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exported: TransferredRecord | None = None
        self.importing: Asked | None = None
        self.other: TransferredRecord | None = None
        self.other_open: dict[str, Asked] = {}
        self.other_listed: set[str] = set()
        self.other_told: set[str] = set()

    @rule(at=st.integers(0, 2))
    def export(self, at: int) -> None:
        if (daemon := self._running(at)) is not None:
            assert daemon.machine is not None
            record = queries.inspect(daemon.machine.state, self.id)
            if record is not None:
                self.exported = to_transferred(record)

    @precondition(lambda self: self.exported is not None)
    @rule(at=st.integers(0, 2), as_own=st.booleans())
    def import_its_own(self, at: int, as_own: bool) -> None:
        assert self.exported is not None
        self._import(at, self.exported, as_own)

    @rule(at=st.integers(0, 2), as_own=st.booleans(), has_seed=st.booleans())
    def import_of_another_service(self, at: int, as_own: bool, has_seed: bool) -> None:
        if self.other is None:
            grant = TransferredGrant(addr=_SEED)
            self.other = TransferredRecord(
                id=_OTHER_ID,
                created_at=1,
                owner=_OTHER_SERVICE,
                nodes=(ImportedNode(addr=_SEED),) if has_seed else (),
                decisions=Decisions(grant=grant) if has_seed else Decisions(),
            )
        self._import(at, self.other, as_own)

    @precondition(lambda self: self.other is not None)
    @rule(address=st.sampled_from(ADDRESSES), at=st.integers(0, 2))
    def register_under_the_other(self, address: str, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and address not in self.other_open:
            self.other_open[address] = self.wires.ask(daemon, Register(_OTHER_ID, Node(addr=address), address))

    def _import(self, at: int, transferred: TransferredRecord, as_own: bool) -> None:
        daemon = self._running(at)
        if daemon is not None and (self.importing is None or not self.importing.is_open):
            self.was_faulty = True
            self.importing = self.wires.ask(daemon, Adopt(transferred, as_own))
            self.others.append(self.importing)

    @invariant()
    def one_node_bootstraps_under_the_other(self) -> None:
        for address, asked in list(self.other_open.items()):
            if asked.is_open:
                continue
            del self.other_open[address]
            if isinstance(asked.result, RegistrationOutcome):
                self.other_listed.add(address)
                if asked.result.bootstrap is not None:
                    self.other_told.add(address)
        assert self.other is not None or not self.other_told
        told = len(self.other_told) + (self.other is not None and len(self.other.nodes))
        assert told <= 1, f"I1: {self.other_told} are told to bootstrap"

    def _check_records(self) -> None:
        super()._check_records()
        self.one_node_bootstraps_under_the_other()
        records, hinted = [], set[str]()
        for daemon in self.wires.daemons:
            assert daemon.machine is not None
            state = daemon.machine.state
            if state.members.own.state != "drained":
                records.append(state.store.settled(_OTHER_ID))
                hinted |= {each.addr for each in state.hints.nodes(_OTHER_ID)}
        assert all(each == records[0] for each in records)
        if records[0] is not None:
            listed = {each.addr for each in records[0].nodes} | hinted
            assert self.other_listed <= listed, f"I4: {self.other_listed}, listed {listed}"


def test_imports_break_no_promise_whatever_happens() -> None:
    run_state_machine_as_test(ImportingDaemons, settings=SETTINGS)
