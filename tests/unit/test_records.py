"""The transitions: who is granted, who is listed, and what a repeat changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from rqdisco.core.errors import TooManyNodes, Undecided
from rqdisco.core.records import Moment, Node, Record, RegistrationOutcome, with_grant_answered, with_new_owner
from rqdisco.core.transitions import is_newer, register, remove

WINDOW = 30_000
A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"


def fresh() -> Record:
    return Record(id="x", owner="h", version=1, created_at=1)


def post(record: Record, addr: str, at: int = 0, boot: int = 1, **known: str) -> RegistrationOutcome:
    return register(
        record, Node(addr=addr, **known), host=None, now=Moment(boot, at), retry_window_ms=WINDOW, max_nodes=5
    )


def listed(registration: RegistrationOutcome) -> list[str]:
    return [node.addr for node in registration.listed]


def test_the_first_node_is_granted_and_the_second_is_not() -> None:
    first = post(fresh(), A)
    second = post(first.record, B)
    assert (first.bootstrap, listed(first)) == ("granted", [A])
    assert (second.bootstrap, listed(second)) == (None, [A, B])


def test_a_grant_equals_its_answered_form_so_that_its_node_can_be_removed() -> None:
    record = post(fresh(), A).record
    assert record.grant is not None
    unanswered = replace(record, grant=replace(record.grant, pending=True))
    assert not is_newer(with_grant_answered(unanswered), unanswered, A)
    assert is_newer(post(unanswered, A, at=WINDOW).record, unanswered, A)


def test_a_node_can_be_removed_at_a_successor_before_the_takeover_is_durable() -> None:
    record = post(fresh(), A).record
    inherited = with_new_owner(record, "successor", version=2, lost=False)
    assert not is_newer(inherited, record, A)
    assert is_newer(post(inherited, A, at=0, boot=2).record, record, A)


def test_a_seed_that_asks_again_within_the_window_is_granted_again_whoever_registered_since() -> None:
    record = post(post(fresh(), A, at=0).record, B, at=1).record
    again = post(record, A, at=WINDOW - 1)
    assert (again.bootstrap, listed(again), again.record) == ("again", [A], record)


def test_after_the_window_a_seed_gets_the_whole_list() -> None:
    record = post(post(fresh(), A).record, B).record
    late = post(record, A, at=WINDOW)
    assert (late.bootstrap, listed(late)) == (None, [A, B])


def test_the_window_runs_from_the_grant_and_a_repeat_does_not_extend_it() -> None:
    record = post(post(fresh(), A).record, B).record
    record = post(record, A, at=WINDOW - 1).record
    assert post(record, A, at=WINDOW).bootstrap is None


def test_nobody_is_granted_twice_without_a_window() -> None:
    record = post(post(fresh(), A).record, B).record
    outcome = register(record, Node(addr=A), host=None, now=Moment(1, 0), retry_window_ms=0, max_nodes=5)
    assert (outcome.bootstrap, listed(outcome)) == (None, [A, B])


def test_a_window_of_an_earlier_boot_or_from_the_future_is_closed() -> None:
    record = post(post(fresh(), A, at=1000).record, B).record
    assert post(record, A, at=1001, boot=2).bootstrap is None
    assert post(record, A, at=999).bootstrap is None


def test_a_lone_node_that_asks_after_the_window_is_granted_anew() -> None:
    record = post(fresh(), A).record
    later = post(record, A, at=WINDOW)
    assert (later.bootstrap, listed(later)) == ("granted", [A])
    joined = post(later.record, B, at=WINDOW + 1).record
    assert post(joined, A, at=WINDOW + 2).bootstrap == "again"


def test_removing_a_node_removes_its_grant() -> None:
    record = remove(post(post(fresh(), A).record, B).record, A)
    assert listed(post(record, A, at=1)) == [B, A]


def test_removing_the_last_node_lets_the_next_one_bootstrap_and_leaves_a_trace() -> None:
    empty = remove(post(fresh(), A).record, A)
    assert (empty.nodes, empty.grant, empty.was_emptied) == ((), None, True)
    assert post(empty, B).bootstrap == "granted"


def test_removing_an_unlisted_node_changes_nothing() -> None:
    record = post(fresh(), A).record
    assert remove(record, B) is record


@pytest.mark.parametrize(("stored", "asked"), [(A, A), (A, f"http://{A}"), (f"http://{A}", f"http://{A}")])
def test_a_node_is_removed_by_its_address_with_or_without_http(stored: str, asked: str) -> None:
    assert remove(post(fresh(), stored).record, asked).nodes == ()


def test_the_plain_address_does_not_remove_the_one_with_http() -> None:
    record = post(fresh(), f"http://{A}").record
    assert remove(record, A) is record


@pytest.mark.parametrize(("first", "second"), [(A, f"http://{A}"), (f"http://{A}", A)])
def test_an_address_with_and_without_http_is_one_node_as_rqlited_compares_it(first: str, second: str) -> None:
    record = post(post(fresh(), first).record, B).record
    again = post(record, second, at=5)
    assert (again.bootstrap, listed(again)) == ("again", [second])
    assert listed(post(again.record, C)) == [second, B, C]


def test_a_known_node_id_with_a_new_address_replaces_its_entry_in_place_grant_included() -> None:
    record = post(post(fresh(), A, node_id="n1").record, B, node_id="n2").record
    moved = post(record, C, at=WINDOW, node_id="n1")
    assert (moved.bootstrap, listed(moved)) == (None, [C, B])
    assert record.grant is not None
    assert moved.record.grant == replace(record.grant, addr=C)


def test_a_second_address_of_the_granted_node_is_refused_within_the_window() -> None:
    record = post(post(fresh(), A, node_id="n1").record, B, node_id="n2").record
    with pytest.raises(Undecided, match="told to bootstrap under another address"):
        post(record, C, at=WINDOW - 1, node_id="n1")
    assert post(record, f"http://{A}", at=5, node_id="n1").bootstrap == "again", "rqlite treats that as one address"


def test_a_node_that_moves_onto_another_entry_replaces_both() -> None:
    record = post(post(post(fresh(), A, node_id="n1").record, B).record, C).record
    moved = post(record, C, at=WINDOW, node_id="n1")
    assert listed(moved) == [C, B]


def test_a_node_that_replaces_the_only_other_one_is_alone() -> None:
    record = post(post(fresh(), A, node_id="n1").record, B).record
    assert post(record, B, at=WINDOW, node_id="n1").bootstrap == "granted"


def test_details_of_a_node_are_kept_unless_they_are_sent_anew() -> None:
    record = post(fresh(), A, raft_addr="10.0.0.1:4002", node_id="n1").record
    assert post(record, A).record is record
    (node,) = post(record, A, raft_addr="10.0.0.1:9").record.nodes
    assert (node.raft_addr, node.node_id) == ("10.0.0.1:9", "n1")


def test_the_raft_address_of_an_old_address_is_not_kept_for_a_new_one() -> None:
    record = post(fresh(), A, raft_addr="10.0.0.1:4002", node_id="n1").record
    assert post(record, B, at=WINDOW, node_id="n1").record.nodes == (Node(addr=B, node_id="n1"),)


def test_one_node_too_many_is_refused_and_listed_ones_may_still_ask() -> None:
    record = fresh()
    for number in range(5):
        record = post(record, f"n{number}:1").record
    with pytest.raises(TooManyNodes, match="too many nodes for x"):
        post(record, "n5:1")
    assert post(record, "n3:1").record is record


ADDRESSES = st.sampled_from(["a:1", "b:1", "c:1", "http://a:1", "http://b:1", "https://a:1"])
NODE_IDS = st.sampled_from([None, "n1", "n2"])


class NaiveModel(RuleBasedStateMachine):
    """Applies the same calls to the transitions and to lists that are changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.record = fresh()
        self.now = 0
        self.addrs: list[str] = []
        self.ids: dict[str, str] = {}
        self.granted: tuple[str, int] | None = None

    @rule(milliseconds=st.integers(0, 20_000))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(addr=ADDRESSES, node_id=NODE_IDS)
    def a_node_registers(self, addr: str, node_id: str | None) -> None:
        node, now = Node(addr=addr, node_id=node_id), Moment(1, self.now)
        own = [a for a in self.addrs if self._bare(a) == self._bare(addr) or (node_id and self.ids.get(a) == node_id)]
        granted = self.granted[0] if self.granted and self.now - self.granted[1] < WINDOW else None
        if granted in own and self._bare(granted) != self._bare(addr):
            with pytest.raises(Undecided):
                register(self.record, node, host=None, now=now, retry_window_ms=WINDOW, max_nodes=99)
            return
        outcome = register(self.record, node, host=None, now=now, retry_window_ms=WINDOW, max_nodes=99)
        if own:
            place = self.addrs.index(own[0])
            stored_id = next((self.ids[a] for a in own if self._bare(a) == self._bare(addr) and a in self.ids), None)
            self.addrs[place] = addr
            self.addrs = [a for i, a in enumerate(self.addrs) if i == place or a not in own]
            if self.granted and self.granted[0] in own:
                self.granted = (addr, self.granted[1])
            for old in own:
                self.ids.pop(old, None)
            node_id = node_id or stored_id
        else:
            self.addrs.append(addr)
        if node_id:
            self.ids[addr] = node_id
        if self.granted and self.granted[0] == addr and self.now - self.granted[1] < WINDOW:
            expected, bootstrap = [addr], "again"
        elif self.addrs == [addr]:
            expected, bootstrap = [addr], "granted"
            self.granted = (addr, self.now)
        else:
            expected, bootstrap = self.addrs, None
        assert ([node.addr for node in outcome.listed], outcome.bootstrap) == (expected, bootstrap)
        assert addr in expected
        self.record = outcome.record

    @rule(addr=ADDRESSES)
    def a_node_is_removed(self, addr: str) -> None:
        self.record = remove(self.record, addr)
        gone = addr if addr in self.addrs else addr.removeprefix("http://")
        if gone in self.addrs:
            self.addrs.remove(gone)
            self.ids.pop(gone, None)
            if self.granted and self.granted[0] == gone:
                self.granted = None

    @invariant()
    def the_record_agrees(self) -> None:
        assert [node.addr for node in self.record.nodes] == self.addrs
        assert {node.addr: node.node_id for node in self.record.nodes if node.node_id} == self.ids
        bare = [self._bare(addr) for addr in self.addrs]
        assert len(bare) == len(set(bare))

    @staticmethod
    def _bare(addr: str) -> str:
        return addr.removeprefix("http://")


TestNaiveModel = NaiveModel.TestCase


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 29_999)), min_size=2, max_size=30))
def test_only_one_address_is_ever_granted_within_one_window(posts: list[tuple[str, int]]) -> None:
    record, granted = fresh(), set()
    for addr, at in sorted(posts, key=lambda item: item[1]):
        outcome = post(record, addr.removeprefix("http://"), at=at)
        record = outcome.record
        if outcome.bootstrap:
            granted.add(outcome.listed[0].addr)
    assert len(granted) == 1
