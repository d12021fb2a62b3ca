"""Search with Hypothesis for claims and reports of a leader key that break a promise."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.inputs import Adopt, Claim, CreateNamed, ReportLeader
from rqdisco.core.codec import decode_put
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import ClaimOutcome, Put
from tests.simulated.test_stateful import ADDRESSES, SETTINGS, FrozenDaemons
from tests.simulated.wires import Asked

_KEY = "orders"


class ClaimingDaemons(FrozenDaemons):
    """Daemons whose clients are nodes that claim a leader key. The node that wins bootstraps and reports
    itself; the others look for it. It may lose its data and claim again. Meanwhile an operator creates
    or imports the key.
    """

    def __init__(self) -> None:
        super().__init__()
        self.claiming: dict[str, Asked] = {}
        self.winners: set[str] = set()
        self.reporting: Asked | None = None
        self.has_reported = False
        # Whether a node was sent to the leader, and who claimed after that.
        self.is_shown = False
        self.late: set[str] = set()
        self.importing: Asked | None = None

    @rule(address=st.sampled_from(ADDRESSES), at=st.integers(0, 2))
    def claim(self, address: str, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and address not in self.claiming:
            if self.is_shown or self.has_reported:
                self.late.add(address)
            self.claiming[address] = self.wires.ask(daemon, Claim(_KEY, _put(address), address))

    @precondition(lambda self: self.claiming)
    @rule(address=st.sampled_from(ADDRESSES))
    def hang_up_on_a_claim(self, address: str) -> None:
        asked = self.claiming.get(address)
        if asked is not None and asked.is_open:
            self.wires.hang_up(asked)
            del self.claiming[address]
            self.late.discard(address)

    @precondition(lambda self: self.winners)
    @rule(at=st.integers(0, 2))
    def report(self, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and (self.reporting is None or not self.reporting.is_open):
            (leader,) = self.winners
            self.reporting = self.wires.ask(daemon, ReportLeader(_KEY, _put(leader), leader))

    @precondition(lambda self: self.winners)
    @rule(at=st.integers(0, 2))
    def look_for_the_leader(self, at: int) -> None:
        if (daemon := self._running(at)) is not None:
            assert daemon.machine is not None
            state = daemon.machine.state
            record = queries.inspect(state, _KEY)
            self.is_shown = self.is_shown or (record is not None and queries.view(state, record).leader is not None)

    @rule(at=st.integers(0, 2))
    def create_the_key(self, at: int) -> None:
        if (daemon := self._running(at)) is not None:
            self.others.append(self.wires.ask(daemon, CreateNamed(_KEY)))

    @rule(at=st.integers(0, 2))
    def import_the_key(self, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and (self.importing is None or not self.importing.is_open):
            self.was_faulty = True
            self.importing = self.wires.ask(daemon, Adopt(TransferredRecord(id=_KEY, created_at=1), as_own=True))

    @invariant()
    def everything_under_way_is_known(self) -> None:
        if hasattr(self, "seen"):
            # Of a key that is imported at the very moment of its creation one record is dropped.
            self.wires.errors = [each for each in self.wires.errors if "conflicting" not in each or _KEY not in each]
        super().everything_under_way_is_known()

    @invariant()
    def one_claim_is_won(self) -> None:
        for address, asked in list(self.claiming.items()):
            if not asked.is_open:
                del self.claiming[address]
                if isinstance(asked.result, ClaimOutcome) and asked.result.won:
                    assert address not in self.late, f"I1: {address} wins, after nodes were sent to {self.winners}"
                    self.winners.add(address)
                self.late.discard(address)
        assert len(self.winners) <= 1, f"I1: {self.winners} have won"
        if self.reporting is not None and self.reporting.result is True:
            self.has_reported = True

    def _check_records(self) -> None:
        super()._check_records()
        self.one_claim_is_won()
        records = []
        for daemon in self.wires.daemons:
            assert daemon.machine is not None
            if daemon.machine.state.members.own.state != "drained":
                records.append(daemon.machine.state.store.settled(_KEY))
        assert all(each == records[0] for each in records)
        if self.has_reported:
            assert records[0] is not None
            assert records[0].leader is not None
            assert records[0].confirmed
            assert {records[0].leader.addr} == self.winners


def _put(address: str) -> Put:
    return decode_put(f'{{"addr":"{address}"}}'.encode())


def test_claims_break_no_promise_whatever_happens() -> None:
    run_state_machine_as_test(ClaimingDaemons, settings=SETTINGS)
