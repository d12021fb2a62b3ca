"""Both doors, imports, cancellations, full and failing disks and restarts, in any order: P1, P2 and
what may be shown.

What must hold is said here in terms of answers and of what the disk has, without a second copy of
the transitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from rqdisco.core.directory import Clearing, Removal
from rqdisco.core.errors import RequestRefused, StoreUnavailable
from rqdisco.core.exports import ExportedLeader, TransferredRecord
from rqdisco.core.records import Claim, Grant, Node, Put, Record, Registration
from rqdisco.core.views import View
from rqdisco.storage.memory import Change
from tests.support.daemon import Daemon, mint, result

NAMED = "rqlite"
# Nodes of one class are one node: by their address, or by their node ID.
A, B = Node(addr="10.0.0.1:4001"), Node(addr="10.0.0.2:4001")
C, D = Node(addr="10.0.0.3:4001", node_id="c"), Node(addr="10.0.0.4:4001", node_id="c")
CLASS = {A.addr: "a", f"http://{A.addr}": "a", B.addr: "b", C.addr: "c", D.addr: "c"}
NODES = st.sampled_from([A, Node(addr=f"http://{A.addr}"), B, C, D])
HOSTS = st.sampled_from([None, "10.0.0.1", "10.0.0.2"])
OWNER_RETRY_WINDOW_MS = 30_000
# Most of what happens happens to the ID that nobody minted.
IDS = st.sampled_from([0, 0, 0, 1])


class Call(msgspec.Struct, eq=False):
    """A call under way, by a client at `host`; `showed` is what look-ups were made of when it
    arrived.
    """

    discovery_id: str
    node: Node | None
    showed: Record | None
    running: Deferred[Any]
    host: str | None = None


class ApisTogether(RuleBasedStateMachine):
    """Calls a daemon in any order, and looks at each answer when it is given and at each record
    once it is durable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.daemon = Daemon()
        self.ids = [NAMED, mint(self.daemon)]
        self.calls: list[Call] = []
        self.number = 0
        # Of each ID: the grants that were said, those that a crash left unsaid, the newest one's
        # class, when nodes were removed, and whether a cluster may exist.
        self.said: dict[str, list[Grant]] = {each: [] for each in self.ids}
        self.unsaid: dict[str, list[Grant]] = {each: [] for each in self.ids}
        self.seed: dict[str, str | None] = dict.fromkeys(self.ids)
        self.removals: dict[str, set[str]] = {each: set() for each in self.ids}
        self.is_seeded: dict[str, bool] = dict.fromkeys(self.ids, False)
        self.values: dict[int, tuple[str, str]] = {}
        self.index = 0
        self.problems: list[Failure] = []
        self._watch()

    # What is asked.

    @rule(which=IDS, node=NODES)
    def register(self, which: int, node: Node) -> None:
        self._call(which, node, lambda each: self.daemon.directory.register(each, node, None), self._registered)

    @rule(which=IDS, node=NODES, host=HOSTS)
    def claim(self, which: int, node: Node, host: str | None) -> None:
        put = self._put(node)
        self._call(which, node, lambda each: self.daemon.directory.claim(each, put, host), self._claimed, host)

    @rule(which=IDS, node=NODES, swap=st.booleans())
    def report(self, which: int, node: Node, swap: bool) -> None:
        put, index = self._put(node), self._leader_index(which) if swap else None
        self._call(
            which,
            node,
            lambda each: self.daemon.directory.report(each, put, None, index),
            lambda call, done: self._put_or_not(call, done, index),
        )

    @rule(which=IDS, swap=st.booleans())
    def clear(self, which: int, swap: bool) -> None:
        index = self._leader_index(which) if swap else None
        self._call(
            which,
            None,
            lambda each: self.daemon.directory.clear_leader(each, index),
            lambda call, done: self._cleared(call, done, index),
        )

    @rule(which=IDS, node=NODES)
    def remove(self, which: int, node: Node) -> None:
        self.removals[self.ids[which]].add(CLASS[node.addr])
        self._call(which, node, lambda each: self.daemon.directory.remove(each, node.addr), self._removed)

    @rule(which=IDS, nodes=st.sampled_from([(), (A,), (B, C)]), lead=st.booleans(), own=st.booleans())
    def adopt(self, which: int, nodes: tuple[Node, ...], lead: bool, own: bool) -> None:
        key = ExportedLeader(value=f'{{"addr":"{B.addr}"}}') if lead else None
        brought = TransferredRecord(id=self.ids[which], created_at=1, owner="0" * 16, nodes=nodes, leader=key)
        self._call(which, None, lambda _: self.daemon.directory.adopt(brought, as_own=own), self._adopted)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.calls)).running.cancel()

    # What happens.

    @rule(seconds=st.sampled_from([1, 20, 31]))
    def wait(self, seconds: int) -> None:
        self.daemon.clock.advance(seconds)

    @precondition(lambda self: self.daemon.threads.held)
    @rule()
    def let_one_go(self) -> None:
        self.daemon.threads.release()

    @precondition(lambda self: self.daemon.threads.held)
    @rule()
    def write_and_say_nothing_yet(self) -> None:
        (write, done), *others = self.daemon.threads.held
        written = maybeDeferred(write)
        self.daemon.threads.held[:] = [(lambda: written, done), *others]

    @rule(room=st.sampled_from([0, 0, 150, 400]))
    def fill_the_disk(self, room: int) -> None:
        self.daemon.disk.room = room

    @rule()
    def make_room(self) -> None:
        self.daemon.disk.room = None

    @precondition(lambda self: self.daemon.threads.held)
    @rule()
    def break_the_next_sync(self) -> None:
        self.daemon.disk.broken_syncs = {self.daemon.disk.syncs + 1}

    @rule(power_cut=st.booleans(), seed=st.integers(0, 1000))
    def crash(self, power_cut: bool, seed: int) -> None:
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
                self.unsaid[each].append(found.grant)
                # Its node may have heard it or not: nobody can tell any more.
                self.seed[each], self.is_seeded[each] = CLASS[found.grant.addr], True
            self._note_if_dropped(settled, found, each)
            self._note_if_empty(found, each)
        self._watch()

    @precondition(lambda self: not self.daemon.failures)
    @rule()
    def all_is_well(self) -> None:
        """Everybody is answered then, and who waits for another waits for one that leads or will
        (P1: never none).
        """
        self.daemon.disk.room, self.daemon.disk.broken_syncs = None, set()
        self.daemon.threads.hold = False
        self.daemon.threads.release_all()
        self.daemon.threads.hold = True
        if self.daemon.failures:
            return
        assert not self.calls, "somebody waits for an answer"
        for each in self.ids:
            record = self.daemon.store.settled(each)
            if record is not None and len(record.nodes) > 1 and record.owner == self.daemon.owner:
                assert record.confirmed or self.is_seeded[each], "P1: none"

    # What must hold of whatever is shown.

    @invariant()
    def shown_is_what_was_said_and_is_durable(self) -> None:
        for each in self.ids:
            record = self._shown(each)
            if record is None:
                continue
            shown: View = result(Deferred.fromCoroutine(self.daemon.directory.look_up(each)))
            settled = self.daemon.store.settled(each)
            assert settled is not None
            assert shown.version == record.version <= settled.version
            if record.grant is not None:
                # What is told again stays so, though the one who asked hung up: nobody else is told
                # because of it.
                is_again = record.unreported is not None and record.unreported.times > 1
                is_of_seed = is_again and CLASS[record.grant.addr] == self.seed[each]
                assert is_of_seed or self._is_known(each, record.grant), "nobody heard of it"
            if record.unreported is not None:
                assert record.leader is not None
                assert shown.leader is None
                assert shown.granted is None
                assert record.leader.addr not in [node.addr for node in shown.nodes], "R5c"
                assert shown.claimed == record.unreported.times
            else:
                assert (shown.nodes, shown.leader) == (record.nodes, record.leader)
            if shown.leader is not None:
                about = (each, shown.leader.value)
                assert self.values.setdefault(shown.leader.modified, about) == about, "one index, two values"
                assert shown.leader.addr in [node.addr for node in shown.nodes]
                assert shown.leader.created <= shown.leader.modified <= self.daemon.directory.index
        assert self.daemon.directory.index >= max(1, self.index)
        self.index = self.daemon.directory.index

    # What must hold of each answer, at the moment it is given.

    def _registered(self, call: Call, outcome: Registration) -> None:
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

    def _claimed(self, call: Call, outcome: Claim) -> None:
        settled = self._settled(call)
        assert outcome.record.version <= settled.version, "R6"
        if outcome.again:
            self._claimed_again(call, outcome.record)
        elif outcome.won:
            assert settled == outcome.record, "R3"
            assert not self.is_seeded[call.discovery_id] or self.removals[call.discovery_id], "P1: two"
            self._granted(call, outcome.record)

    def _claimed_again(self, call: Call, record: Record) -> None:
        each, told = call.discovery_id, record.grant
        assert self.seed[each] == self._class(call), "P1: two"
        assert told is not None
        assert told.host == call.host
        last = max(self.said[each] + self.unsaid[each], key=lambda grant: grant.at)
        if call.host is None or call.host != last.host:
            assert told.at - last.at >= OWNER_RETRY_WINDOW_MS, "R5c: two machines of one name"
        self.said[each].append(told)

    def _granted(self, call: Call, record: Record) -> None:
        each, kind = call.discovery_id, self._class(call)
        assert [CLASS[node.addr] for node in record.nodes] == [kind]
        assert record.owner == self.daemon.owner
        assert record.grant is not None
        seed = self.seed[each]
        assert seed in (None, kind) or seed in self.removals[each], "P1: two"
        self.seed[each], self.is_seeded[each] = kind, True
        self.removals[each].clear()
        self.said[each].append(record.grant)

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
        settled = self.daemon.store.settled(call.discovery_id)
        if settled is not None and settled.leader is not None and call.showed is not None and call.showed.leader:
            assert settled.leader.modified > call.showed.leader.modified, "it was to be gone, and is still there"

    def _assert_moved_on(self, call: Call, index: int | None) -> None:
        """The swap was refused: at some time in between the disk had another index than the
        caller's.
        """
        settled = self.daemon.store.settled(call.discovery_id)
        if settled is not None and settled.unreported is not None:
            # Its owner alone may swap it, and know of it (R5c).
            return
        before = None if call.showed is None or call.showed.leader is None else call.showed.leader.modified
        after = None if settled is None or settled.leader is None else settled.leader.modified
        assert not index == before == after, "nothing else was ever there"

    def _removed(self, call: Call, outcome: Removal) -> None:
        assert outcome.record.version <= self._settled(call).version, "R6"

    def _adopted(self, call: Call, imported: bool) -> None:
        self._settled(call)
        known = call.showed is not None and self.daemon.directory.is_owner_of(call.showed)
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
            self.crash(power_cut=True, seed=0)
        # Grants are told apart by their moment.
        self.daemon.clock.advance(0.001)
        each = self.ids[which]
        call = Call(each, node, self._shown(each), Deferred(), host)
        call.running = Deferred.fromCoroutine(make(each))
        self.calls.append(call)
        call.running.addCallback(lambda outcome: check(call, outcome))
        call.running.addErrback(lambda failure: failure.trap(StoreUnavailable, RequestRefused, CancelledError))
        call.running.addErrback(self.problems.append)
        call.running.addBoth(lambda _: self._forget(call))

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
        """What a look-up is made of."""
        return self.daemon.directory.grants.shown(each)

    def _settled(self, call: Call) -> Record:
        settled = self.daemon.store.settled(call.discovery_id)
        assert settled is not None, "R6"
        return settled

    def _leader_index(self, which: int) -> int:
        shown = self._shown(self.ids[which])
        return 7 if shown is None or shown.leader is None else shown.leader.modified

    def _class(self, call: Call) -> str:
        assert call.node is not None
        return CLASS[call.node.addr]

    def _is_known(self, each: str, grant: Grant) -> bool:
        return any(_is_same(grant, known) for known in self.said[each] + self.unsaid[each])

    def _watch(self) -> None:
        """Nothing is written from now on until it is let go, and each record is looked at once it
        is durable.
        """
        self.daemon.threads.hold = True
        settle = self.daemon.store.settle

        def watched(changes: list[Change]) -> None:
            before = {each: self.daemon.store.settled(each) for each in self.ids}
            settle(changes)
            for each in self.ids:
                if any(change.key == each.encode() for change in changes):
                    self._note_if_dropped(before[each], self.daemon.store.settled(each), each)
                    self._note_if_empty(self.daemon.store.settled(each), each)

        self.daemon.store.settle = watched  # type: ignore[method-assign]

    def _note_if_dropped(self, before: Record | None, after: Record | None, each: str) -> None:
        """A claim that was hidden went with its node, so that another may be granted once the list
        is empty.
        """
        if before is None or before.unreported is None or before.leader is None or after is None:
            return
        # Within one commit the key may have been cleared and claimed anew.
        claimed_anew = after.unreported and after.leader and after.leader.created != before.leader.created
        if claimed_anew or before.leader.addr not in [node.addr for node in after.nodes]:
            self.removals[each].add(CLASS[before.leader.addr])

    def _note_if_empty(self, record: Record | None, each: str) -> None:
        if record is None or not record.nodes:
            self.is_seeded[each] = False
        elif record.was_emptied and record.grant is None and not self.is_seeded[each]:
            # It was imported: there may be a cluster.
            self.is_seeded[each] = True


def _is_same(one: Grant, other: Grant) -> bool:
    """Whether it is one grant, which may have moved to another address of its node."""
    return (one.boot, one.at, CLASS[one.addr]) == (other.boot, other.at, CLASS[other.addr])


ApisTogether.TestCase.settings = settings(max_examples=200, stateful_step_count=40)


@pytest.fixture(autouse=True)
def forget_alarms(logged_errors: list[Any]) -> Iterator[None]:
    """Reports of one node after the other look like those of two clusters, which is an error in the
    log.
    """
    yield
    logged_errors[:] = [event for event in logged_errors if "two clusters under one ID" not in str(event["log_format"])]


test_apis_together = ApisTogether.TestCase
