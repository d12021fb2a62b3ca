"""Both APIs, imports, cancellations, full and failing disks and restarts, in any order: P1, P2 and
what may be shown.

The invariants are stated in terms of answers and of what the disk has, without a second copy of the
transitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from twisted.internet.defer import Deferred, maybeDeferred

from rqdisco.core.exports import ExportedLeaderKey
from rqdisco.core.records import Node
from rqdisco.core.views import View
from tests.support.checked_calls import CLASS, NODES, A, B, C, CheckedCalls
from tests.support.daemon import result, transferred

HOSTS = st.sampled_from([None, "10.0.0.1", "10.0.0.2"])
# Most of what happens concerns the ID that nobody created.
IDS = st.sampled_from([0, 0, 0, 1])


class ApisTogether(CheckedCalls):
    """Calls a daemon in any order, and checks everything that is shown."""

    # Requests.

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
        key = ExportedLeaderKey(value=f'{{"addr":"{B.addr}"}}') if lead else None
        brought = transferred(self.ids[which], *nodes, owner="0" * 16, leader=key)
        self._call(which, None, lambda _: self.daemon.directory.adopt(brought, as_own=own), self._adopted)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.calls)).running.cancel()

    # Events.

    @rule(seconds=st.sampled_from([1, 20, 31]))
    def wait(self, seconds: int) -> None:
        self.daemon.clock.advance(seconds)

    @precondition(lambda self: self.daemon.threads.held)
    @rule()
    def release_one(self) -> None:
        self.daemon.threads.release()

    @precondition(lambda self: self.daemon.threads.held)
    @rule()
    def write_without_an_answer(self) -> None:
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
        self._crash(power_cut=power_cut, seed=seed)

    @precondition(lambda self: not self.daemon.failures)
    @rule()
    def all_is_well(self) -> None:
        """Every call is answered then, and a node that waits for another waits for one that leads
        or will (P1: never none).
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

    # Invariants of whatever is shown.

    @invariant()
    def shown_is_answered_and_durable(self) -> None:
        for each in self.ids:
            record = self._shown(each)
            if record is None:
                continue
            shown: View = result(Deferred.fromCoroutine(self.daemon.directory.look_up(each)))
            settled = self.daemon.store.settled(each)
            assert settled is not None
            assert shown.version == record.version <= settled.version
            if record.grant is not None:
                # An answer that is repeated stays valid, although its client hung up: nobody else
                # is granted because of it.
                is_again = record.unreported is not None and record.unreported.times > 1
                is_of_seed = is_again and CLASS[record.grant.addr] == self.seed[each]
                assert is_of_seed or self._is_known(each, record.grant), "nobody got the answer"
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


ApisTogether.TestCase.settings = settings(max_examples=200, stateful_step_count=40)


@pytest.fixture(autouse=True)
def forget_alarms(logged_errors: list[Any]) -> Iterator[None]:
    """Reports of one node after the other look like those of two clusters, which is an error in the
    log.
    """
    yield
    logged_errors[:] = [event for event in logged_errors if "two clusters under one ID" not in str(event["log_format"])]


test_apis_together = ApisTogether.TestCase
