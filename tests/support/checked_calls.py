"""Calls of one daemon by a state machine, each with the invariants of its answer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import RequestRefused, StoreUnavailable
from rqdisco.core.records import ClaimOutcome, Grant, Node, Put, Record, RegistrationOutcome
from rqdisco.storage.memory import Change
from tests.support.backends import new_daemon
from tests.support.daemon import create_id

OWNER_RETRY_WINDOW_MS = 30_000
NAMED = "rqlite"
# Nodes of one class are one node: by their address, or by their node ID.
A, B = Node(addr="10.0.0.1:4001"), Node(addr="10.0.0.2:4001")
C, D = Node(addr="10.0.0.3:4001", node_id="c"), Node(addr="10.0.0.4:4001", node_id="c")
CLASS = {A.addr: "a", f"http://{A.addr}": "a", B.addr: "b", C.addr: "c", D.addr: "c"}
NODES = st.sampled_from([A, Node(addr=f"http://{A.addr}"), B, C, D])


class Call(msgspec.Struct, eq=False):
    """A call under way, by a client at `host`; `showed` is what lookups showed when it arrived."""

    discovery_id: str
    node: Node | None
    showed: Record | None
    running: Deferred[Any]
    host: str | None = None


class CheckedCalls(RuleBasedStateMachine):
    """A daemon whose calls are checked when they are answered, and its records once they are
    durable; subclasses have the rules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.daemon = new_daemon()
        self.ids = [NAMED, create_id(self.daemon)]
        self.calls: list[Call] = []
        self.number = 0
        # Of each ID: the answered grants, those that a crash left unanswered, the newest one's
        # class, when nodes were removed, and whether a cluster may exist.
        self.answered: dict[str, list[Grant]] = {each: [] for each in self.ids}
        self.unanswered: dict[str, list[Grant]] = {each: [] for each in self.ids}
        self.seed: dict[str, str | None] = dict.fromkeys(self.ids)
        self.removals: dict[str, set[str]] = {each: set() for each in self.ids}
        self.is_seeded: dict[str, bool] = dict.fromkeys(self.ids, False)
        self.values: dict[int, tuple[str, str]] = {}
        self.index = 0
        self.problems: list[Failure] = []
        self._watch()

    # Invariants of each answer, at the moment it is given.

    def _registered(self, call: Call, outcome: RegistrationOutcome) -> None:
        settled = self._settled(call)
        assert outcome.record.version <= settled.version, "R6"
        if outcome.bootstrap == "granted":
            assert settled == outcome.record, "R3"
            self._granted(call, outcome.record)
        elif outcome.bootstrap == "again":
            assert self.seed[call.discovery_id] == self._class(call), "P1: two"
            assert not outcome.record.confirmed, "R5"
        else:
            assert len(outcome.listed) > 1

    def _claimed(self, call: Call, outcome: ClaimOutcome) -> None:
        settled = self._settled(call)
        assert outcome.record.version <= settled.version, "R6"
        if outcome.again:
            self._claimed_again(call, outcome.record)
        elif outcome.won:
            assert settled == outcome.record, "R3"
            assert not self.is_seeded[call.discovery_id] or self.removals[call.discovery_id], "P1: two"
            self._granted(call, outcome.record)

    def _claimed_again(self, call: Call, record: Record) -> None:
        each, granted = call.discovery_id, record.grant
        assert self.seed[each] == self._class(call), "P1: two"
        assert granted is not None
        assert granted.host == call.host
        last = max(self.answered[each] + self.unanswered[each], key=lambda grant: grant.at)
        if call.host is None or call.host != last.host:
            assert granted.at - last.at >= OWNER_RETRY_WINDOW_MS, "R5c: two hosts of one name"
        self.answered[each].append(granted)

    def _granted(self, call: Call, record: Record) -> None:
        each, kind = call.discovery_id, self._class(call)
        assert [CLASS[node.addr] for node in record.nodes] == [kind]
        assert record.owner == self.daemon.owner
        assert record.grant is not None
        seed = self.seed[each]
        assert seed in (None, kind) or seed in self.removals[each], "P1: two"
        self.seed[each], self.is_seeded[each] = kind, True
        self.removals[each].clear()
        self.answered[each].append(record.grant)

    def _put_or_not(self, call: Call, done: bool, index: int | None) -> None:
        if done:
            self._settled(call)
            self.is_seeded[call.discovery_id] = True
        else:
            self._assert_moved_on(call, index)

    def _cleared(self, call: Call, cleared: Clearing, index: int | None) -> None:
        if not cleared.done:
            self._assert_moved_on(call, index)
            return
        settled: Record | None = self.daemon.store.settled(call.discovery_id)
        if settled is not None and settled.leader is not None and call.showed is not None and call.showed.leader:
            assert settled.leader.modified > call.showed.leader.modified, "it should be gone, and is still there"

    def _assert_moved_on(self, call: Call, index: int | None) -> None:
        """The swap was refused: at some time in between the disk had another index than the
        caller's.
        """
        settled = self.daemon.store.settled(call.discovery_id)
        if settled is not None and settled.unreported is not None:
            # Only its claimant may swap it, and learn of it (R5c).
            return
        before = None if call.showed is None or call.showed.leader is None else call.showed.leader.modified
        after = None if settled is None or settled.leader is None else settled.leader.modified
        assert not index == before == after, "nothing else was ever there"

    def _removed(self, call: Call, outcome: Removal) -> None:
        assert outcome.record.version <= self._settled(call).version, "R6"

    def _adopted(self, call: Call, imported: bool) -> None:
        self._settled(call)
        known = call.showed is not None and self.daemon.directory.has_owner(call.showed)
        assert not (known and imported), "known before"

    # Helpers.

    def _call(
        self,
        which: int,
        node: Node | None,
        make: Callable[[str], Any],
        check: Callable[[Call, Any], None],
        host: str | None = None,
    ) -> None:
        if self.daemon.failures:
            self._crash(power_cut=True, seed=0)
        # Grants are distinguished by their time.
        self.daemon.clock.advance(0.001)
        each = self.ids[which]
        call = Call(each, node, self._shown(each), Deferred(), host)
        call.running = Deferred.fromCoroutine(make(each))
        self.calls.append(call)
        call.running.addCallback(lambda outcome: check(call, outcome))
        call.running.addErrback(lambda failure: failure.trap(StoreUnavailable, RequestRefused, CancelledError))
        call.running.addErrback(self.problems.append)
        call.running.addBoth(lambda _: self._forget(call))

    def _crash(self, *, power_cut: bool, seed: int) -> None:
        """Crash the daemon and restart it; nothing durable may be lost."""
        self._swallow_what_was_not_delivered()
        before = {each: self.daemon.store.settled(each) for each in self.ids}
        disk = self.daemon.disk.crash(Random(seed)) if power_cut else self.daemon.disk.kill()
        disk.room, disk.broken_syncs = None, set()
        self.calls.clear()
        self.daemon = self.daemon.restart(disk)
        for each, settled in before.items():
            found = self.daemon.store.settled(each)
            assert settled is None or (found is not None and found.version >= settled.version), "P2"
            assert found is None or settled is None or found.version > settled.version or found == settled, "P2"
            if found is not None and found.grant is not None and not self._is_known(each, found.grant):
                self.unanswered[each].append(found.grant)
                # Its node may have received it or not: nobody can find out any more.
                self.seed[each], self.is_seeded[each] = CLASS[found.grant.addr], True
            self._record_if_dropped(settled, found, each)
            self._record_if_empty(found, each)
        self._watch()

    def teardown(self) -> None:
        self._swallow_what_was_not_delivered()

    @invariant()
    def no_answer_was_wrong(self) -> None:
        for failure in self.problems:
            failure.raiseException()

    def _forget(self, call: Call) -> None:
        if call in self.calls:
            self.calls.remove(call)

    def _swallow_what_was_not_delivered(self) -> None:
        for write, _ in self.daemon.threads.held:
            code = getattr(write, "__code__", None)
            if code is not None and code.co_freevars == ("written",):
                write().addErrback(lambda _: None)

    def _put(self, node: Node) -> Put:
        self.number += 1
        value = f'{{"addr":"{node.addr}","n":{self.number}}}'
        return Put(node=replace(node, raft_addr=node.addr), value=value)

    def _shown(self, each: str) -> Record | None:
        """Return what a lookup shows."""
        shown: Record | None = self.daemon.directory.grants.shown(each)
        return shown

    def _settled(self, call: Call) -> Record:
        settled = self.daemon.store.settled(call.discovery_id)
        assert isinstance(settled, Record), "R6"
        return settled

    def _leader_index(self, which: int) -> int:
        shown = self._shown(self.ids[which])
        return 7 if shown is None or shown.leader is None else shown.leader.modified

    def _class(self, call: Call) -> str:
        assert call.node is not None
        return CLASS[call.node.addr]

    def _is_known(self, each: str, grant: Grant) -> bool:
        return any(_is_same(grant, known) for known in self.answered[each] + self.unanswered[each])

    def _watch(self) -> None:
        """Hold all writes until released, and check each record once it is durable."""
        self.daemon.threads.hold = True
        settle = self.daemon.store.settle

        def watched(changes: list[Change]) -> None:
            before = {each: self.daemon.store.settled(each) for each in self.ids}
            settle(changes)
            for each in self.ids:
                if any(change.key == each.encode() for change in changes):
                    self._record_if_dropped(before[each], self.daemon.store.settled(each), each)
                    self._record_if_empty(self.daemon.store.settled(each), each)

        self.daemon.store.settle = watched

    def _record_if_dropped(self, before: Record | None, after: Record | None, each: str) -> None:
        """A hidden claim was dropped with its node, so that another may be granted once the list is
        empty.
        """
        if before is None or before.unreported is None or before.leader is None or after is None:
            return
        # Within one commit the key may have been cleared and claimed anew.
        claimed_anew = after.unreported and after.leader and after.leader.created != before.leader.created
        if claimed_anew or before.leader.addr not in [node.addr for node in after.nodes]:
            self.removals[each].add(CLASS[before.leader.addr])

    def _record_if_empty(self, record: Record | None, each: str) -> None:
        if record is None or not record.nodes:
            self.is_seeded[each] = False
        elif record.was_emptied and record.grant is None and not self.is_seeded[each]:
            # It was imported: there may be a cluster.
            self.is_seeded[each] = True


def _is_same(one: Grant, other: Grant) -> bool:
    """Report whether it is one grant, which may have moved to another address of its node."""
    return (one.boot, one.at, CLASS[one.addr]) == (other.boot, other.at, CLASS[other.addr])
