"""Hypothesis searches for inputs in any order after which daemons break a promise.

By hand, for longer: HYPOTHESIS_PROFILE=long python -m pytest tests/simulated/test_stateful.py
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rqdisco.backends.gossip.core import queries
from rqdisco.backends.gossip.core.inputs import Create, Drain, FreezeStore, LookUp, Register, Remove, ThawStore
from rqdisco.core.directory import Removal
from rqdisco.core.records import Node, RegistrationOutcome
from tests.simulated.machines import Daemon
from tests.simulated.small_rules import without
from tests.simulated.unsaved import unsaved
from tests.simulated.wires import Asked, Exchange, Wires

ADDRESSES = ("10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001")
# Waiting messages beyond so many are not named by the search.
_MOST = 6

SHORT = settings(max_examples=40, stateful_step_count=40, derandomize=True, deadline=None, database=None)
LONG = settings(
    max_examples=int(os.environ.get("EXAMPLES", "20000")),
    stateful_step_count=80,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
)
SETTINGS = LONG if os.environ.get("HYPOTHESIS_PROFILE") == "long" else SHORT


class Daemons(RuleBasedStateMachine):
    """Two or three daemons, one ID, three addresses, an operator who removes nodes that are
    stopped.
    """

    @initialize(count=st.sampled_from([2, 3]), is_begun=st.booleans())
    def begin(self, count: int, is_begun: bool) -> None:
        self.wires = Wires.of(count)
        created = self.wires.ask(self.wires.daemons[0], Create(bytes(14)))
        self.wires.settle(1.0)
        self.id: str = created.result.id
        # By address: the request that is open, and who was told, is acknowledged, was stopped for good.
        self.open: dict[str, Asked] = {}
        self.told: set[str] = set()
        self.acknowledged: set[str] = set()
        self.removing: dict[str, Asked] = {}
        self.removed: set[str] = set()
        self.others: list[Asked] = []
        self.seen = 0
        self.granted: dict[str, str | None] = {}
        self.was_drained = False
        self.was_faulty = False
        if is_begun:
            self.register(ADDRESSES[0], 0)
            self.wires.settle(2.0)
            self.answers_are_right()

    # Clients.

    @rule(address=st.sampled_from(ADDRESSES), at=st.integers(0, 2))
    def register(self, address: str, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and address not in self.open and address not in self.removing:
            self.open[address] = self.wires.ask(daemon, Register(self.id, Node(addr=address), address))

    @rule(address=st.sampled_from(ADDRESSES))
    def hang_up(self, address: str) -> None:
        asked = self.open.get(address)
        if asked is not None and asked.is_open:
            self.was_faulty = True
            self.wires.hang_up(asked)
            del self.open[address]

    @rule(address=st.sampled_from(ADDRESSES), at=st.integers(0, 2))
    def remove(self, address: str, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and address not in self.open and address not in self.removing:
            self.was_faulty = True
            # The node is stopped, until the removal has succeeded.
            self.told.discard(address)
            self.removed.add(address)
            self.acknowledged.discard(address)
            self.removing[address] = self.wires.ask(daemon, Remove(self.id, address))

    @rule(at=st.integers(0, 2), at_owner=st.booleans())
    def look_up(self, at: int, at_owner: bool) -> None:
        if (daemon := self._running(at)) is not None:
            self.others.append(self.wires.ask(daemon, LookUp(self.id, at_owner)))

    @rule(at=st.integers(0, 2))
    def drain(self, at: int) -> None:
        if (daemon := self._running(at)) is not None and not self.was_drained:
            self.was_faulty = True
            self.was_drained = True
            self.others.append(self.wires.ask(daemon, Drain()))

    # What is under way.

    @precondition(lambda self: self.wires.messages)
    @rule(which=st.integers(0, _MOST - 1))
    def deliver(self, which: int) -> None:
        self.wires.deliver(_one_of(self.wires.messages, which))

    @precondition(lambda self: self.wires.answers)
    @rule(which=st.integers(0, _MOST - 1))
    def deliver_answer(self, which: int) -> None:
        self.wires.deliver_answer(_one_of(self.wires.answers, which))

    @precondition(lambda self: any(each.verb == "hello" for each in self.wires.messages))
    @rule(which=st.integers(0, _MOST - 1))
    def deliver_a_copy(self, which: int) -> None:
        """Only a hello is processed twice; seals refuse repeated messages."""
        hellos = [each for each in self.wires.messages if each.verb == "hello"]
        self.wires.deliver(_one_of(hellos, which), again=True)

    @precondition(lambda self: self.wires.messages or self.wires.answers)
    @rule(which=st.integers(0, 2 * _MOST - 1))
    def lose(self, which: int) -> None:
        self.was_faulty = True
        self.wires.lose(_one_of([*self.wires.messages, *self.wires.answers], which))

    @precondition(lambda self: self.wires.deserted)
    @rule(which=st.integers(0, _MOST - 1))
    def notice_that_a_sender_is_gone(self, which: int) -> None:
        deserted = self.wires.deserted
        self.wires.hang_up_on(*deserted[which % len(deserted)])

    @rule(one=st.integers(0, 2), other=st.integers(0, 2))
    def cut(self, one: int, other: int) -> None:
        self.was_faulty = True
        names = {self.wires.daemons[each % len(self.wires.daemons)].name for each in (one, other)}
        if len(names) == 2:
            self.wires.cut.add(frozenset(names))

    @precondition(lambda self: self.wires.cut)
    @rule()
    def heal(self) -> None:
        self.wires.cut.clear()

    # Disks, processes and time.

    @rule(at=st.integers(0, 2))
    def finish_write(self, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and daemon.unwritten:
            self.wires.finish_write(daemon)

    @rule(at=st.integers(0, 2))
    def refuse_writes(self, at: int) -> None:
        daemon = self._running(at)
        if daemon is not None and daemon.unwritten:
            self.was_faulty = True
            self.wires.refuse_writes(daemon)

    @rule(at=st.integers(0, 2), written=st.integers(0, 3))
    def kill(self, at: int, written: int) -> None:
        if (daemon := self._running(at)) is not None:
            self.was_faulty = True
            self.wires.kill(daemon, written)

    @rule(at=st.integers(0, 2))
    def start(self, at: int) -> None:
        daemon = self.wires.daemons[at % len(self.wires.daemons)]
        if daemon.machine is None:
            self.wires.start(daemon)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.1, 5.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.was_faulty = self.was_faulty or seconds > 1.5
        self.wires.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.0, 0.2, 1.5]))
    def settle(self, seconds: float) -> None:
        self.wires.settle(seconds)

    # What must hold.

    @invariant()
    def everything_under_way_is_known(self) -> None:
        if hasattr(self, "seen"):
            self.wires.check()
            # A daemon that did not hear that another had taken over is told so by that one.
            errors = [each for each in self.wires.errors if "drained: the IDs of" not in each]
            assert not errors, errors

    @invariant()
    def answers_are_right(self) -> None:
        if not hasattr(self, "seen"):
            return
        self._check_grants()
        for address, asked in list(self.open.items()):
            if not asked.is_open:
                del self.open[address]
                if isinstance(asked.result, RegistrationOutcome):
                    self._answered(address, asked.result)
        for address, asked in list(self.removing.items()):
            # The node of an address whose removal has failed stays stopped.
            if isinstance(asked.result, Removal):
                del self.removing[address]

    def _answered(self, address: str, outcome: RegistrationOutcome) -> None:
        self.acknowledged.add(address)
        self.removed.discard(address)
        listed = {each.addr for each in outcome.listed}
        assert address in listed
        assert (outcome.bootstrap is not None) == (listed == {address})
        if outcome.bootstrap is not None:
            assert not outcome.on_behalf
            assert self.told <= {address}, f"I1: {address} is told to bootstrap, as {self.told} was"
            self.told.add(address)

    def _check_grants(self) -> None:
        """I4: nothing is granted while another address is acknowledged."""
        for daemon in self.wires.running:
            assert daemon.machine is not None
            pending = daemon.machine.state.pending_grants.get(self.id)
            granted = None if pending is None or pending.before is None else pending.outcome.record.grant.addr
            if granted is not None and granted != self.granted.get(daemon.name):
                assert self.acknowledged <= {granted}, f"I4: {granted} is granted beside {self.acknowledged}"
            self.granted[daemon.name] = granted

    def teardown(self) -> None:
        if not hasattr(self, "seen"):
            return
        self.wires.cut.clear()
        for daemon in self.wires.daemons:
            if daemon.machine is None:
                self.wires.start(daemon)
        self.wires.settle(20.0)
        self._check_disks()
        self._thaw_all()
        self._repeat_hand_over()
        self._check_disks()
        self.everything_under_way_is_known()
        self.answers_are_right()
        assert not any(each.is_open for each in self.wires.asked), "a request without an answer"
        self._check_records()
        if self.acknowledged and not self.was_faulty:
            assert self.told, "nodes are listed, and nobody was told to bootstrap"

    def _check_disks(self) -> None:
        """A restart finds what the daemon has."""
        for daemon in self.wires.daemons:
            assert daemon.machine is not None
            assert not unsaved(daemon.machine.state, daemon.disk.records, daemon.disk.metadata)

    def _thaw_all(self) -> None:
        for daemon in self.wires.daemons:
            self.wires.ask(daemon, ThawStore())
        self.wires.settle(10.0)

    def _repeat_hand_over(self) -> None:
        """An operator repeats a command that has failed; until then, hints wait for the owner."""
        for daemon in self.wires.daemons:
            assert daemon.machine is not None
            if daemon.machine.state.members.own.state == "leaving":
                asked = self.wires.ask(daemon, Drain())
                self.wires.settle(10.0)
                assert isinstance(asked.result, str), asked.result

    def _check_records(self) -> None:
        """I4, I5: what was acknowledged is on every daemon, and all have the same, except those that
        handed their IDs over.
        """
        records, hinted = [], set[str]()
        for daemon in self.wires.daemons:
            assert daemon.machine is not None
            state = daemon.machine.state
            assert not any(
                (state.pending_grants, state.requests, state.writes, state.barriers, state.replication_waits)
            )
            if state.members.own.state != "drained":
                record = state.store.settled(self.id)
                records.append(record)
                if record is not None and queries.owner(state, record) == state.own:
                    # An owner shows its own hints, and adds them before it decides.
                    hinted |= {each.addr for each in state.hints.nodes(self.id)}
        assert records[0] is not None
        assert all(each == records[0] for each in records)
        listed = {each.addr for each in records[0].nodes} | hinted
        assert self.acknowledged <= listed, f"I4: acknowledged {self.acknowledged}, listed {listed}"

    def _running(self, at: int) -> Daemon | None:
        running = self.wires.running
        return running[at % len(running)] if running else None


class FrozenDaemons(Daemons):
    """Daemons that an operator also freezes and thaws, and who interrupts commands."""

    @rule(at=st.integers(0, 2), reason=st.sampled_from(["migration", "another one"]))
    def freeze(self, at: int, reason: str) -> None:
        if (daemon := self._running(at)) is not None:
            self.was_faulty = True
            self.others.append(self.wires.ask(daemon, FreezeStore(reason)))

    @rule(at=st.integers(0, 2))
    def thaw(self, at: int) -> None:
        if (daemon := self._running(at)) is not None:
            self.others.append(self.wires.ask(daemon, ThawStore()))

    @rule(which=st.integers(0, _MOST - 1))
    def interrupt_the_operator(self, which: int) -> None:
        asked = [each for each in self.others if each.is_open]
        if asked:
            self.was_faulty = True
            self.wires.hang_up(asked[which % len(asked)])


def _one_of(exchanges: list[Exchange], which: int) -> Exchange:
    return exchanges[which % len(exchanges)]


@pytest.mark.parametrize("daemons", [Daemons, FrozenDaemons])
def test_daemons_keep_their_promises_whatever_happens(daemons: Any) -> None:
    run_state_machine_as_test(daemons, settings=SETTINGS)


@pytest.mark.parametrize("rule", ["R1", "R3"])
def test_without_a_rule_the_search_finds_a_broken_promise(rule: str) -> None:
    state_machine: Any = Daemons
    found = settings(SHORT, max_examples=400, phases=(Phase.generate,), report_multiple_bugs=False)
    with without(rule), pytest.raises(AssertionError, match=r"I1|I4|conflicting records"):
        run_state_machine_as_test(state_machine, settings=found)
